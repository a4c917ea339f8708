"""The accounts as a running proxy sees them: everything a request needs, in memory.

The one idea: requests read a view and leave notes. The view is loaded from the store, and loaded again when
another process changed it (half a second later at most); the notes (quota, marks, pins, last use) take effect
in the view at once and are written behind, those of half a second in one commit.

The rule that must not be broken: `decide`, `saw_quota`, `mark` and `served` never wait for the database, and
nothing but such notes is ever pending: a killed process loses what it noted in its last half second, never an
account or a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from accounts import placement, quota, routing
from accounts.models import Access, Account, AccountsError, LoginRequired, Mark, Marks, NoSuchAccount, Quota
from accounts.placement import Pin
from accounts.quota_records import Observations
from accounts.store import Store
from accounts.ticking import every
from accounts.tokens import Tokens

logger = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks at the store, and between two writes of what was noted."""
REFRESH_AHEAD = 240 * 60.0
"""Seconds before expiry at which a fallback's token is refreshed in the background unless the settings say
otherwise, so that a fallback that is needed suddenly is ready (the model project's 240 minutes)."""
REFRESH_EVERY = 60.0
"""Seconds between two passes, plus up to as much again, so that processes do not march in step."""


@dataclass(slots=True)
class _Notes:
    """What was observed since the last write, by account id (pins: by session)."""

    quotas: dict[str, Quota] = field(default_factory=dict)
    marks: dict[tuple[str, str], Mark] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    pins: dict[str, Pin] = field(default_factory=dict)
    touched: dict[str, Pin] = field(default_factory=dict)

    def observations(self) -> Observations:
        return Observations(self.quotas, self.marks, self.used, self.pins, self.touched)

    def pin(self, session: str, pin: Pin) -> None:
        where = self.touched if pin.goes_on and session not in self.pins else self.pins
        where[session] = pin

    def before(self, later: _Notes) -> None:
        """Takes in what was noted after these, as when these could not be written."""
        for id, numbers in later.quotas.items():
            self.quotas[id] = quota.merge(self.quotas.get(id), numbers)
        self.marks |= later.marks
        self.used |= later.used
        for session, pin in later.touched.items():
            where = self.pins if session in self.pins else self.touched
            where[session] = pin
        self.pins |= later.pins


