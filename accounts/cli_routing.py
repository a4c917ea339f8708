"""`openai-auth` routing and explain: which account is asked first, and why.

The rule: `explain` shows the decision a running proxy would take now, by the same function on the same store.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.markup import escape

from accounts import conversations, explanation, pacing, paths, routing
from accounts.account_views import iso
from accounts.console import (
    Json,
    command,
    note,
    open_store,
    print_json,
    print_table,
    say,
    settings_after_writing,
    settings_file,
)
from accounts.models import Account
from accounts.placement import Pin, holds
from accounts.routing import Mode, Policy
from accounts.setting_types import MODES
from accounts.settings_file import write_settings

RESET = "reset"


@command(
    "routing",
    "openai-auth routing",
    "openai-auth routing sticky-balanced",
    "openai-auth routing reset",
    "openai-auth routing reset 1f6c09ab",
)
async def routing_(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODE | reset [SESSION]]",
            help=f"{', '.join(MODES)}; or reset: forget which account serves a conversation, or all of them.",
            autocompletion=lambda: [*MODES, RESET],
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or set the order in which accounts are asked, and which conversation is where."""
    if what and as_json:
        raise typer.BadParameter("--json shows how things are; it goes with no other words")
    match what or []:
        case []:
            await _show(as_json)
        case [mode] if mode in MODES:
            write_settings(paths.settings_file(), {"routing.mode": mode})
            _report(mode)
        case ["reset", *names] if len(names) < 2:
            async with open_store() as store:
                session = await conversations.find(store, names[0]) if names else None
                count = await store.unpin(session)
            say(
                f"Forgot {count} conversation{'' if count == 1 else 's'}; the next request of each is placed anew."
            )
        case _:
            raise typer.BadParameter(f"give one of {', '.join(MODES)}, or `reset` and a session")


@command(
    "explain", "openai-auth explain", "openai-auth explain 1f6c09ab", "openai-auth explain --model gpt-5.5"
)
async def explain(
    session: Annotated[
        str | None, typer.Argument(help="A conversation; see `openai-auth routing`. Default: a new one.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Some models have a limit of their own. Default: the conversation's last."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say who would serve a request now: the order and why, and for every other account why not.

    Requests that run in the proxy at this moment are not counted; `codex.explain` in mitmproxy does.
    """
    policy, now = Policy.from_settings(settings_file().current), time.time()
    async with open_store() as store:
        key = None if session is None else await conversations.find(store, session)
        pins = await store.pins()
        decision = routing.decide(
            policy,
            await store.accounts(),
            await store.quotas(),
            await store.marks(),
            pins,
            explanation.request(key, model, pins),
            now,
        )
    if as_json:
        print_json({"mode": str(policy.mode)} | explanation.row(decision))
        return
    say(explanation.mode_line(policy.mode))
    if not decision.candidates and not decision.skipped:
        note("There is no account yet. Add one with `openai-auth login`, or `openai-auth import PATH`.")
        return
    for line in explanation.lines(decision, now):
        say(line)


async def _show(as_json: bool) -> None:
    settings, now = settings_file().current, time.time()
    mode = Mode(settings.routing.mode)
    async with open_store() as store:
        accounts = {account.id: account for account in await store.accounts()}
        pins = {
            session: pin
            for session, pin in (await store.pins()).items()
            if pin.account in accounts and holds(pin, accounts[pin.account], now)
        }
        threads = await conversations.thread_ids(store, list(pins))
    found = sorted(pins.items(), key=lambda item: -item[1].last_seen_at)
    if as_json:
        print_json(
            {
                "mode": str(mode),
                "keep_conversation": settings.keep_conversation,
                "conversations": [
                    _row(session, pin, accounts[pin.account], threads.get(session)) for session, pin in found
                ],
            }
        )
        return
    say(explanation.mode_line(mode))
    if mode is not Mode.STICKY_BALANCED:
        kept = (
            "stays on its account while its prompt cache is warm"
            if settings.keep_conversation
            else "may move"
        )
        say(f"A conversation {kept} (keepConversation).")
    if found:
        print_table(
            ("SESSION", "THREAD", "ACCOUNT", "BEGAN", "LAST REQUEST", "SIZE"),
            (
                (
                    session[: conversations.SHOWN],
                    threads.get(session, "–"),
                    escape(accounts[pin.account].name),
                    f"{pacing.countdown(now - pin.assigned_at)} ago",
                    f"{pacing.countdown(now - pin.last_seen_at)} ago",
                    f"{pin.input_bytes / 1024:.0f} KB",
                )
                for session, pin in found
            ),
        )


def _row(session: str, pin: Pin, account: Account, thread: str | None) -> dict[str, object]:
    """One conversation of `routing --json`."""
    return {
        "session": session,
        "thread_id": thread,
        "id": account.id,
        "account": account.name,
        "assigned_at": iso(pin.assigned_at),
        "last_seen_at": iso(pin.last_seen_at),
        "input_bytes": pin.input_bytes,
    }


def _report(mode: str) -> None:
    """What holds now, which is not what was written if something stronger says otherwise."""
    settings = settings_after_writing()
    if settings is None:
        return
    now, origin = settings.loaded.value_and_origin("routing.mode")
    if now == mode:
        say(explanation.mode_line(Mode(mode)))
    else:
        say(f"{mode} is written, but {origin.name} decides: {now}")
