"""Access tokens that work: refreshed in time, by one process at a time, and never lost.

The one idea: a refresh token is single-use, so a refresh is a small transaction between us, the issuer and
the store. Callers of one process share one flight; processes take turns through a lease in the store and look
there first, because what another one fetched is as good as what we would fetch.

The rule that must not be broken: a new token is on the disk before anyone uses it, and once the issuer was
asked the flight goes on to its end, whoever hangs up. If the disk fails, the new token stays in memory and is
written as soon as it can be, for the old one is worth nothing any more.

When: on the request path when 5 minutes or less are left, in the background earlier (the caller says how
much), and once when the backend answers 401. A refresh ahead of time that fails leaves the old token in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from accounts.account_views import login_command
from accounts.models import (
    Access,
    Account,
    AccountsError,
    Credentials,
    LoginRequired,
    NoSuchAccount,
    RefreshError,
    RefreshFailed,
    Secret,
    TokenGrant,
)
from accounts.oauth import LOGIN_AGAIN, OAuthError
from accounts.store import Store

logger = logging.getLogger(__name__)

MINUTE = 60.0
REQUEST_AHEAD = 5 * MINUTE
"""Seconds before expiry at which a request refreshes first (the official client's margin)."""
UNKNOWN_LIFE = 8 * 24 * 60 * MINUTE
"""Seconds for which a token without a known expiry is believed (the official client's rule)."""
SETTLED = 60 * MINUTE
"""A token refreshed less than this ago is not refreshed ahead of time again: some issuers give short ones."""
LEASE = 90.0
"""Seconds after which a process that was killed in a refresh no longer holds the others up."""
WAIT = 10.0
POLL = 0.1
"""Seconds that a process waits for another one's refresh, and between two looks at the store."""
JUST_RENEWED = MINUTE
"""Seconds for which a renewed token that the backend refuses as well is not renewed again: that cannot help."""
FIRST_BACKOFF = 5 * MINUTE
UNREACHED_BACKOFF = 0.5 * MINUTE
MAX_BACKOFF = 60 * MINUTE
"""Seconds to the next attempt after a transient failure, doubled with each one. An issuer that could not be
reached at all need not be spared, and the network of a laptop that woke up is there a moment later."""
PERSIST_PAUSES = (0.025, 0.05)
"""Seconds between the attempts to write a new token down."""

Reason = Literal["proactive_expiry", "unauthorized_recovery"]
"""Why a refresh happens, in the official client's words."""


class Refresher(Protocol):
    """The part of an issuer that is needed here. Raises OAuthError."""

    async def refresh(
        self, refresh: Secret, reason: str = ..., *, current: Secret | None = ...
    ) -> TokenGrant: ...


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A grant that the store would not take."""

    spent: str
    grant: TokenGrant


class Tokens:
    """Gives out access tokens. `clock` is in epoch seconds; `sleep` is for tests."""

    def __init__(
        self,
        store: Store,
        issuer: Refresher,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._sleep = sleep
        self._known: dict[str, Credentials] = {}
        self._flights: dict[str, asyncio.Task[Credentials]] = {}
        self._unsaved: dict[str, _Unsaved] = {}

    async def access(self, account: Account, *, ahead: float = REQUEST_AHEAD) -> Access:
        """A token that is good for a request now; refreshed first if `ahead` seconds or less are left.

        Costs nothing but a dictionary look-up while the token is good. Raises LoginRequired, RefreshFailed,
        NoSuchAccount.
        """
        held = await self._credentials(account)
        if not self._due(account, held, ahead):
            return _access(account, held)
        try:
            return _access(account, await self._refresh(account, held, "proactive_expiry"))
        except (LoginRequired, RefreshFailed):
            if held.expires_at is not None and held.expires_at > self._clock():
                return _access(account, held)
            raise

    async def renew(self, account: Account, rejected: Access, *, revoked: bool = False) -> Access:
        """Another token than the one the backend answered 401 to.

        Takes what the store has if that is another one. `revoked`: this request asked before, and the backend calls
        the token that it got revoked: if it was just renewed, the login is dead, until a new one. Raises
        LoginRequired, RefreshFailed, NoSuchAccount.
        """
        if account.type == "api_key":
            raise LoginRequired(
                f"the API key of {account.name} is refused: store a valid one with `{login_command(account)}`"
            )
        stored = await self._read(account.id)
        if not self._due(account, stored, 0.0):
            if stored.access != rejected.token:
                return _access(account, stored)
            age = None if stored.refreshed_at is None else self._clock() - stored.refreshed_at
            if age is not None and 0 <= age < JUST_RENEWED:
                raise await self._refused_again(account, stored, revoked)
        return _access(account, await self._refresh(account, stored, "unauthorized_recovery"))

    def held(self) -> list[Secret]:
        """The tokens and keys in memory."""
        known = list(self._known.values())  # a log is written in other threads too
        found = [secret for each in known for secret in (each.access, each.refresh)]
        return [secret for secret in found if secret]

    async def save_unsaved(self) -> None:
        """Tries again to write down new tokens that the store would not take; cheap when there are none.

        Raises RefreshFailed if it still does not.
        """
        for id in self._unsaved.keys() - self._flights.keys():
            with contextlib.suppress(NoSuchAccount):
                await self._save_unsaved(id)

    async def close(self) -> None:
        """Lets running refreshes end and their tokens be stored. Raises RefreshFailed if they are not."""
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        await self.save_unsaved()

    def _due(self, account: Account, held: Credentials, ahead: float) -> bool:
        if account.type == "api_key":
            return False
        now = self._clock()
        if held.expires_at is None:
            return now - (held.refreshed_at or account.added_at) > UNKNOWN_LIFE
        left = held.expires_at - now
        settled = held.refreshed_at is not None and 0 <= now - held.refreshed_at < SETTLED
        return left <= (min(ahead, REQUEST_AHEAD) if settled else ahead)

    async def _credentials(self, account: Account) -> Credentials:
        """The tokens of this account, from memory unless the account's view has newer ones in the store."""
        held = self._known.get(account.id)
        if held is None or held.generation < account.generation:
            held = await self._read(account.id)
        return held

    async def _read(self, id: str) -> Credentials:
        try:
            held = await self._store.credentials(id)
        except NoSuchAccount:
            self._known.pop(id, None)
            raise
        self._known[id] = held
        return held

    async def _refresh(self, account: Account, stale: Credentials, reason: Reason) -> Credentials:
        flight = self._flights.get(account.id)
        if flight is None:
            flight = asyncio.create_task(self._fly(account, stale, reason), name="token refresh")
            self._flights[account.id] = flight
            flight.add_done_callback(lambda done: self._landed(account.id, done))
        # A caller that is cancelled leaves the flight to the others, and its token to the store.
        return await asyncio.shield(flight)

    def _landed(self, id: str, flight: asyncio.Task[Credentials]) -> None:
        self._flights.pop(id, None)
        if not flight.cancelled():
            flight.exception()  # seen, also when every caller has gone

    async def _fly(self, account: Account, stale: Credentials, reason: Reason) -> Credentials:
        """Newer tokens than `stale`: another process's, or the issuer's."""
        if account.id in self._unsaved:
            return await self._save_unsaved(account.id)
        deadline = self._clock() + WAIT
        while True:
            # Looked at before the lease and again under it: whoever had it may just have finished.
            if (found := await self._newer(account, stale)) is not None:
                return found
            async with self._store.lease(f"refresh {account.id}", LEASE) as mine:
                if mine:
                    found = await self._newer(account, stale)
                    return found or await self._ask(account, reason)
            if self._clock() >= deadline:
                raise RefreshFailed(
                    f"another process has been refreshing the token of {account.name} for {WAIT:.0f} "
                    "seconds: it is tried again with the next request"
                )
            await self._sleep(POLL)

    async def _newer(self, account: Account, stale: Credentials) -> Credentials | None:
        """What the store has beyond `stale`. Raises what keeps us from refreshing."""
        stored = await self._read(account.id)
        if stored.access != stale.access and not self._due(account, stored, 0.0):
            return stored
        error = await self._store.refresh_error(account.id)
        if error is not None and error.blocks(stored.refresh_hash, self._clock()):
            raise _failure(error)
        return None

    async def _ask(self, account: Account, reason: Reason) -> Credentials:
        held = self._known[account.id]
        if held.refresh is None:
            raise LoginRequired(
                f"the token of {account.name} has run out and there is no refresh token: "
                "log in again with `openai-auth login`"
            )
        try:
            grant = await self._issuer.refresh(held.refresh, reason, current=held.access)
        except OAuthError as error:
            raise await self._failed(account, held.refresh.hash, error) from error
        self._unsaved[account.id] = _Unsaved(held.refresh.hash, grant)
        return await self._save_unsaved(account.id)

    async def _save_unsaved(self, id: str) -> Credentials:
        unsaved = self._unsaved[id]
        for pause in (*PERSIST_PAUSES, None):
            try:
                held = await self._store.rotate(id, unsaved.spent, unsaved.grant)
            except NoSuchAccount:
                del self._unsaved[id]
                raise
            except Exception as error:  # whatever is wrong with the disk, the token outlives it
                if pause is None:
                    raise RefreshFailed(
                        f"a refreshed token could not be stored: {error}. It is kept in memory and tried "
                        "again; do not end this process before that works, or the account has to log in again"
                    ) from error
                await self._sleep(pause)
            else:
                break
        self._unsaved.pop(id, None)
        self._known[id] = held
        return held

    async def _failed(self, account: Account, token_hash: str, error: OAuthError) -> AccountsError:
        """Remembers a refusal of the issuer; returns what to raise."""
        now = self._clock()
        before = await self._store.refresh_error(account.id)
        count = before.retry_count + 1 if before is not None and before.token_hash == token_hash else 1
        if error.permanent:
            retry_at = None
            message = f"{account.name} has to log in again: {error}"
        else:
            first = UNREACHED_BACKOFF if error.status is None else FIRST_BACKOFF
            retry_at = now + (error.retry_after or min(MAX_BACKOFF, first * 2 ** min(count - 1, 10)))
            message = f"the token of {account.name} could not be refreshed: {error}"
        return await self._noted(
            account, RefreshError(message, error.permanent, now, retry_at, count, token_hash)
        )

    async def _refused_again(self, account: Account, held: Credentials, revoked: bool) -> AccountsError:
        """What to raise when the backend refuses what a renewal has just brought."""
        if not revoked or held.refresh is None:
            return RefreshFailed(
                f"the token of {account.name} is refused although it was just renewed: it is tried again later"
            )
        message = f"{account.name} has to log in again: the backend has ended its login: {LOGIN_AGAIN}"
        return await self._noted(
            account, RefreshError(message, True, self._clock(), None, 1, held.refresh.hash)
        )

    async def _noted(self, account: Account, record: RefreshError) -> AccountsError:
        """Remembers why tokens cannot be had; returns what to raise."""
        logger.warning("%s", record.message)
        try:
            await self._store.save_refresh_error(account.id, record)
        except AccountsError as trouble:
            logger.warning("the failed refresh could not be noted: %s", trouble)
        return _failure(record)


def _access(account: Account, held: Credentials) -> Access:
    return Access(held.access, account.account_id, held.generation)


def _failure(error: RefreshError) -> AccountsError:
    if error.permanent:
        return LoginRequired(error.message)
    return RefreshFailed(error.message, error.next_retry_at)