class AccountPool:
    """The live view. `policy` is asked at every decision, so that a changed setting counts at once.

    `ahead` is how many seconds before its end a fallback's token is renewed in the background; None: it is not.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        policy: Callable[[], routing.Policy],
        clock: Callable[[], float] = time.time,
        ahead: Callable[[], float | None] = lambda: REFRESH_AHEAD,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._policy = policy
        self.clock = clock
        self._ahead = ahead
        self._accounts: tuple[Account, ...] = ()
        self._quotas: dict[str, Quota] = {}
        self._marks: dict[tuple[str, str], Mark] = {}
        self._pins: dict[str, Pin] = {}
        self._inflight: dict[str, int] = {}
        self._notes = _Notes()
        self._version: int | None = None
        self._writing = asyncio.Lock()
        self._refresh_at = 0.0
        self._spread = random.random() * REFRESH_EVERY  # noqa: S311 - no secret
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def accounts(self) -> tuple[Account, ...]:
        """All accounts in routing order."""
        return self._accounts

    @property
    def quotas(self) -> Mapping[str, Quota]:
        """The latest numbers, by account id."""
        return self._quotas

    @property
    def marks(self) -> Marks:
        """Limits that refusals told of."""
        return self._marks

    @property
    def pins(self) -> Mapping[str, Pin]:
        """Which account serves a conversation, by hashed session key."""
        return self._pins

    @property
    def inflight(self) -> Mapping[str, int]:
        """Body bytes of the requests that run now, by account id."""
        return self._inflight

    def secrets(self) -> frozenset[str]:
        """What no log may show: ids and addresses of the accounts, the tokens and keys in memory."""
        named = (text for account in self._accounts for text in (account.account_id, account.email) if text)
        return frozenset(named) | {secret.reveal() for secret in self._tokens.held()}

    async def start(self) -> None:
        """Loads the view and begins to keep it current. Raises what the store raises."""
        await self.reload()
        self._tasks = [
            asyncio.create_task(every(TICK, self.tick), name="account pool"),
            asyncio.create_task(every(TICK, self.refresh_ahead), name="token refresh ahead"),
        ]

    async def close(self) -> None:
        """Stops, lets running refreshes end, and writes what is pending. The store stays open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for end in (self._tokens.close, self.flush):
            try:
                await end()
            except AccountsError as error:
                logger.error("%s", error)

    def decide(self, request: routing.Request) -> routing.Decision:
        """Who is to serve this request; see `routing.decide`."""
        now = self.clock()
        return routing.decide(
            self._policy(), self._accounts, self._quotas, self._marks, self._pins, request, now
        )

    async def access(self, account: Account) -> Access:
        """A valid token; see `Tokens.access`."""
        try:
            return await self._tokens.access(account)
        except AccountsError as error:
            self._noticed(account, error)
            raise

    async def renew(self, account: Account, rejected: Access, *, revoked: bool = False) -> Access:
        """Another token after a 401; see `Tokens.renew`."""
        try:
            return await self._tokens.renew(account, rejected, revoked=revoked)
        except AccountsError as error:
            self._noticed(account, error)
            raise

    def _noticed(self, account: Account, error: AccountsError) -> None:
        """A dead login or a removed account counts now, not at the next reload."""
        if isinstance(error, NoSuchAccount):
            self._accounts = tuple(each for each in self._accounts if each.id != account.id)
        elif isinstance(error, LoginRequired) and account.type == "oauth":
            self._accounts = tuple(
                replace(each, login_error=str(error)) if each.id == account.id else each
                for each in self._accounts
            )

    def saw_quota(self, account: Account, numbers: Quota) -> None:
        """Numbers that came with an answer for `account`; those of another ChatGPT account are dropped.

        Call it before `mark` for the same answer: numbers that come later are a newer word.
        """
        if numbers.account_id and account.account_id and numbers.account_id != account.account_id:
            return
        id = account.id
        self._quotas[id] = quota.merge(self._quotas.get(id), numbers)
        self._notes.quotas[id] = quota.merge(self._notes.quotas.get(id), numbers)

    def mark(self, account: Account, mark: Mark) -> None:
        """Keeps requests that count against the mark's limit from an account; one that holds and ends later stays."""
        key = account.id, mark.limit
        known = self._marks.get(key)
        if known and quota.holds(known, self._quotas.get(account.id), self.clock()):
            mark = replace(max(mark, known, key=lambda each: each.until), seen_at=mark.seen_at)
        self._marks[key] = self._notes.marks[key] = mark

    def active_mark(self, account: Account) -> Mark | None:
        """What says that the account's own limit is used up."""
        return quota.active_mark(self._marks, account.id, self._quotas.get(account.id), self.clock())

    def served(self, account: Account, session: str | None = None, pin: Pin | None = None) -> None:
        """The account began to answer; `pin` is its candidate's, `session` the request's (hashed key)."""
        now = self.clock()
        self._notes.used[account.id] = now
        if session is None or pin is None:
            return
        if session in self._pins or not pin.goes_on:  # else it was forgotten since the account was chosen
            self._notes.pin(session, pin)
            self._pins = placement.prune({**self._pins, session: pin}, now, keep=session)

    @contextlib.contextmanager
    def running(self, account: Account, body_bytes: int) -> Iterator[None]:
        """Counts a request as running on the account, so that others are placed with it in mind."""
        self._inflight[account.id] = self._inflight.get(account.id, 0) + body_bytes
        try:
            yield
        finally:
            left = self._inflight[account.id] - body_bytes
            if left > 0:
                self._inflight[account.id] = left
            else:
                del self._inflight[account.id]

    async def tick(self) -> None:
        """One turn of keeping current: write what is pending, load what others changed."""
        await self._tokens.save_unsaved()
        await self.flush()
        if await self._store.version() != self._version:
            await self.reload()

    async def flush(self) -> None:
        """Writes what is pending. If the store refuses, it stays pending."""
        async with self._writing:
            notes, self._notes = self._notes, _Notes()
            if not (pending := notes.observations()):
                return
            try:
                await self._store.observe(pending)
            except BaseException:
                notes.before(self._notes)
                self._notes = notes
                raise

    async def reload(self) -> None:
        """Loads the view from the store; what is pending here stays on top of it."""
        async with self._writing:  # notes on their way to the store are in neither place
            # The version first: a change that comes while we read is then seen at the next tick.
            version = await self._store.version()
            accounts = tuple(await self._store.accounts())
            quotas, marks = await self._store.quotas(), await self._store.marks()
            pins = await self._store.pins()
        notes = self._notes
        for id, numbers in notes.quotas.items():
            quotas[id] = quota.merge(quotas.get(id), numbers)
        for key, mark in notes.marks.items():
            marks[key] = max(mark, marks.get(key, mark), key=lambda each: each.seen_at)
        touched = {session: pin for session, pin in notes.touched.items() if session in pins}
        self._accounts, self._quotas, self._marks = accounts, quotas, marks
        self._pins = placement.prune(pins | touched | notes.pins, self.clock())
        self._version = version

    async def refresh_ahead(self) -> None:
        """Refreshes fallbacks whose tokens end soon; does nothing when it is not time yet, or switched off.

        One at a time, so that it never competes with requests. `Tokens` notes a failure; it ends nothing.
        """
        now, ahead = self.clock(), self._ahead()
        if ahead is None or now < self._refresh_at:
            return
        self._refresh_at = now + REFRESH_EVERY + self._spread
        for account in self._accounts:
            if account.role == "main" or not account.enabled or account.login_error:
                continue
            try:
                await self._tokens.access(account, ahead=ahead)
            except AccountsError as error:
                self._noticed(account, error)
                logger.info("%s", error)
