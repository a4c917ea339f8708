"""Asking the backend what every account has left, on demand and in the background.

The one idea: answers bring quota of the accounts in use for nothing, so only idle accounts are asked, and
only by one of all the processes that share the store.

The rule that must not be broken: polling never harms. It backs off from an account that fails, in all processes,
one account's failure is a result and not an exception, and nothing is asked that was seen or asked a moment ago,
unless a window was reset since.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from accounts.models import Access, Account, AccountsError, PollHold, Quota
from accounts.quota import past_reset, seen_at, windows_for
from accounts.quota_sources import from_usage
from accounts.wham import BackendError, TokenSource, Wham, authorised

log = logging.getLogger(__name__)

PATH = "/wham/usage"
INTERVAL_SECONDS = 300.0
JITTER_SHARE = 0.1
FRESH_SHARE = 0.8
"""A snapshot younger than this share of the interval (four of five minutes) is not asked for again."""
AT_ONCE = 8

BACKOFF_FIRST_SECONDS = 60.0
BACKOFF_LONGEST_SECONDS = 900.0
BACKOFF_PERMANENT_SECONDS = 300.0

Clock = Callable[[], float]


async def fetch(wham: Wham, access: Access, *, now: float) -> Quota:
    """One usage answer as a snapshot of the account that the token belongs to. Raises BackendError."""
    return from_usage(await wham.call("GET", PATH, access, now=now), now=now, account_id=access.account_id)


def backoff_seconds(error: AccountsError, failures: int) -> float | None:
    """How long to leave an account alone after its n-th failure in a row; None: no longer than usual.

    What the backend asks for counts first; a transient failure waits 1, 2, 4 … 15 minutes, any other 5. A
    401 to a renewed token lasts until the login changes: then a hold ends in any case.
    """
    if not isinstance(error, BackendError):
        return None
    if error.status == 401:
        return math.inf
    if error.retry_after is not None:
        return error.retry_after
    if error.transient:
        return min(BACKOFF_LONGEST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(failures - 1, 6))
    return BACKOFF_PERMANENT_SECONDS


@dataclass(frozen=True, slots=True)
class Polled:
    """The outcome for one account: a snapshot, or the error that stood in its way."""

    account: Account
    quota: Quota | None = None
    error: AccountsError | None = None


class Holds(Protocol):
    """Where it is kept whom to leave alone; the store."""

    async def poll_holds(self) -> Mapping[str, PollHold]:
        """By account id."""

    async def hold_poll(self, id: str, hold: PollHold | None) -> None:
        """None: leave it alone no longer."""


class Poller:
    """Polls accounts side by side, hands each snapshot to `save`, and remembers whom to leave alone."""

    def __init__(
        self,
        wham: Wham,
        tokens: TokenSource,
        save: Callable[[Account, Quota], Awaitable[None]],
        holds: Holds,
        *,
        clock: Clock = time.time,
    ) -> None:
        self._wham = wham
        self._tokens = tokens
        self._save = save
        self._holds = holds
        self._clock = clock
        self._asked: dict[str, float] = {}

    async def poll(
        self, accounts: Iterable[Account], *, on_result: Callable[[Polled], None] | None = None
    ) -> list[Polled]:
        """Ask for every subscription in `accounts`, fresh or not; results in the order of `accounts`.

        `on_result` is called as each answer comes in. API keys have no quota and are left out.
        """
        limit = asyncio.Semaphore(AT_ONCE)
        holds = await self._holds.poll_holds()

        async def one(account: Account) -> Polled:
            async with limit:
                result = await self._poll(account, holds.get(account.id))
            if on_result is not None:
                on_result(result)
            return result

        return list(await asyncio.gather(*(one(account) for account in accounts if account.type == "oauth")))

    async def due(
        self, accounts: Iterable[Account], quotas: Mapping[str, Quota], *, interval: float = INTERVAL_SECONDS
    ) -> list[Account]:
        """The accounts worth asking in the background: usable, not held, and neither seen nor asked lately."""
        now, age = self._clock(), FRESH_SHARE * interval
        holds = await self._holds.poll_holds()
        return [
            account
            for account in accounts
            if _is_usable(account)
            and not ((hold := holds.get(account.id)) and hold.holds(account, now))
            and not _is_fresh(account, quotas.get(account.id), now, age)
            and not _is_recent(self._asked.get(account.id, 0.0), quotas.get(account.id), now, age)
        ]

    def until_reset(self, accounts: Iterable[Account], quotas: Mapping[str, Quota]) -> float:
        """Seconds until the first window of a usable account is reset; infinite if none is known."""
        now = self._clock()
        windows = [
            each
            for account in accounts
            if _is_usable(account)
            for each in windows_for(quotas.get(account.id))
        ]
        ends = [
            each.resets_at for each in windows if each.resets_at is not None and not past_reset(each, now)
        ]
        return min(ends, default=math.inf) - now

    async def _poll(self, account: Account, held: PollHold | None) -> Polled:
        generation = account.generation

        async def ask(access: Access) -> Quota:
            nonlocal generation
            generation = access.generation
            return await fetch(self._wham, access, now=self._clock())

        self._asked[account.id] = self._clock()
        try:
            quota = await authorised(self._tokens, account, ask)
            await self._save(account, quota)
            if held:
                await self._holds.hold_poll(account.id, None)
        except AccountsError as error:
            failures = held.failures + 1 if held else 1
            wait = backoff_seconds(error, failures)
            if wait is not None:
                with contextlib.suppress(AccountsError):  # the failure that counts is the other one
                    hold = PollHold(self._clock() + wait, failures, generation)
                    await self._holds.hold_poll(account.id, hold)
            return Polled(account, error=error)
        return Polled(account, quota)


class BackgroundPoller:
    """Keeps idle accounts' quota current: at start, then every interval ± a tenth, drawn once per process.

    And when a window is reset, since its number then says nothing any more.

    `view` gives the accounts and their quota as known now, `lease` an async context manager whose value
    says whether this process may poll, `interval` the seconds between polls, or None while polling is
    switched off.
    """

    def __init__(
        self,
        poller: Poller,
        view: Callable[[], tuple[Sequence[Account], Mapping[str, Quota]]],
        lease: Callable[[], AbstractAsyncContextManager[bool]],
        *,
        interval: Callable[[], float | None] = lambda: INTERVAL_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._poller = poller
        self._view = view
        self._lease = lease
        self._interval = interval
        self._sleep = sleep
        self._factor = 1 + JITTER_SHARE * (2 * draw() - 1)

    async def run(self) -> None:
        """Poll until cancelled; polls never overlap."""
        while True:
            wait = (self._interval() or INTERVAL_SECONDS) * self._factor
            try:
                await self.tick()
                wait = min(wait, self._poller.until_reset(*self._view()))
            except Exception:
                log.exception("background quota poll failed; trying again at the next one")
            await self._sleep(wait)

    async def tick(self) -> list[Polled]:
        """One round. Another process at it: nothing to do.

        A lease that cannot be had for trouble is no reason to skip.
        """
        interval = self._interval()
        if interval is None:
            return []
        async with AsyncExitStack() as stack:
            try:
                mine = await stack.enter_async_context(self._lease())
            except AccountsError as error:
                log.warning("quota lease: %s", error)
                mine = True
            return await self._round(interval) if mine else []

    async def _round(self, interval: float) -> list[Polled]:
        accounts, quotas = self._view()
        results = await self._poller.poll(await self._poller.due(accounts, quotas, interval=interval))
        for result in results:
            if result.error is not None:
                log.info("quota of %s: %s", result.account.name, result.error)
        return results


def _is_fresh(account: Account, quota: Quota | None, now: float, age: float) -> bool:
    """Whether the snapshot is this login's and young; a stamp from the future proves nothing."""
    if quota is None or quota.account_id is None or quota.account_id != account.account_id:
        return False
    return _is_recent(seen_at(quota), quota, now, age)


def _is_recent(moment: float, quota: Quota | None, now: float, age: float) -> bool:
    """Whether nothing new is to be learned since: it is not long ago, and no window was reset."""
    resets = [window.resets_at for window in windows_for(quota) if window.resets_at is not None]
    return now - age < moment <= now and not any(moment < reset <= now for reset in resets)


def _is_usable(account: Account) -> bool:
    return account.type == "oauth" and account.enabled and account.login_error is None
