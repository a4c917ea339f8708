"""`openai-auth quota`: what each account has used of its windows, and when they begin again."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.markup import escape

from accounts import account_views, pacing
from accounts.console import Json, command, note, open_store, print_json, print_table
from accounts.models import DEFAULT_LIMIT, Account, Quota, Window


@command("quota", "openai-auth quota", "openai-auth quota --no-poll --json")
async def quota(
    as_json: Json = False,
    no_poll: Annotated[
        bool, typer.Option("--no-poll", help="Only what is known; ask the backend nothing.")
    ] = False,
) -> None:
    """Show used quota and the time to the next reset, for every account."""
    now = time.time()
    async with open_store() as store:
        accounts, quotas, marks = await store.accounts(), await store.quotas(), await store.marks()
    if as_json:
        print_json(account_views.quota_rows(accounts, quotas, marks, now))
        return
    if not accounts:
        note("There is no account yet. Add one with `openai-auth login`, or `openai-auth import PATH`.")
        return
    print_table(
        ("ACCOUNT", "PLAN", "WINDOW", "USED", "", "RESETS IN", "SEEN"),
        (row for account in accounts for row in _rows(account, quotas.get(account.id), now)),
    )


def _rows(account: Account, quota: Quota | None, now: float) -> list[tuple[str, ...]]:
    plan = (quota.plan if quota else None) or account.plan or "–"
    name = (escape(account.name), escape(plan))
    if quota is None or not quota.windows:
        return [(*name, "–", "unknown", "", "", "not seen yet")]
    return [
        (*(name if first else ("", "")), *_window(window, now))
        for first, window in zip([True] + [False] * len(quota.windows), quota.windows, strict=False)
    ]


def _window(window: Window, now: float) -> tuple[str, ...]:
    over = window.resets_at is not None and window.resets_at <= now
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
        _ago(now - window.seen_at),
    )


def _ago(seconds: float) -> str:
    return "just now" if seconds < 60 else f"{pacing.countdown(seconds)} ago"
