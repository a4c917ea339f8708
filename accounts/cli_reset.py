"""`openai-auth reset`: spend a reset credit, which clears a used-up limit before its time.

The rule: what is spent is what was shown. The confirmation is bound to the ChatGPT account it was given for,
and a request whose outcome is not certain is repeated, never followed by another one.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from rich.markup import escape

from accounts import reset_views
from accounts.console import (
    Json,
    command,
    fail,
    note,
    open_store,
    print_json,
    print_table,
    say,
    settings_file,
)
from accounts.models import Account, AccountsError, Mark
from accounts.online import Online, connect, keep
from accounts.quota import active_mark
from accounts.reset_credits import Eligibility
from accounts.store import Store


@command("reset", "openai-auth reset", "openai-auth reset work", "openai-auth reset work --yes")
async def reset(
    account: Annotated[
        str | None, typer.Argument(metavar="[ACCOUNT]", help="Whose credit to spend. Default: list them all.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """List what reset credits there are, or spend one to clear an account's used-up limit.

    Spending cannot be undone. If the outcome is not certain (the network broke), run it again: the same
    request is repeated, and the backend never spends twice for it.
    """
    async with open_store() as store, connect(store, settings_file().current) as online:
        if account is None:
            await _list(store, online, as_json)
        else:
            await _spend(store, online, await store.account(account), yes)


async def _list(store: Store, online: Online, as_json: bool) -> None:
    marks = await _active_marks(store)
    accounts = [each for each in await store.accounts() if each.type == "oauth"]

    async def ask(each: Account) -> Eligibility | AccountsError:
        try:
            return await online.resets.eligibility(each, marks.get(each.id))
        except AccountsError as error:
            return error

    answers = list(zip(accounts, await asyncio.gather(*map(ask, accounts)), strict=True))
    for each, answer in answers:
        if isinstance(answer, Eligibility):
            await keep(store, each, answer.quota)
    if as_json:
        print_json(
            [
                reset_views.row(answer)
                if isinstance(answer, Eligibility)
                else {"id": each.id, "label": each.label, "account_id": each.account_id, "error": str(answer)}
                for each, answer in answers
            ]
        )
        return
    if not accounts:
        note("There is no subscription yet. Add one with `openai-auth login`, or `openai-auth import PATH`.")
        return
    now = time.time()
    rows = []
    for each, answer in answers:
        record = await online.records.load(each.account_id or "")
        credits, text = ("–", str(answer))
        if isinstance(answer, Eligibility):
            credits, text = reset_views.line(answer, now)
        if record is not None and record.attempt is not None:
            text = "an earlier reset has no certain outcome; name the account to repeat it"
        rows.append((escape(each.name), credits, escape(text)))
    print_table(("ACCOUNT", "CREDITS", "CAN BE RESET"), rows)


async def _active_marks(store: Store) -> dict[str, Mark]:
    """By account id, for those whose own limit is used up by a refusal's word."""
    marks, quotas, now = await store.marks(), await store.quotas(), time.time()
    found = {
        each.id: active_mark(marks, each.id, quotas.get(each.id), now) for each in await store.accounts()
    }
    return {id: mark for id, mark in found.items() if mark}


async def _spend(store: Store, online: Online, account: Account, yes: bool) -> None:
    if account.type == "api_key":
        fail(f"{account.name} is an API key; only ChatGPT subscriptions have reset credits")
    mark = (await _active_marks(store)).get(account.id)
    record = await online.records.load(account.account_id or "")
    attempt = record.attempt if record else None
    now = time.time()
    if attempt is not None:
        confirmed = account.account_id
        note(reset_views.repetition(account, attempt, now))
    else:
        found = await online.resets.eligibility(account, mark)
        await keep(store, account, found.quota)
        if found.credit is None or found.obstacle is not None:
            fail(f"{account.name}: {found.obstacle}")
        confirmed = found.account_id
        note(reset_views.offer(found, now))
    if not yes and not typer.confirm("Go on?", err=True):
        fail("nothing was spent")
    again = attempt is not None and reset_views.is_old(attempt, time.time())
    done = await online.resets.redeem(account, confirmed or "", mark=mark, retry=again)
    if done.quota is not None:
        await keep(store, account, done.quota)
    if done.outcome.code.spent:
        await store.clear_mark(account.id)
    say(reset_views.told(account, done))
