"""May this account serve this request? Each account judged on its own, with everything that stands in its
way.

The one idea: an obstacle is a reason, a sentence for people and the moment it ends. Obstacles come in two
kinds. A *verdict* excludes always: disabled, login needed, the same ChatGPT account twice, already asked
for this request, a compacted history that another account sealed, killswitch, a mark from the backend's own
refusal, fail-closed, minimum remaining. Being used up *by the numbers* is no verdict: numbers may be stale,
come from another process, or be overtaken by bought credits.

The rule that must not be broken: no obstacle is forgotten because another was found first; an account is
free again when the last of them ends, and not before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from accounts import killswitch, pacing
from accounts.killswitch import Killswitch, Thresholds
from accounts.models import Account, Marks, Quota
from accounts.quota import active_mark, exhausted_windows, past_reset, windows_for

if TYPE_CHECKING:
    from accounts.settings import Settings


class Mode(StrEnum):
    """The order in which accounts are asked."""

    MAIN_FIRST = "main-first"
    FALLBACK_FIRST = "fallback-first"
    STICKY_BALANCED = "sticky-balanced"


class Reason(StrEnum):
    """Why an account is not a candidate; if several apply, the first of these is named."""

    DISABLED = "disabled"
    LOGIN_REQUIRED = "login_required"
    SAME_ACCOUNT = "same_account"
    EXCLUDED = "excluded"
    FOREIGN_HISTORY = "foreign_history"
    KILLSWITCH = "killswitch"
    MARKED = "marked"
    UNKNOWN_QUOTA = "unknown_quota"
    MINIMUM_REMAINING = "minimum_remaining"
    EXHAUSTED = "exhausted"


_ORDER = {reason: place for place, reason in enumerate(Reason)}


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide who serves. Thresholds are remaining percent."""

    mode: Mode = Mode.MAIN_FIRST
    keep_conversation: bool = True
    killswitch: Killswitch = field(default_factory=Killswitch)
    minimum_remaining: Thresholds | None = None
    """What a fallback must have left to be asked; main is not bound by it."""
    fail_closed: bool = False
    """Unknown quota counts as below the threshold, for the killswitch (every account) and for the minimum
    (fallbacks).
    """

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """The policy that the settings ask for; an own object for each version of them."""
        quota, switch = settings.quota, settings.killswitch
        minimum = quota.minimum_remaining
        return cls(
            mode=Mode(settings.routing.mode),
            keep_conversation=settings.keep_conversation,
            killswitch=Killswitch(
                switch.enabled,
                Thresholds(switch.main.primary, switch.main.secondary),
                {name: Thresholds(own.primary, own.secondary) for name, own in switch.accounts.items()},
            ),
            minimum_remaining=Thresholds(minimum.primary, minimum.secondary) if quota.enabled else None,
            fail_closed=quota.fail_closed_on_unknown_quota,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What routing needs to know of a request."""

    session: str | None = None
    """Hashed session key; None when the conversation is not known."""
    body_bytes: int = 0
    model: str | None = None
    exclude: Collection[str] = frozenset()
    """Ids of the accounts that have failed this request already."""
    inflight: Mapping[str, int] = field(default_factory=dict)
    """Body bytes of the requests that run now, by account id."""
    home: str | None = None
    """The identity that alone can read the compacted history in it; None when any may be asked."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that stands in the way; `until` is None when its end is not known."""

    reason: Reason
    detail: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """An account with its own quota (None if unknown or another login's) and what stands in its way."""

    account: Account
    quota: Quota | None
    verdicts: tuple[Obstacle, ...]
    exhausted: Obstacle | None

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        return self.verdicts if self.exhausted is None else (*self.verdicts, self.exhausted)

    @property
    def until(self) -> float | None:
        """When the last obstacle ends; None if one has no known end.

        Having been asked is over with the request.
        """
        ends = [obstacle.until for obstacle in self.obstacles if obstacle.reason is not Reason.EXCLUDED]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None


def judge(
    policy: Policy,
    roster: list[Account],
    account: Account,
    quotas: Mapping[str, Quota],
    marks: Marks,
    request: Request,
    now: float,
) -> Judged:
    """Judge one account of the roster (in routing order); verdicts come in the order of `Reason`."""
    quota = _own(quotas.get(account.id), account)
    verdicts = _whatever_the_quota(roster, account, request)
    if account.type == "oauth":
        verdicts += _by_threshold(policy, account, quota, request.model, now)
    if mark := active_mark(marks, account.id, quota, now, request.model):
        detail = f"{account.name} is limited: {mark.reason} (ends in {pacing.countdown(mark.until - now)})"
        verdicts.append(Obstacle(Reason.MARKED, detail, mark.until))
    verdicts.sort(key=lambda obstacle: _ORDER[obstacle.reason])
    return Judged(account, quota, tuple(verdicts), _by_numbers(account, quota, request.model, now))


def _whatever_the_quota(roster: list[Account], account: Account, request: Request) -> list[Obstacle]:
    found: list[Obstacle] = []
    name = account.name
    if not account.enabled:
        found.append(Obstacle(Reason.DISABLED, f"{name} is disabled"))
    if account.login_error is not None:
        found.append(Obstacle(Reason.LOGIN_REQUIRED, f"{name}: {account.login_error}"))
    if twin := _twin(roster, account):
        found.append(Obstacle(Reason.SAME_ACCOUNT, f"{name} is the same ChatGPT account as {twin.name}"))
    if account.id in request.exclude:
        found.append(Obstacle(Reason.EXCLUDED, f"{name} was already asked for this request"))
    if request.home not in (None, account.identity):
        maker = next(
            (each.name for each in roster if each.identity == request.home), "an account not set up here"
        )
        detail = f"{name} cannot read this conversation's compacted history, which {maker} made"
        found.append(Obstacle(Reason.FOREIGN_HISTORY, detail))
    return found


def _by_threshold(
    policy: Policy, account: Account, quota: Quota | None, model: str | None, now: float
) -> list[Obstacle]:
    """Killswitch, minimum remaining and fail-closed. An API key has no windows: they mean nothing to it."""
    rules: list[tuple[Reason, str, Thresholds]] = []
    if policy.killswitch.enabled:
        rules.append((Reason.KILLSWITCH, "killswitch", policy.killswitch.thresholds(account)))
    if policy.minimum_remaining is not None and account.role == "fallback":
        rules.append((Reason.MINIMUM_REMAINING, "minimum remaining", policy.minimum_remaining))
    found: list[Obstacle] = []
    if policy.fail_closed and rules and (unknown := _unknown(account, quota, model, now)):
        found.append(unknown)
    for reason, name, thresholds in rules:
        broken = killswitch.violations(quota, thresholds, now, model)
        if broken:
            texts = "; ".join(violation.describe(now) for violation in broken)
            found.append(Obstacle(reason, f"{account.name}: {name}: {texts}", killswitch.ends_at(broken)))
    return found


def _by_numbers(account: Account, quota: Quota | None, model: str | None, now: float) -> Obstacle | None:
    used_up = exhausted_windows(quota, now, model)
    if not used_up:
        return None
    texts = "; ".join(
        f"{pacing.label(window.minutes)} window used up (resets in {pacing.countdown(reset - now)})"
        for window, reset in used_up
    )
    return Obstacle(Reason.EXHAUSTED, f"{account.name}: {texts}", max(reset for _, reset in used_up))


def _unknown(account: Account, quota: Quota | None, model: str | None, now: float) -> Obstacle | None:
    """Fail-closed: no number, or a number from before the window's reset, is a reason not to ask."""
    if quota is None:
        return Obstacle(Reason.UNKNOWN_QUOTA, f"{account.name}: quota is not known yet")
    for window in windows_for(quota, model):
        if past_reset(window, now):
            name = pacing.label(window.minutes)
            return Obstacle(Reason.UNKNOWN_QUOTA, f"{account.name}: {name} window not seen since its reset")
    return None


def _own(quota: Quota | None, account: Account) -> Quota | None:
    """The snapshot, unless it was taken of another login that had this place."""
    if quota and quota.account_id and account.account_id and quota.account_id != account.account_id:
        return None
    return quota


def _twin(roster: list[Account], account: Account) -> Account | None:
    """An earlier account with the same ChatGPT id that could serve in this one's place."""
    if account.account_id is None:
        return None
    for earlier in roster:
        if earlier is account:
            break
        if earlier.account_id == account.account_id and earlier.enabled and earlier.login_error is None:
            return earlier
    return None
