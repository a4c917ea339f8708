"""Which account a conversation lives on: pins, how long they hold, and where a new conversation goes.

The one idea: the backend's prompt cache belongs to an account, so moving a conversation costs its whole
prefix. A conversation is therefore *placed* once, on the account with the most quota per hour left for it,
and *pinned* there.

The rule that must not be broken: placement only puts accounts in order. Whether an account may serve at all
was decided before (`accounts.routing`), and a pin never brings back an account that may not.

Pure: no clock and no I/O. Pins live in the store under a hash of the session key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from accounts.killswitch import Thresholds
from accounts.models import Account, Quota
from accounts.quota import past_reset, seen_at, windows_for

CACHE_TTL_SECONDS = 5 * 60.0
LONG_CACHE_TTL_SECONDS = 30 * 60.0
"""Prompt-cache life as observed: five minutes, half an hour from gpt-5.6 on."""

PIN_LIFE_SECONDS = 7 * 24 * 3600.0
MAX_PINS = 256
STALE_SECONDS = 15 * 60.0
"""A snapshot older than this places nobody and moves nobody."""

_VERSION = re.compile(r"gpt-(\d{1,9})(?:\.(\d{1,9}))?")
_MIN_HOURS = 1 / 60
_MIN_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Pin:
    """One conversation's account."""

    account: str
    """Our id of the account."""
    account_id: str | None
    """Its ChatGPT id when the pin was made: after a login of somebody else the pin is void."""
    assigned_at: float
    last_seen_at: float
    input_bytes: int
    """The largest request body of the conversation on this account: what its next request will weigh."""
    quota_seen_at: float | None
    """The stamp of the snapshot that its last request was placed by."""
    model: str | None = None
    """The last one asked for: how warm its cache is, and which limit it counts against, depends on it."""

    @property
    def goes_on(self) -> bool:
        """Whether the conversation was on this account before its last request."""
        return self.last_seen_at > self.assigned_at


class Standing(NamedTuple):
    """What placement knows of one account: which group it belongs to, and what decides within the group."""

    group: int
    """0 weighted by a fresh snapshot, 1 unknown, 2 known to be at or below its reserve."""
    score: float
    """Group 0: bytes waiting per weight. Group 1: bytes waiting. The lowest goes first."""
    note: str


def cache_ttl(model: str | None) -> float:
    """Seconds that the backend keeps a prompt cached for this model."""
    match = _VERSION.match(model or "")
    if match and (int(match[1]), int(match[2] or 0)) >= (5, 6):
        return LONG_CACHE_TTL_SECONDS
    return CACHE_TTL_SECONDS


def holds(pin: Pin, account: Account, now: float) -> bool:
    """Whether the pin is this account's: same login, not expired (7 days without a request)."""
    same = pin.account_id is None or account.account_id is None or pin.account_id == account.account_id
    return pin.account == account.id and same and now - pin.last_seen_at <= PIN_LIFE_SECONDS


def is_warm(pin: Pin, model: str | None, now: float) -> bool:
    """Whether the conversation's prefix is still in the backend's cache."""
    return now - pin.last_seen_at <= cache_ttl(model)


def renew(
    pin: Pin | None, account: Account, quota: Quota | None, body_bytes: int, model: str | None, now: float
) -> Pin:
    """The pin to write when this account serves the conversation's next request."""
    stamp = seen_at(quota) if quota else None
    if pin is None or not holds(pin, account, now):
        return Pin(account.id, account.account_id, now, now, body_bytes, stamp, model)
    return Pin(
        account.id,
        account.account_id or pin.account_id,
        pin.assigned_at,
        now,
        max(body_bytes, pin.input_bytes),
        stamp,
        model or pin.model,
    )


def prune(
    pins: Mapping[str, Pin], now: float, *, keep: str | None = None, limit: int = MAX_PINS
) -> dict[str, Pin]:
    """The pins worth keeping.

    None expired, at most `limit`, the longest unseen dropped first, `keep` never.
    """
    alive = [
        item for item in pins.items() if item[0] == keep or now - item[1].last_seen_at <= PIN_LIFE_SECONDS
    ]
    alive.sort(key=lambda item: (item[0] != keep, -item[1].last_seen_at, item[0]))
    return dict(alive[: max(limit, 1)])


def waiting_bytes(
    account: Account, quota: Quota | None, pins: Iterable[Pin], inflight: Mapping[str, int]
) -> int:
    """Bytes sent to this account that its snapshot cannot know of yet.

    They are the conversations placed since the snapshot was taken, and the requests that still run: those
    are counted until they end, whatever the snapshot's age, because their cost is in no number.
    """
    stamp = seen_at(quota) if quota else None
    placed = sum(pin.input_bytes for pin in pins if pin.account == account.id and pin.quota_seen_at == stamp)
    return placed + inflight.get(account.id, 0)


def standing(
    account: Account,
    quota: Quota | None,
    reserve: Thresholds,
    waiting: int,
    body_bytes: int,
    model: str | None,
    now: float,
) -> Standing:
    """Where an account stands for a new conversation of `body_bytes`.

    A window with `s` percent left above the reserve weighs `s` per hour until its reset (at least a
    minute), or plainly `s` when no reset is ahead. The account weighs as little as its tightest window. An
    account that is known to be at its reserve stands behind one that is unknown: use only grows before a
    reset, so an old number still tells that much.
    """
    weights: list[float] = []
    for window in windows_for(quota, model):
        spare = max(0.0, window.remaining_percent - reserve.of(window.minutes))
        if window.resets_at is None or past_reset(window, now):
            if spare or window.resets_at is None:
                weights.append(spare)
            continue
        weights.append(spare / max((window.resets_at - now) / 3600, _MIN_HOURS))
    if weights and min(weights) <= 0:
        return Standing(2, 0.0, "at its reserve")
    if quota is None or not weights or now - seen_at(quota, model) > STALE_SECONDS:
        return Standing(1, float(waiting), "quota unknown")
    weight = min(weights)
    return Standing(
        0, max(waiting + body_bytes, 1) / max(weight, _MIN_WEIGHT), f"{weight:.3g}% per hour to spare"
    )


def order_key(account: Account, quota: Quota | None, place: Standing) -> tuple[int, bool, float, int, str]:
    """Sort key: the weighted by score.

    The others with a usable reset credit first, then by what waits for them.
    """
    plain = place.group == 0 or not _has_reset_credit(quota)
    return place.group, plain, place.score, account.position, account.id


def used_up(quota: Quota | None, model: str | None, now: float) -> bool:
    """Whether a fresh snapshot shows nothing left in some window.

    Then a pinned conversation looks for another place.
    """
    if quota is None or now - seen_at(quota, model) > STALE_SECONDS:
        return False
    return any(
        window.remaining_percent <= 0 and not past_reset(window, now) for window in windows_for(quota, model)
    )


def _has_reset_credit(quota: Quota | None) -> bool:
    """Applicable credits count, where the backend tells them apart from merely available ones."""
    if quota is None:
        return False
    count = quota.reset_credits_applicable
    return bool(quota.reset_credits if count is None else count)
