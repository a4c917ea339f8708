"""The three places where the backend says what an account has left, read into one `Quota`.

They are the `x-*` headers of every answer, the `codex.rate_limits` event of a stream, and the usage
endpoint. The one idea: a window is known by its length and by the limit it counts for, never by the slot it
was sent in. Some plans have a weekly window in the primary slot, some have one window only, and a retired
slot is sent as zeros or null.

The rule that must not be broken: never invent a number. A value out of range, text where a number belongs,
or a slot that says nothing yields no window, and then the snapshot is not *complete* either, so it cannot
retire a window that we know.

Everything here is pure: `now` (epoch seconds) is passed in, and `account_id` is the ChatGPT account id of
the request that brought the numbers, as it was when that request was sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from accounts.models import DEFAULT_LIMIT, Credits, Quota, Source, Window

SLOTS = ("primary", "secondary")
EVENT_TYPE = "codex.rate_limits"

MILLISECONDS_FROM = 1e11
"""A time below this many units since 1970 is in seconds, from here on in milliseconds."""
_LAST_MOMENT = 253_402_300_800.0  # the end of year 9999: a later "time" is garbage

_USED_HEADER = re.compile(r"x-(?P<limit>[a-z0-9_.-]+?)-(?:primary|secondary)-used-percent")
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})


class _Invalid(Exception):
    """A slot says something that cannot be right."""


def from_headers(headers: Mapping[str, str], *, now: float, account_id: str | None) -> Quota | None:
    """Read the rate-limit headers of an HTTP answer, successful or not; None when there are none.

    Every family `x-<limit>-primary-used-percent` is read; `-` in a limit's name becomes `_` in its id
    (official client). A family with an invalid used percent yields no window at all. A window exists only
    if something besides a zero says so: a length or a reset. The snapshot is complete when both slots of
    the plan's own limit are named and understood: an answer that mentions one slot only does not say that
    the other one is gone.
    """
    values = {name.lower(): value.strip() for name, value in headers.items()}
    limits = sorted({match["limit"] for name in values if (match := _USED_HEADER.fullmatch(name))})
    windows: list[Window] = []
    complete = False
    for limit in limits:
        found, understood = _header_family(values, limit, now)
        windows.extend(found)
        if limit == DEFAULT_LIMIT:
            complete = understood
    credits = _header_credits(values)
    plan = values.get("x-codex-plan-type") or None
    if not windows and not complete and credits is None and plan is None:
        return None
    return Quota(account_id, _unique(windows), plan, credits, seen_at=now, complete=complete)


def from_frame(event: Mapping[str, Any], *, now: float, account_id: str | None) -> Quota | None:
    """Read a `codex.rate_limits` event; None when it carries nothing.

    `additional_rate_limits` may be an object keyed by model name or a list. A gone window is null. A frame
    without any window of the limit it speaks for is never complete: it would wipe what we know and put
    nothing in its place.
    """
    limit = _text(event.get("metered_limit_name")) or _text(event.get("limit_name")) or DEFAULT_LIMIT
    own, understood = _slots(event.get("rate_limits"), limit, _text(event.get("limit_name")), now, "frame")
    windows = own + _additional(event.get("additional_rate_limits"), now, "frame")
    credits, plan = _credits(event.get("credits")), _text(event.get("plan_type"))
    if not windows and credits is None and plan is None:
        return None
    complete = understood and bool(own) and limit == DEFAULT_LIMIT
    return Quota(account_id, _unique(windows), plan, credits, seen_at=now, complete=complete)


def from_usage(answer: Mapping[str, Any], *, now: float, account_id: str | None) -> Quota:
    """Read an answer of the usage endpoint. Lengths are in seconds there; every member but the plan may be
    missing.

    An answer whose `rate_limit` is an object is complete, also when both windows in it are null. Reset
    credits are taken only as real JSON numbers: null or text means unknown, not 0.
    """
    own, understood = _slots(answer.get("rate_limit"), DEFAULT_LIMIT, None, now, "usage")
    resets = answer.get("rate_limit_reset_credits")
    counts: Mapping[str, Any] = resets if isinstance(resets, Mapping) else {}
    return Quota(
        account_id or _text(answer.get("account_id")),
        _unique(own + _additional(answer.get("additional_rate_limits"), now, "usage")),
        _text(answer.get("plan_type")),
        _credits(answer.get("credits")),
        reset_credits=_count(counts.get("available_count")),
        reset_credits_applicable=_count(counts.get("applicable_available_count")),
        seen_at=now,
        complete=understood,
    )


def moment(value: object) -> float | None:
    """A reset time as epoch seconds, or None.

    Seconds, milliseconds, numeric text or a date, as the backend pleases.
    """
    if isinstance(value, str):
        text = value.strip()
        number = _number(text)
        if number is None:
            return _date(text)
    else:
        number = _json_number(value)
    if number is None:
        return None
    seconds = number if abs(number) < MILLISECONDS_FROM else number / 1000
    return seconds if 0 <= seconds < _LAST_MOMENT else None


# --- headers ------------------------------------------------------------------------------------------------


def _header_family(values: Mapping[str, str], limit: str, now: float) -> tuple[list[Window], bool]:
    """The windows of one family, and whether both of its slots were named and understood."""
    limit_id = limit.replace("-", "_")
    name = None if limit_id == DEFAULT_LIMIT else values.get(f"x-{limit}-limit-name") or None
    windows: list[Window] = []
    understood = True
    for slot in SLOTS:
        prefix = f"x-{limit}-{slot}"
        text = values.get(f"{prefix}-used-percent")
        if text is None:
            understood = False
            continue
        used = _number(text)
        if used is None or not 0 <= used <= 100:
            return [], False
        minutes = _number(values.get(f"{prefix}-window-minutes", ""))
        reset = moment(values.get(f"{prefix}-reset-at", ""))
        if reset is None:
            reset = _after(_number(values.get(f"{prefix}-reset-after-seconds", "")), now, used, minutes)
        if used or minutes or reset:
            windows.append(Window(_length(minutes), used, reset, now, "headers", limit_id, name))
        elif minutes is None:
            understood = False  # a lone zero is neither a window nor the end of one
    return windows, understood


def _header_credits(values: Mapping[str, str]) -> Credits | None:
    has, unlimited = (
        _flag(values.get(f"x-codex-credits-{name}", "")) for name in ("has-credits", "unlimited")
    )
    if has is None or unlimited is None:
        return None
    return Credits(has, unlimited, values.get("x-codex-credits-balance") or None)


def _flag(text: str) -> bool | None:
    lowered = text.lower()
    return True if lowered in _TRUE else False if lowered in _FALSE else None


# --- JSON ---------------------------------------------------------------------------------------------------


def _slots(
    limits: object, limit_id: str, name: str | None, now: float, source: Source
) -> tuple[list[Window], bool]:
    """The windows of one limit object, and whether everything in it was understood."""
    if not isinstance(limits, Mapping):
        return [], False
    windows: list[Window] = []
    understood, named = True, False
    for slot in SLOTS:
        key = f"{slot}_window" if f"{slot}_window" in limits else slot
        named = named or key in limits
        try:
            window = _window(limits.get(key), limit_id, name, now, source)
        except _Invalid:
            understood = False
            continue
        if window:
            windows.append(window)
    return windows, understood and named


def _window(value: object, limit_id: str, name: str | None, now: float, source: Source) -> Window | None:
    """One slot: a window, or None when it is gone. Only `used_percent` must be there."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _Invalid
    used = _json_number(value.get("used_percent"))
    if used is None or not 0 <= used <= 100:
        raise _Invalid
    minutes = _json_number(value.get("window_minutes"))
    if minutes is None and (seconds := _json_number(value.get("limit_window_seconds"))) is not None:
        minutes = seconds / 60
    reset = moment(value.get("reset_at"))
    if reset is None:
        reset = _after(_json_number(value.get("reset_after_seconds")), now, used, minutes)
    if not used and not _length(minutes) and not reset:
        return None
    return Window(_length(minutes), used, reset, now, source, limit_id, name)


