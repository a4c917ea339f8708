"""`openai-auth` login and logout: with the browser of this machine, with a code on any other, with an API key.

The one idea: what a person must see while a login waits goes to stderr, the outcome to stdout. The rule: no
browser opens before it is known that the store and the label will do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from accounts.big_text import large
from accounts.console import Id, command, note, open_store, say, settings_file
from accounts.killswitch_rules import keep_threshold
from accounts.login import LOGIN_TIMEOUT, browser_login, device_login
from accounts.models import Login
from accounts.oauth import DeviceCode, Grant, Issuer
from accounts.online import session, user_agent
from accounts.settings import Settings
from accounts.sign_in import API_KEY_NOTE, Outcome, api_key_login, check_label, sign_in, sign_out


@command(
    "login",
    "openai-auth login",
    "openai-auth login --label work --headless",
    "openai-auth login --api-key --label key < key.txt",
)
async def login(
    label: Annotated[str | None, typer.Option(help="What to call the account.")] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="No browser here: show a code to type on another machine.")
    ] = False,
    api_key: Annotated[
        bool, typer.Option("--api-key", help="Store an OpenAI API key; asked for, or read from a pipe.")
    ] = False,
) -> None:
    """Log in with ChatGPT, or store an API key.

    The first account is main, later ones are fallbacks. Logging in again with an account that is there
    renews its login. An API key is used when no subscription can serve, and costs money then; under the label of
    another one it takes its place.
    """
    if headless and api_key:
        raise typer.BadParameter("--headless and --api-key are two different logins")
    label = check_label(label)
    settings = settings_file().current
    async with open_store() as store:
        new = api_key_login(_read_key()) if api_key else await _chatgpt_login(settings, headless)
        before = await store.accounts()
        outcome = await sign_in(store, new, label)
        keep_threshold(before, outcome.account, settings)
        _tell(outcome)
    if api_key:
        note(API_KEY_NOTE)


@command("logout", "openai-auth logout work")
async def logout(id: Id) -> None:
    """Revoke a login at the issuer and remove the account from this machine."""
    settings = settings_file().current
    async with open_store() as store, session(settings) as http:
        issuer = Issuer(http, settings.issuer_url, user_agent=user_agent(settings))
        _tell(await sign_out(store, issuer, id))


async def _chatgpt_login(settings: Settings, headless: bool) -> Login:
    async with session(settings) as http:
        issuer = Issuer(
            http,
            settings.issuer_url,
            originator=settings.identity.originator,
            user_agent=user_agent(settings),
        )
        grant = await (_by_code(issuer) if headless else _by_browser(issuer))
    return grant.login()


async def _by_browser(issuer: Issuer) -> Grant:
    def show(url: str) -> None:
        note("Log in with your browser. If it does not open by itself, open this address on this machine:")
        note(f"\n  {url}\n")
        note("Without a browser on this machine, use `openai-auth login --headless`.")
        progress(f"Waiting for the browser, at most {LOGIN_TIMEOUT / 60:.0f} minutes …")

    with _progress() as progress:
        return await browser_login(issuer, on_url=show)


async def _by_code(issuer: Issuer) -> Grant:
    def show(device: DeviceCode) -> None:
        note("Open this address on any machine and type the code. Continue only if you started this login.")
        note(f"\n  {device.url}\n")
        letters = large(device.user_code) if sys.stderr.isatty() else None
        for line in letters or ():
            note(f"    {line}")
        note(f"{'' if letters is None else chr(10)}  Code: {device.user_code}\n")

    def left(seconds: float) -> None:
        minutes, rest = divmod(max(0, round(seconds)), 60)
        progress(f"Waiting for the code to be typed, {minutes}:{rest:02} left …")

    with _progress() as progress:
        return await device_login(issuer, on_code=show, on_progress=left)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that changes in place; on anything but a terminal its first text stays the only one."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        told: list[str] = []

        def once(text: str) -> None:
            if not told:
                told.append(text)
                note(text)

        yield once
        return
    status = Status("", console=console)

    def update(text: str) -> None:
        status.update(escape(text))
        status.start()

    try:
        yield update
    finally:
        status.stop()


def _read_key() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("API key", hide_input=True, err=True))
    return sys.stdin.readline()


def _tell(outcome: Outcome) -> None:
    say(outcome.text)
    if outcome.warning:
        note(f"warning: {outcome.warning}")
