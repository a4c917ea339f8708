"""Reset credits: spend one to clear a used-up quota window, once, whatever the network does.

The one idea: the backend makes a redemption idempotent by the pair (redeem request id, credit id). The pair
is recorded before the request is sent and kept until the outcome is certain; after an uncertain one the
very same pair is sent again, which costs nothing if the first one had worked (the backend then answers
`already_redeemed`).

The rule that must not be broken: while a pair without a certain outcome exists, no other pair is sent for
that ChatGPT account. Spending cannot be undone, so it is also bound to the identity the person confirmed.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from accounts import usage
from accounts.models import Access, Account, AccountsError, Mark, Quota
from accounts.quota import windows_for
from accounts.quota_sources import moment
from accounts.wham import BackendError, TokenSource, Wham, authorised

LIST_PATH = "/wham/rate-limit-reset-credits"
CONSUME_PATH = "/wham/rate-limit-reset-credits/consume"
CONSUME_TIMEOUT_SECONDS = 60.0
RESET_TYPE = "codex_rate_limits"

REPLAY_SECONDS = 300.0
"""A younger unsettled attempt is repeated by itself, an older one only on request."""
COOLDOWN_SECONDS = 60.0


class Code(StrEnum):
    """What became of a redemption; the first six are the backend's own words."""

    RESET = "reset"
    ALREADY_REDEEMED = "already_redeemed"
    NOTHING_TO_RESET = "nothing_to_reset"
    NO_CREDIT = "no_credit"
    COOLDOWN_ACTIVE = "cooldown_active"
    REDEEMING = "redeeming"
    HTTP_ERROR = "http_error"
    AMBIGUOUS = "ambiguous"

    @property
    def terminal(self) -> bool:
        """Whether the outcome is certain, so that the pair is done with."""
        return self in (Code.RESET, Code.ALREADY_REDEEMED, Code.NOTHING_TO_RESET, Code.NO_CREDIT)

    @property
    def spent(self) -> bool:
        """Whether the window was cleared by this pair, now or before."""
        return self in (Code.RESET, Code.ALREADY_REDEEMED)


@dataclass(frozen=True, slots=True)
class Credit:
    """One reset credit that may be spent; `expires_at` in epoch seconds."""

    id: str
    expires_at: float | None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A pair that was or is about to be sent."""

    request_id: str
    credit_id: str
    started_at: float

    @property
    def intact(self) -> bool:
        """Whether the stored pair can be sent again."""
        try:
            uuid.UUID(self.request_id)
        except ValueError:
            return False
        return bool(self.credit_id.strip())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known about the last attempt.

    `detail` is for people, `cooldown_until` an epoch second or None.
    """

    code: Code
    at: float
    detail: str = ""
    cooldown_until: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What the store keeps of one ChatGPT account: the unsettled attempt, and the last certain outcome."""

    attempt: Attempt | None = None
    outcome: Outcome | None = None


class Attempts(Protocol):
    """Where records live.

    The key is the ChatGPT account id, so a new login cannot inherit another's attempt.
    """

    async def load(self, account_id: str) -> Record | None:
        """The record, or None."""

    async def save(self, account_id: str, attempt: Attempt) -> Attempt | None:
        """Record an attempt durably unless one is unsettled, in one transaction.

        Returns the one that stands. None: nothing was recorded, because another process settled a reset
        meanwhile and its cool-down has begun.
        """

    async def clear(self, account_id: str, attempt: Attempt, outcome: Outcome) -> None:
        """Keep the outcome, and drop the attempt that it settles; another one that stands by now stays."""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Whether a credit may be spent on an account now, and which one."""

    account: Account
    account_id: str | None
    """The ChatGPT account id to confirm."""
    quota: Quota
    credit: Credit | None
    available: int
    obstacle: str | None
    """Why not, for people; None when everything is in order."""


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The outcome, and the account's quota as polled right after a reset (None if that failed)."""

    outcome: Outcome
    quota: Quota | None = None


class ResetRefused(AccountsError):
    """Nothing was sent; the message says why and what to do."""


