"""`openai-auth` import, list, remove, switch, order, rename, enable, disable: the accounts and their order.

The rule: no command loses a login except `remove`, and each says how to undo what it did, if that can be done.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from accounts import account_views, importer, pacing
from accounts.account_records import resolve
from accounts.console import (
    Id,
    Json,
    coloured,
    command,
    note,
    open_store,
    print_json,
    print_table,
    say,
    settings_file,
)
from accounts.killswitch_rules import keep_threshold
from accounts.models import Account
from accounts.sign_in import API_KEY_NOTE, described, take_over

COLOURS = {"ok": "green", "limited": "yellow", "login_required": "red", "disabled": "dim"}


@command("import", "openai-auth import ~/.codex/auth.json --label work")
async def import_(
    path: Annotated[
        Path, typer.Argument(help="auth.json of the Codex CLI or of OpenCode, or openai-auth.json")
    ],
    label: Annotated[str | None, typer.Option(help="What to call the account.")] = None,
) -> None:
    """Take over logins from another program.

    The first account becomes main, later ones are fallbacks. An account that is there already gets the login
    of the file, unless its own is newer.
    """
    skipped: list[str] = []
    logins = importer.read_logins(path, skipped)
    for reason in skipped:
        note(f"warning: {reason}")
    if label is not None and len(logins) > 1:
        raise typer.BadParameter(
            f"the file holds {len(logins)} logins; import it without --label, then rename"
        )
    async with open_store() as store:
        before = await store.accounts()
        for login in logins:
            outcome = await take_over(store, login, label)
            if label:
                keep_threshold(before, outcome.account, settings_file().current)
            say(outcome.text)
            if outcome.warning:
                note(f"warning: {outcome.warning}")
    if any(login.refresh for login in logins):
        note(f"warning: {importer.SHARED_WARNING}")
    if any(login.type == "api_key" for login in logins):
        note(API_KEY_NOTE)


@command("list", "openai-auth list", "openai-auth list --json | jq -r '.[].email'")
async def list_(as_json: Json = False) -> None:
    """Show the accounts in the order in which they are used."""
    now = time.time()
    async with open_store() as store:
        accounts = await store.accounts()
        rows = account_views.account_rows(accounts, await store.quotas(), await store.marks(), now)
    if as_json:
        print_json(rows)
        return
    if not rows:
        note("There is no account yet. Add one with `openai-auth login`, or `openai-auth import PATH`.")
        return
    print_table(
        ("ACCOUNT", "ROLE", "PLAN", "E-MAIL", "STATE", "LOGIN", "ID"),
        (
            (
                escape(account.name),
                account.role,
                escape(account.plan or "–"),
                escape(account.email or "–"),
                coloured(row["state"], COLOURS) + _until(account, row["state"], row["limited_until"]),
                _login(account, now),
                account.id,
            )
            for account, row in zip(accounts, rows, strict=True)
        ),
    )


@command("remove", "openai-auth remove work")
async def remove(id: Id) -> None:
    """Delete an account and its login from this machine."""
    async with open_store() as store:
        gone, promoted = await store.remove(id)
    say(f"Removed {described(gone)}.")
    if promoted:
        say(f"{promoted.name} is main now.")


@command("switch", "openai-auth switch work")
async def switch(id: Id) -> None:
    """Make an account main; it changes places with the present one."""
    async with open_store() as store:
        before = (await store.accounts())[:1]
        account = await store.switch(id)
    if before and before[0].id == account.id:
        say(f"{account.name} is main already.")
    else:
        undo = shlex.quote(before[0].label or before[0].id)
        say(f"{account.name} is main now. Undo: openai-auth switch {undo}")


@command("order", "openai-auth order work home")
async def order(a: Id, b: Id) -> None:
    """Let two accounts change places."""
    async with open_store() as store:
        accounts = await store.order(a, b)
    say("Order: " + ", ".join(account.name for account in accounts))


@command("rename", "openai-auth rename main work")
async def rename(id: Id, name: Annotated[str, typer.Argument(help="The new label.")]) -> None:
    """Give an account another label."""
    async with open_store() as store:
        before = await store.accounts()
        account = await store.rename(resolve(before, id).id, name)
    keep_threshold(before, account, settings_file().current)
    say(f"Renamed: {described(account)}.")


@command("enable", "openai-auth enable work")
async def enable(id: Id) -> None:
    """Let requests use an account again."""
    await _enable(id, True)


@command("disable", "openai-auth disable work")
async def disable(id: Id) -> None:
    """Keep requests off an account without losing its login."""
    await _enable(id, False)


async def _enable(id: str, enabled: bool) -> None:
    async with open_store() as store:
        account = await store.enable(id, enabled)
    say(f"{account.name} is {'enabled' if enabled else 'disabled'}.")


def _until(account: Account, state: str, limited_until: str | None) -> str:
    if state == "login_required":
        return f" ({escape(account_views.login_command(account))})"
    return f" until {limited_until}" if limited_until and state == "limited" else ""


def _login(account: Account, now: float) -> str:
    """How long the access token lasts; it renews itself."""
    if account.type == "api_key":
        return "API key"
    if account.expires_at is None:
        return "–"
    return f"{pacing.countdown(account.expires_at - now)} left" if account.expires_at > now else "expired"
