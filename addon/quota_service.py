"""
Quota beside the requests: the background poll of idle accounts, and reset credits, over a running proxy's pool.

Requests bring the numbers of the accounts in use for nothing; this asks for the others. Of all processes on one
store one polls at a time: it loads what the others saw before it decides whom to ask, and writes what it learned
before it lets the next one in.

The rule: polling is never in a request's way, and a setting turns it off at once.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp

from accounts.models import Account, Quota
from accounts.online import user_agent
from accounts.pool import AccountPool
from accounts.reset_credits import Eligibility, Redeemed, ResetCredits
from accounts.reset_records import ResetRecords
from accounts.settings import Settings
from accounts.store import Store
from accounts.usage import BackgroundPoller, Polled, Poller
from accounts.wham import Wham
from addon.background import Background

logger = logging.getLogger(__name__)

LEASE = "quota-poll"
LEASE_SECONDS = 120.0
"""After which a process that was killed while polling no longer keeps the others from it."""


class QuotaService:
    """`settings` is asked each time."""

    def __init__(
        self,
        store: Store,
        pool: AccountPool,
        http: aiohttp.ClientSession,
        settings: Callable[[], Settings],
    ) -> None:
        wham = Wham(http, lambda: settings().backend_url, user_agent=lambda: user_agent(settings()))
        self.records = ResetRecords(store)
        self._store = store
        self.pool = pool
        self._settings = settings
        self._resets = ResetCredits(wham, pool, self.records)
        self._poller = Poller(wham, pool, self._saw, store)
        self.rounds = BackgroundPoller(self._poller, self._view, self._turn, interval=self._interval)
        self._polling: asyncio.Task[None] | None = None
        self._tasks = Background()

    def start(self) -> None:
        """Begin to poll; the pool has to be loaded."""
        self._polling = asyncio.create_task(self.rounds.run(), name="quota poll")

    async def close(self) -> None:
        """Stop polling at once, and let a reset that is on its way end: it must not be lost half-way."""
        if self._polling:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)
        await self._tasks.finish()

    def in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a command's work beside the requests."""
        self._tasks.start(work)

    async def poll(self) -> list[Polled]:
        """Ask for every account now, fresh or not."""
        return await self._poller.poll(self.pool.accounts)

    async def unpin(self, session: str | None) -> int:
        """Forget which account serves a conversation (hashed session key), or all; returns how many."""
        await self.pool.flush()
        count = await self._store.unpin(session)
        await self.pool.reload()
        return count

    async def eligibility(self, account: Account) -> Eligibility:
        """What could be spent on an account; see `ResetCredits.eligibility`."""
        found = await self._resets.eligibility(account, self.pool.active_mark(account))
        self.pool.saw_quota(account, found.quota)
        return found

    async def redeem(self, account: Account, confirmed_id: str, *, retry: bool) -> Redeemed:
        """Spend a credit or settle an earlier attempt; see `ResetCredits.redeem`. The account serves again then."""
        mark = self.pool.active_mark(account)
        done = await self._resets.redeem(account, confirmed_id, mark=mark, retry=retry)
        if done.quota is not None:
            self.pool.saw_quota(account, done.quota)
        if done.outcome.code.spent:
            await self.pool.flush()
            await self._store.clear_mark(account.id)
            await self.pool.reload()
        return done

    async def _saw(self, account: Account, numbers: Quota) -> None:
        self.pool.saw_quota(account, numbers)

    def _view(self) -> tuple[tuple[Account, ...], dict[str, Quota]]:
        return self.pool.accounts, dict(self.pool.quotas)

    def _interval(self) -> float | None:
        quota = self._settings().quota
        return quota.check_interval_minutes * 60 if quota.poll else None

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Whether it is this process's turn to poll."""
        async with self._store.lease(LEASE, LEASE_SECONDS, keep=True) as mine:
            if not mine:
                yield False
                return
            await self.pool.tick()
            try:
                yield True
            finally:
                await self.pool.flush()