class ResetCredits:
    """Lists and spends reset credits."""

    def __init__(
        self,
        wham: Wham,
        tokens: TokenSource,
        attempts: Attempts,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._wham = wham
        self._tokens = tokens
        self._attempts = attempts
        self._clock = clock
        self._new_id = new_id

    async def eligibility(self, account: Account, mark: Mark | None = None) -> Eligibility:
        """Ask the backend what could be spent on this account. Raises AccountsError."""

        async def ask(access: Access) -> Eligibility:
            return await self._eligibility(account, access, mark)

        return await authorised(self._tokens, account, ask)

    async def redeem(
        self, account: Account, confirmed_id: str, *, mark: Mark | None = None, retry: bool = False
    ) -> Redeemed:
        """Spend one credit on the ChatGPT account that was confirmed, or settle an earlier attempt.

        `retry` repeats an unsettled attempt older than five minutes, and nothing else. Raises ResetRefused
        when nothing was sent, AccountsError when the account or its quota cannot be read. An uncertain
        outcome is returned, not raised: the attempt then stands and the next call repeats it.
        """

        async def prepare(access: Access) -> Attempt | Outcome:
            self._same_identity(account, access, confirmed_id)
            return await self._attempt(account, access, confirmed_id, mark, retry)

        prepared = await authorised(self._tokens, account, prepare)
        if isinstance(prepared, Outcome):
            return Redeemed(prepared)
        outcome = await self._consume(account, confirmed_id, prepared)
        if outcome.code.terminal:
            await self._attempts.clear(confirmed_id, prepared, outcome)
        return Redeemed(outcome, await self._new_quota(account) if outcome.code.spent else None)

    async def _attempt(
        self, account: Account, access: Access, account_id: str, mark: Mark | None, retry: bool
    ) -> Attempt | Outcome:
        """The pair to send: the unsettled one if there is one, else a new one that is recorded first."""
        now = self._clock()
        record = await self._attempts.load(account_id) or Record()
        cooldown = record.outcome.cooldown_until if record.outcome else None
        if cooldown is not None and cooldown > now:
            raise ResetRefused(f"{account.name} was reset a moment ago; wait {cooldown - now:.0f} s")
        if record.attempt is not None:
            return await self._repeat(account, account_id, record.attempt, retry, now)
        if retry:
            raise ResetRefused(f"{account.name} has no unsettled reset to repeat")
        found = await self._eligibility(account, access, mark)
        if found.credit is None or found.obstacle is not None:
            raise ResetRefused(f"{account.name}: {found.obstacle}")
        attempt = Attempt(self._new_id(), found.credit.id, self._clock())
        standing = await self._attempts.save(account_id, attempt)
        if standing is None:
            raise ResetRefused(f"{account.name} was reset a moment ago by another process; look again")
        return standing

    async def _repeat(
        self, account: Account, account_id: str, attempt: Attempt, retry: bool, now: float
    ) -> Attempt | Outcome:
        if not attempt.intact:
            outcome = Outcome(Code.AMBIGUOUS, now, "the record of an earlier attempt was damaged")
            await self._attempts.clear(account_id, attempt, outcome)
            return outcome
        if now - attempt.started_at >= REPLAY_SECONDS and not retry:
            raise ResetRefused(
                f"an earlier reset of {account.name} has no certain outcome: repeat that one first"
            )
        return attempt

    async def _consume(self, account: Account, confirmed_id: str, attempt: Attempt) -> Outcome:
        """Send the pair. Only the backend's own word makes an outcome certain."""
        body = {"redeem_request_id": attempt.request_id, "credit_id": attempt.credit_id}

        async def send(access: Access) -> dict[str, Any]:
            self._same_identity(account, access, confirmed_id)
            return await self._wham.call(
                "POST", CONSUME_PATH, access, now=self._clock(), body=body, timeout=CONSUME_TIMEOUT_SECONDS
            )

        try:
            answer = await authorised(self._tokens, account, send)
            code = Code(answer.get("code", ""))
        except ResetRefused:
            raise
        except BackendError as error:
            code = Code.AMBIGUOUS if error.status is None else Code.HTTP_ERROR
            return Outcome(code, self._clock(), str(error))
        except AccountsError as error:
            return Outcome(Code.HTTP_ERROR, self._clock(), str(error))
        except ValueError:
            return Outcome(Code.AMBIGUOUS, self._clock(), "the answer has no known code")
        now = self._clock()
        return Outcome(code, now, cooldown_until=now + COOLDOWN_SECONDS if code.spent else None)

    async def _eligibility(self, account: Account, access: Access, mark: Mark | None) -> Eligibility:
        now = self._clock()
        quota = await usage.fetch(self._wham, access, now=now)
        answer = await self._wham.call("GET", LIST_PATH, access, now=now)
        credit = best_credit(answer)
        available = quota.reset_credits_applicable
        if available is None:
            available = quota.reset_credits or 0
        obstacle: str | None = None
        if not is_limited(quota, mark, now):
            obstacle = "no window is used up, so there is nothing to reset"
        elif available <= 0 or credit is None:
            obstacle = "no reset credit applies to it"
        return Eligibility(account, access.account_id, quota, credit, available, obstacle)

    async def _new_quota(self, account: Account) -> Quota | None:
        async def ask(access: Access) -> Quota:
            return await usage.fetch(self._wham, access, now=self._clock())

        try:
            return await authorised(self._tokens, account, ask)
        except AccountsError:
            return None

    @staticmethod
    def _same_identity(account: Account, access: Access, confirmed_id: str) -> None:
        if not confirmed_id or access.account_id != confirmed_id:
            raise ResetRefused(f"{account.name} is not the ChatGPT account that was confirmed; look again")


def is_limited(quota: Quota, mark: Mark | None, now: float) -> bool:
    """Whether there is something to reset: an active mark, or a window at 100 % whose reset is not past.

    99.9 % used is not used up.
    """
    if mark is not None and mark.until > now:
        return True
    return any(
        window.used_percent >= 100 and (window.resets_at is None or window.resets_at > now)
        for window in windows_for(quota)
    )


def best_credit(answer: Mapping[str, Any]) -> Credit | None:
    """The credit to spend: available, for Codex limits, not ruled out by the plan, the first to expire.

    The official client's answers do not have `is_supported_by_plan`; only a plain false rules a credit out.
    Entries of another shape are passed over.
    """
    credits = answer.get("credits")
    found: list[Credit] = []
    for entry in credits if isinstance(credits, list) else []:
        if not isinstance(entry, dict):
            continue
        key, title = entry.get("id"), entry.get("title")
        if not isinstance(key, str) or not key.strip():
            continue
        usable = entry.get("status") == "available" and entry.get("reset_type") == RESET_TYPE
        if usable and entry.get("is_supported_by_plan") is not False:
            found.append(
                Credit(key, moment(entry.get("expires_at")), title if isinstance(title, str) else None)
            )
    return min(found, key=lambda credit: (credit.expires_at or math.inf, credit.id), default=None)
