"""What an account has left: snapshots put together, and the questions routing asks of them.

The one idea: every number carries the moment it was seen and the limit it counts for, so two snapshots can
be merged in any order, by any process, and the newest word on each window wins.

The rule that must not be broken: a stale number never overwrites a newer one, and numbers of one ChatGPT
account are never mixed with those of another.

A model with a limit of its own (`GPT-5.3-Codex-Spark`) is metered by that limit and not by the plan's;
every other model by the plan's own windows. `windows_for` makes that choice, and everything that judges an
account goes through it. A refusal marks one limit (`holds`), and no number is taken away for it: whether a mark
or a number is the newer word is asked each time, so nothing has to be deleted in the right order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from accounts.models import DEFAULT_LIMIT, Mark, Marks, Quota, Window
from accounts.quota_sources import EVENT_TYPE, from_frame, from_headers, from_usage

__all__ = [
    "DEFAULT_MARK_SECONDS",
    "EVENT_TYPE",
    "SKEW",
    "active_mark",
    "exhausted_until",
    "exhausted_windows",
    "from_frame",
    "from_headers",
    "from_usage",
    "holds",
    "limit_for",
    "mark_until",
    "merge",
    "past_reset",
    "refused_limit",
    "seen_at",
    "windows_for",
    "windows_of",
]

DEFAULT_MARK_SECONDS = 60.0
"""How long a limit signal holds that names no reset (the model project's value)."""
SKEW = 60.0
"""A stamp that lies further ahead (seconds) was made while the clock was wrong: it tells nothing."""

_WORD = re.compile(r"[^a-z0-9]+")


def merge(old: Quota | None, new: Quota) -> Quota:
    """Put a new snapshot on an old one; neither is changed. Ties in time go to the new one.

    Same identity: window by window, the newer number wins. A window that only one side has survives unless
    the other side is newer, complete, and speaks for that window's limit. Facts that came with one side
    only (plan, credits, reset credits, which only usage answers know) are kept. Another identity: the
    fresher snapshot replaces everything.
    """
    if old is None:
        return new
    newest, other = (new, old) if new.seen_at >= old.seen_at else (old, new)
    if old.account_id and new.account_id and old.account_id != new.account_id:
        return newest
    mine = {_key(window): window for window in other.windows}
    for window in newest.windows:
        known = mine.get(_key(window))
        if known is None or window.seen_at >= known.seen_at:
            mine[_key(window)] = window
    said = {_key(window) for window in newest.windows}
    windows = [window for key, window in mine.items() if key in said or not _retires(newest, window)]
    return Quota(
        account_id=newest.account_id or other.account_id,
        windows=tuple(sorted(windows, key=_order)),
        plan=newest.plan or other.plan,
        credits=newest.credits or other.credits,
        reset_credits=_first(newest.reset_credits, other.reset_credits),
        reset_credits_applicable=_first(newest.reset_credits_applicable, other.reset_credits_applicable),
        seen_at=newest.seen_at,
        complete=newest.complete,
    )


def windows_for(quota: Quota | None, model: str | None = None) -> tuple[Window, ...]:
    """The windows that a request for this model counts against.

    The model's own limit if it has one, else the plan's.
    """
    if quota is None:
        return ()
    if model:
        wanted = _slug(model)
        own = [
            window
            for window in quota.windows
            if window.limit_id != DEFAULT_LIMIT
            and wanted in (_slug(window.limit_name or ""), _slug(window.limit_id))
        ]
        if own:
            return tuple(own)
    return tuple(window for window in quota.windows if window.limit_id == DEFAULT_LIMIT)


def limit_for(quota: Quota | None, model: str | None = None) -> str:
    """The limit that a request for this model counts against."""
    return next(map(_limit, windows_for(quota, model)), DEFAULT_LIMIT)


def windows_of(quota: Quota | None, limit: str) -> tuple[Window, ...]:
    """The windows of one limit, as `limit_for` calls it."""
    return tuple(window for window in (quota.windows if quota else ()) if _limit(window) == limit)


def seen_at(quota: Quota, model: str | None = None) -> float:
    """When all numbers that count for this model were seen: the stamp of the oldest. 0 if there is none to see."""
    windows = windows_for(quota, model)
    return min((window.seen_at for window in windows), default=quota.seen_at if quota.complete else 0.0)


def past_reset(window: Window, now: float) -> bool:
    """Whether the number is from before the window's reset, and so says nothing about now."""
    return window.resets_at is not None and window.resets_at <= now


def exhausted_until(quota: Quota | None, now: float, model: str | None = None) -> float | None:
    """When an account that is used up by the numbers may serve again; None when it is not used up.

    Used up means 100 % or more of some window with a known future reset: without a reset nobody could say
    when to come back. With several such windows it is the last reset that frees the account.
    """
    return max((reset for _, reset in exhausted_windows(quota, now, model)), default=None)


def exhausted_windows(
    quota: Quota | None, now: float, model: str | None = None
) -> list[tuple[Window, float]]:
    """The used-up windows that count for this model, each with its future reset (epoch seconds)."""
    return _used_up(windows_for(quota, model), now)


def holds(mark: Mark, quota: Quota | None, now: float) -> bool:
    """Whether a mark still counts: its end lies ahead, and no number of its limit seen since shows room."""
    since = [each for each in windows_of(quota, mark.limit) if each.seen_at > mark.seen_at]
    disproved = bool(since) and all(window.used_percent < 100 for window in since)
    return mark.until > now and mark.seen_at <= now + SKEW and not disproved


def active_mark(
    marks: Marks, account: str, quota: Quota | None, now: float, model: str | None = None
) -> Mark | None:
    """What keeps an account (our id) from serving this model by a refusal's word, if anything."""
    mark = marks.get((account, limit_for(quota, model)))
    return mark if mark is not None and holds(mark, quota, now) else None


def refused_limit(quota: Quota | None, model: str, named: str | None) -> str:
    """The limit that a refusal is about.

    `named` is what `x-codex-active-limit` says: the id of a limit, or a word of the backend's own (`premium`) that
    no window is known by. Then it is the model's own limit if that is used up, else the plan's.
    """
    for window in quota.windows if quota and named else ():
        if _slug(named or "") in (_slug(window.limit_id), _slug(window.limit_name or "")):
            return _limit(window)
    used_up = any(window.used_percent >= 100 for window in windows_for(quota, model))
    return limit_for(quota, model) if used_up else DEFAULT_LIMIT


def mark_until(now: float, *, reset: float | None, label: str | None, windows: Sequence[Window]) -> float:
    """How long a limit signal holds (epoch seconds); `windows` are those of the limit it is about.

    `reset` is the signal's own, and wins when it lies ahead. A signal that names a slot (`primary`,
    `secondary`) borrows the reset of that window: the one that is used up, else the shortest or longest.
    Everything else holds for a minute; the reset of a window that was not named is never borrowed.
    """
    if reset is not None and reset > now:
        return reset
    if label in ("primary", "secondary"):
        if used_up := _used_up(windows, now):
            return max(reset for _, reset in used_up)
        known = sorted((window for window in windows if window.minutes), key=_order)
        if known:
            named = known[0] if label == "primary" else known[-1]
            if named.resets_at is not None and named.resets_at > now:
                return named.resets_at
    return now + DEFAULT_MARK_SECONDS


def _used_up(windows: Sequence[Window], now: float) -> list[tuple[Window, float]]:
    return [
        (window, window.resets_at)
        for window in windows
        if window.used_percent >= 100 and window.resets_at is not None and window.resets_at > now
    ]


def _retires(speaker: Quota, window: Window) -> bool:
    """Whether a snapshot that does not have this window says that it is gone.

    Headers and frames speak for the plan's own limit and for the limits they name; a usage answer speaks
    for all. What a snapshot says itself are the windows as new as it is: older ones were merged into it.
    """
    if not speaker.complete or speaker.seen_at < window.seen_at:
        return False
    said = [own for own in speaker.windows if own.seen_at == speaker.seen_at]
    return (
        window.limit_id == DEFAULT_LIMIT
        or any(own.source == "usage" for own in said)
        or any(_limit(own) == _limit(window) for own in said)
    )


def _limit(window: Window) -> str:
    """One name for one limit: the sources call a per-model limit by id or by name, not always by both."""
    if window.limit_id == DEFAULT_LIMIT:
        return DEFAULT_LIMIT
    return _slug(window.limit_name or window.limit_id)


def _key(window: Window) -> tuple[str, int | None]:
    return _limit(window), window.minutes


def _order(window: Window) -> tuple[bool, str, int]:
    return window.limit_id != DEFAULT_LIMIT, window.limit_id, window.minutes or 0


def _slug(name: str) -> str:
    return _WORD.sub("-", name.lower()).strip("-")


def _first(newer: int | None, older: int | None) -> int | None:
    return older if newer is None else newer