def _additional(value: object, now: float, source: Source) -> list[Window]:
    """Windows of the per-model limits, from an object keyed by name or from a list.

    A broken entry is passed over.
    """
    windows: list[Window] = []
    for limit_id, name, limits in _additional_limits(value):
        nested = limits.get("rate_limit")
        found, _ = _slots(nested if isinstance(nested, Mapping) else limits, limit_id, name, now, source)
        windows.extend(found)
    return windows


def _additional_limits(value: object) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
    entries: list[tuple[str | None, object]] = []
    if isinstance(value, Mapping):
        entries = [(_text(key), entry) for key, entry in value.items()]
    elif isinstance(value, list):
        entries = [(None, entry) for entry in value]
    for key, entry in entries:
        if not isinstance(entry, Mapping):
            continue
        name = _text(entry.get("limit_name")) or key
        limit_id = _text(entry.get("metered_feature")) or _text(entry.get("metered_limit_name")) or name
        if limit_id and limit_id != DEFAULT_LIMIT:
            yield limit_id, name, entry


def _credits(value: object) -> Credits | None:
    if not isinstance(value, Mapping):
        return None
    has, unlimited = value.get("has_credits"), value.get("unlimited")
    if not isinstance(has, bool) or not isinstance(unlimited, bool):
        return None
    balance = value.get("balance")
    number = _json_number(balance)
    return Credits(has, unlimited, _text(balance) if number is None else f"{number:g}")


# --- values -------------------------------------------------------------------------------------------------


def _unique(windows: list[Window]) -> tuple[Window, ...]:
    """At most one window for each limit and length: of two with one length the fuller one binds."""
    best: dict[tuple[str, int | None], Window] = {}
    for window in windows:
        key = (window.limit_id, window.minutes)
        if key not in best or window.used_percent > best[key].used_percent:
            best[key] = window
    return tuple(best.values())


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _json_number(value: object) -> float | None:
    """A real JSON number; true, text and NaN are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _count(value: object) -> int | None:
    number = _json_number(value)
    return int(number) if number is not None and number >= 0 else None


def _length(minutes: float | None) -> int | None:
    return round(minutes) or None if minutes is not None and minutes > 0 else None


def _after(seconds: float | None, now: float, used: float, minutes: float | None) -> float | None:
    """A reset given as a distance; a retired slot counts down from nothing, so its zero is no reset."""
    if seconds is None or seconds < 0 or not (used or minutes or seconds):
        return None
    return now + seconds


def _date(text: str) -> float | None:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    seconds = parsed.timestamp()
    return seconds if 0 <= seconds < _LAST_MOMENT else None
