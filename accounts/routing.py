"""Who serves this request: an ordered list of accounts, and for every other account the reason why not.

The one idea: routing is a pure function of (policy, accounts, quota, marks, pins, request, now). First
every account is judged on its own (`accounts.eligibility`), then those that may serve are put in order.
What people are told (`explain`, the text of a 429) is this very decision, not a second opinion.

The rule that must not be broken: an account that the rules exclude is never a candidate, and if any account
may serve there is one.

Verdicts exclude always. Being used up by the numbers excludes an account while any other may serve; when
numbers are all that is left in everybody's way they exclude nobody (the last path), because hearsay must
not block every path. The accounts are then asked once; a refusal marks them, and a mark is a verdict, so
nobody is asked in vain twice.

`main-first` is main, then the fallbacks in order; `fallback-first` is the fallbacks, then main;
`sticky-balanced` places each conversation where most quota is left. API keys are paid by the token, so they
come last of all unless an API key is main. A conversation stays on the subscription that served it while
its prompt cache is warm (`keep_conversation`), and in sticky-balanced beyond that; it never holds on to a
paid fallback key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from accounts import placement
from accounts.eligibility import Judged, Mode, Policy, Reason, Request, judge
from accounts.killswitch import Killswitch, Thresholds
from accounts.models import Account, Marks, Quota
from accounts.placement import Pin

__all__ = [
    "DEFAULT_RETRY_AFTER",
    "Candidate",
    "Decision",
    "Killswitch",
    "Mode",
    "Pin",
    "Policy",
    "Reason",
    "Request",
    "Skip",
    "Thresholds",
    "Why",
    "decide",
]

DEFAULT_RETRY_AFTER = 300
"""Seconds to announce when nobody knows when an account may serve again."""


class Why(StrEnum):
    """Why a candidate stands where it stands."""

    CONVERSATION = "conversation"
    PLACED = "placed"
    MAIN = "main"
    FALLBACK = "fallback"
    API_KEY = "api_key"
    LAST_PATH = "last_path"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account that may be asked, and the pin to write if it serves (None without a session)."""

    account: Account
    reason: Why
    detail: str = ""
    pin: Pin | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """An account that must not be asked.

    Why, in a word and in a sentence, and until when if that is known.
    """

    account: Account
    reason: Reason
    detail: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Candidates in the order to ask them, and everybody else."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skip, ...]
    retry_at: float | None = None
    """The earliest moment an account that is out now may serve again: for the 429 when nobody served."""


def decide(
    policy: Policy,
    accounts: Iterable[Account],
    quotas: Mapping[str, Quota],
    marks: Marks,
    pins: Mapping[str, Pin],
    request: Request,
    now: float,
) -> Decision:
    """Decide who serves.

    `quotas` are by our account id, `pins` by session, `now` in epoch seconds.
    """
    roster = sorted(accounts, key=lambda account: (account.position, account.id))
    judged = [judge(policy, roster, account, quotas, marks, request, now) for account in roster]
    passed = [one for one in judged if not one.verdicts]
    able = [one for one in passed if one.exhausted is None] or passed
    return Decision(
        tuple(_candidates(policy, able, pins, request, now)),
        tuple(
            Skip(one.account, one.obstacles[0].reason, one.obstacles[0].detail, one.until)
            for one in judged
            if one not in able
        ),
        min((one.until for one in judged if one.until is not None), default=None),
    )


def _candidates(
    policy: Policy, able: list[Judged], pins: Mapping[str, Pin], request: Request, now: float
) -> Iterator[Candidate]:
    """The accounts that may serve, first choice first, each with the pin that keeps the conversation there."""
    pin = pins.get(request.session) if request.session else None
    kept = _kept(policy, able, pin, request, now) if pin else None
    ordered = [] if kept is None else [(kept, Why.CONVERSATION, "the conversation is here")]
    rest = [one for one in able if one is not kept]
    if policy.mode is Mode.STICKY_BALANCED and request.session:
        subscriptions = [one for one in rest if one.account.type == "oauth"]
        ordered += _placed(policy, subscriptions, pins, request, now)
        rest = [one for one in rest if one.account.type == "api_key"]
    ordered += [(one, _role(one.account), "") for one in sorted(rest, key=_by_role(policy.mode))]
    for one, why, detail in ordered:
        if one.exhausted is not None:
            why, detail = Why.LAST_PATH, one.exhausted.detail
        new = None
        if request.session:
            new = placement.renew(pin, one.account, one.quota, request.body_bytes, request.model, now)
        yield Candidate(one.account, why, detail, new)


def _kept(policy: Policy, able: list[Judged], pin: Pin, request: Request, now: float) -> Judged | None:
    """The account that the conversation stays on, if it may serve and staying is worth it."""
    here = next((one for one in able if placement.holds(pin, one.account, now)), None)
    if here is None or _role(here.account) is Why.API_KEY:
        return None
    if policy.mode is Mode.STICKY_BALANCED:
        return None if placement.used_up(here.quota, request.model, now) else here
    return here if policy.keep_conversation and placement.is_warm(pin, request.model, now) else None


def _by_role(mode: Mode) -> Callable[[Judged], int]:
    """Sort key of the plain modes; the sort is stable, so the configured order stays within each group."""
    order = [Why.MAIN, Why.FALLBACK, Why.API_KEY]
    if mode is Mode.FALLBACK_FIRST:
        order = [Why.FALLBACK, Why.MAIN, Why.API_KEY]
    return lambda one: order.index(_role(one.account))


def _role(account: Account) -> Why:
    """What an account is to the plain modes: an API key that is main is main."""
    if account.role == "main":
        return Why.MAIN
    return Why.API_KEY if account.type == "api_key" else Why.FALLBACK


def _placed(
    policy: Policy, able: list[Judged], pins: Mapping[str, Pin], request: Request, now: float
) -> list[tuple[Judged, Why, str]]:
    others = [pin for session, pin in pins.items() if session != request.session]
    placed = []
    for one in able:
        waiting = placement.waiting_bytes(one.account, one.quota, others, request.inflight)
        standing = placement.standing(
            one.account,
            one.quota,
            policy.killswitch.thresholds(one.account),
            waiting,
            request.body_bytes,
            request.model,
            now,
        )
        placed.append((placement.order_key(one.account, one.quota, standing), one, standing.note))
    placed.sort(key=lambda entry: entry[0])
    return [(one, Why.PLACED, note) for _, one, note in placed]
