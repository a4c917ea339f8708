"""The quota table as people see it, in a terminal and in mitmproxy: one line a window, and what went wrong.

The one idea: a `QuotaView` is everything that is known at one moment; `table` draws it and knows nothing of
where it came from. The rule: a number is never shown without its source and age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table

from accounts import account_views, pacing
from accounts.models import DEFAULT_LIMIT, Account, Marks, Quota, Window
from accounts.quota import holds, past_reset

HEADINGS = ("ACCOUNT", "PLAN", "WINDOW", "USED", "", "RESETS IN", "SEEN", "PACE AND NOTES")
NOTHING: tuple[str, ...] = ("–", "unknown", "", "", "not seen yet", "")


@dataclass(frozen=True, slots=True)
class QuotaView:
    """What is known now; `errors` says by account id why its numbers could not be renewed."""

    accounts: Sequence[Account]
    quotas: Mapping[str, Quota]
    marks: Marks
    errors: Mapping[str, str] = field(default_factory=dict)


def table(view: QuotaView, now: float) -> Table:
    """The table, with rich's markup in its cells."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        found.add_column(heading, overflow="fold")
    for account in view.accounts:
        for row in _rows(view, account, now):
            found.add_row(*row)
    return found


def _rows(view: QuotaView, account: Account, now: float) -> list[tuple[str, ...]]:
    known = view.quotas.get(account.id)
    name = (escape(account.name), escape((known.plan if known else None) or account.plan or "–"))
    windows = [_window(each, now) for each in (known.windows if known else ())]
    if account.type == "api_key":
        windows = [("–", "no limit", "", "", "", "paid by the token")]
    rows = [
        (*(name if first else ("", "")), *cells)
        for first, cells in zip([True] + [False] * len(windows), windows or [NOTHING], strict=False)
    ]
    return rows + [(*[""] * 7, text) for text in _remarks(view, account, known, now)]


def _remarks(view: QuotaView, account: Account, known: Quota | None, now: float) -> list[str]:
    """The lines under an account: credits, a mark, what went wrong."""
    found: list[str] = []
    if not account.enabled:
        found.append("[dim]disabled[/]")
    if known is not None and known.reset_credits:
        applicable = known.reset_credits_applicable
        usable = "" if applicable is None else f", {applicable} usable now"
        plural = "" if known.reset_credits == 1 else "s"
        found.append(f"{known.reset_credits} reset credit{plural}{usable}")
    if known is not None and known.credits and known.credits.has_credits:
        balance = "unlimited" if known.credits.unlimited else known.credits.balance or "some"
        found.append(f"credits: {escape(balance)}")
    for (id, limit), mark in view.marks.items():
        if id == account.id and holds(mark, known, now):
            what = "limited" if limit == DEFAULT_LIMIT else f"{limit} limited"
            left = pacing.countdown(mark.until - now)
            found.append(f"[yellow]{escape(what)}: {escape(mark.reason)}, {left} left[/]")
    if why := view.errors.get(account.id) or account.login_error:
        found.append(f"[red]{escape(why)}[/]")
    return found


def _window(window: Window, now: float) -> tuple[str, ...]:
    over = past_reset(window, now)
    used = 0.0 if over else window.used_percent
    pace = None if over else pacing.pace(window, now)
    colour = "green" if used < 50 else "yellow" if used < 80 else "red"
    limit = "" if window.limit_id == DEFAULT_LIMIT else f" {window.limit_name or window.limit_id}"
    resets = "–" if window.resets_at is None else "now" if over else pacing.countdown(window.resets_at - now)
    return (
        pacing.label(window.minutes) + escape(limit),
        f"[{colour}]{used:.0f}%[/]",
        f"[{colour}]{pacing.bar(used, pace_percent=pace.percent if pace else None)}[/]",
        resets,
        f"{_ago(now - window.seen_at)} ({window.source})",
        "used up" if used >= 100 else _pace(pace, now),
    )


def _pace(pace: pacing.Pace | None, now: float) -> str:
    """`8% reserve`, `12% deficit, runs out in 1h3m`; nothing while nothing sensible can be said."""
    if pace is None:
        return ""
    text = "on pace" if pace.state == "on-pace" else f"{abs(pace.delta):.0f}% {pace.state}"
    if pace.runs_out_at is None:
        return f"{text}, lasts until the reset"
    return f"{text}, runs out in {pacing.countdown(pace.runs_out_at - now)}"


def _ago(seconds: float) -> str:
    return "just now" if seconds < 60 else f"{pacing.countdown(seconds)} ago"


def rows(view: QuotaView, now: float) -> list[dict[str, object]]:
    """The same as `quota --json`."""
    return account_views.quota_rows(list(view.accounts), view.quotas, view.marks, now, view.errors)
