"""The page that the browser shows at the end of a login: what happened, for whom, and what to do now.

The one idea: one self-contained page (style inside, no script, nothing fetched), so that it looks the same
offline, in light and dark, and its content security policy can forbid everything else.

The rule that must not be broken: every text goes through `html.escape`; parts of it come from the address
bar.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from html import escape

from accounts.claims import Claims


class Tone(StrEnum):
    """Colour and sign of a page."""

    SUCCESS = "success"
    DENIED = "denied"
    ERROR = "error"


SIGNS = {
    Tone.SUCCESS: '<path d="M15 25l6 6 13-14"/>',
    Tone.DENIED: '<path d="M15 24h18"/>',
    Tone.ERROR: '<path d="M24 14v12M24 33v.5"/>',
}

STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --text: #1b1f24; --quiet: #59636e; --line:
#d8dee4; --success: #1a7f37; --denied: #9a6700; --error: #cf222e; } @media (prefers-color-scheme: dark) {
:root { --page: #0d1117; --card: #161b22; --text: #e6edf3; --quiet: #9198a1; --line: #30363d; --success:
#3fb950; --denied: #d29922; --error: #f85149; } } * { box-sizing: border-box; } body { margin: 0;
min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--page); color:
var(--text); font: 16px/1.55 system-ui, sans-serif; } main { width: 100%; max-width: 28rem; padding: 2.5rem
2rem; text-align: center; background: var(--card); border: 1px solid var(--line); border-radius: 14px; } svg
{ width: 56px; height: 56px; fill: none; stroke: currentColor; stroke-width: 3; stroke-linecap: round;
stroke-linejoin: round; } .success { color: var(--success); } .denied { color: var(--denied); } .error {
color: var(--error); } h1 { margin: .75rem 0 .5rem; font-size: 1.4rem; line-height: 1.3; } p { margin: .5rem
0 0; overflow-wrap: anywhere; } code { font-size: .9em; white-space: nowrap; } dl { display: grid;
grid-template-columns: auto 1fr; gap: .35rem 1rem; margin: 1.25rem 0; padding: .9rem 1.1rem; text-align:
left; border: 1px solid var(--line); border-radius: 10px; } dt, footer { color: var(--quiet); } dd { margin:
0; overflow-wrap: anywhere; } footer { margin-top: 1.75rem; font-size: .85rem; }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What goes with every page: nothing runs, loads, frames or caches it, or learns its address."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says, in plain text: `title`, one sentence a `line`, and name-value pairs in `facts`."""

    tone: Tone
    title: str
    lines: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    def html(self) -> str:
        facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in self.facts)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)} · openai-auth</title><style>{STYLE}</style></head><body><main>"
            f'<svg class="{self.tone}" viewBox="0 0 48 48" aria-hidden="true">'
            '<circle cx="24" cy="24" r="21"/>'
            f"{SIGNS[self.tone]}</svg><h1>{escape(self.title)}</h1>"
            + (f"<dl>{facts}</dl>" if facts else "")
            + "".join(f"<p>{_marked(line)}</p>" for line in self.lines)
            + "<footer>openai-auth-proxy</footer></main></body></html>\n"
        )


def logged_in(who: Claims) -> Page:
    """The tokens are there; `who` they belong to."""
    named = (("Account", who.email or who.account_id), ("Plan", who.plan))
    return Page(
        Tone.SUCCESS,
        "You are logged in",
        ("You can close this tab and go back to the program that asked for the login.",),
        tuple((name, value) for name, value in named if value),
    )


def denied(what: str) -> Page:
    """The person, or the workspace, said no."""
    return Page(Tone.DENIED, "You are not logged in", (_sentence(what), "You can close this tab."))


def cancelled(what: str) -> Page:
    """The login was ended on our side."""
    return Page(Tone.DENIED, "The login was cancelled", (_sentence(what), "You can close this tab."))


def failed(what: str) -> Page:
    """Something went wrong."""
    return Page(Tone.ERROR, "The login failed", (_sentence(what), "You can close this tab."))


def _marked(line: str) -> str:
    """The line as HTML, with what stands in back quotes as a command."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(line))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
