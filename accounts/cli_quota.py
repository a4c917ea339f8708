"""`openai-auth quota`: what each account has used of its windows, and when they begin again.

The one idea: every account is asked at once, those too that never serve; an account that cannot be asked says
why in its own line, and shows what was known before. The rule: `--no-poll` sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from accounts import quota_table
from accounts.console import Json, command, note, open_store, print_json, settings_file, terminal
from accounts.models import Account
from accounts.online import connect
from accounts.quota_table import QuotaView
from accounts.settings import Settings
from accounts.store import Store
from accounts.usage import Polled, Poller

WATCH_SECONDS = 1.0
"""Between two looks of `--watch` at the store."""


@command("quota", "openai-auth quota", "openai-auth quota --watch", "openai-auth quota --no-poll --json")
async def quota(
    as_json: Json = False,
    no_poll: Annotated[
        bool, typer.Option("--no-poll", help="Only what is known; ask the backend nothing.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the table live until Ctrl-C.")] = False,
) -> None:
    """Ask the backend what every account has left, and show it with the time to the next reset.

    PACE compares the use of a window with the time that has passed in it.
    """
    if watch and as_json:
        raise typer.BadParameter("--watch draws a table; leave out --json")
    async with open_store() as store:
        if not as_json and not await store.accounts():
            note("There is no account yet. Add one with `openai-auth login`, or `openai-auth import PATH`.")
        elif watch:
            await _watch(store, settings_file().current, polling=not no_poll)
        elif no_poll:
            _show(await view(store), as_json)
        else:
            async with connect(store, settings_file().current) as online:
                errors = await poll(online.poller, await store.accounts())
            _show(await view(store, errors), as_json)


async def view(store: Store, errors: dict[str, str] | None = None) -> QuotaView:
    """What the store knows now."""
    return QuotaView(await store.accounts(), await store.quotas(), await store.marks(), errors or {})


async def poll(poller: Poller, accounts: list[Account]) -> dict[str, str]:
    """Asks for all accounts side by side, with a progress display; returns what went wrong by account id."""
    asked = [account for account in accounts if account.type == "oauth"]
    with Progress(
        TextColumn("asking the backend"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("", total=len(asked))

        def answered(result: Polled) -> None:
            said = "failed" if result.error else "done"
            progress.update(task, advance=1, description=f"{result.account.name}: {said}")

        results = await poller.poll(asked, on_result=answered)
    return failures(results)


def failures(results: list[Polled]) -> dict[str, str]:
    """Why, by account id, for the accounts whose numbers could not be renewed."""
    return {result.account.id: str(result.error) for result in results if result.error is not None}


async def _watch(store: Store, settings: Settings, *, polling: bool) -> None:
    async with connect(store, settings) as online:
        with (
            contextlib.suppress(asyncio.CancelledError),
            Live(console=terminal(), auto_refresh=False) as live,
        ):
            await watch_quota(
                store,
                online.poller if polling else None,
                lambda shown: live.update(quota_table.table(shown, time.time()), refresh=True),
                interval=settings.quota.check_interval_minutes * 60,
            )


async def watch_quota(
    store: Store,
    poller: Poller | None,
    show: Callable[[QuotaView], None],
    *,
    interval: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Shows the view again and again until cancelled.

    The numbers that other processes bring appear as they come; accounts not seen for `interval` seconds are
    asked for, all at the start.
    """
    errors: dict[str, str] = {}
    first = True
    while True:
        shown = await view(store, errors)
        show(shown)
        if poller is not None:
            due = shown.accounts
            if not first:
                due = await poller.due(shown.accounts, shown.quotas, interval=interval)
            if results := await poller.poll(due):
                for result in results:
                    errors.pop(result.account.id, None)
                errors |= failures(results)
                show(await view(store, errors))
            first = False
        await sleep(WATCH_SECONDS)


def _show(shown: QuotaView, as_json: bool) -> None:
    now = time.time()
    if as_json:
        print_json(quota_table.rows(shown, now))
    else:
        terminal().print(quota_table.table(shown, now))
