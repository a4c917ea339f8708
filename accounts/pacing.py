"""Is the account ahead of the clock? And the few words and marks that show a window to people.

The one idea: a window that is 40 % over should be about 40 % used. The difference is a reserve or a
deficit, and the line through both tells when the window runs out.

The rule that must not be broken: say nothing rather than something wild. In the first minutes of a window,
without its length or its reset, there is no pace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from accounts.models import Window

State = Literal["on-pace", "reserve", "deficit"]

MIN_ELAPSED_SECONDS = 300.0
MIN_ELAPSED_SHARE = 0.01
ON_PACE_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How the use of a window stands against the time that has passed in it (percent of the window)."""

    percent: float
    """The share of the window's time that is over, 0–100: what would be used at an even pace."""
    delta: float
    """Used percent minus pace: above 0 a deficit, below 0 a reserve."""
    state: State
    runs_out_at: float | None
    """When the window is used up at this pace; None when it lasts until its reset."""


def pace(window: Window, now: float) -> Pace | None:
    """The pace of one window, or None while nothing sensible can be said."""
    if not window.minutes or window.resets_at is None:
        return None
    length = window.minutes * 60.0
    start = window.resets_at - length
    elapsed = now - start
    if elapsed < max(MIN_ELAPSED_SECONDS, MIN_ELAPSED_SHARE * length) or elapsed >= length:
        return None
    percent = 100 * elapsed / length
    delta = window.used_percent - percent
    runs_out: float | None = None
    if window.used_percent > 0:
        projected = start + 100 * elapsed / window.used_percent
        runs_out = projected if projected < window.resets_at else None
    state: State = "on-pace" if abs(delta) < ON_PACE_WITHIN else "deficit" if delta > 0 else "reserve"
    return Pace(percent, delta, state, runs_out)


def label(minutes: int | None) -> str:
    """A window's name by its length: `45m`, `5h`, `7d`, one decimal at most.

    `?` when the length is unknown.
    """
    if not minutes:
        return "?"
    if minutes < 60:
        return f"{minutes}m"
    if minutes < 1440:
        return f"{_short(minutes / 60)}h"
    return f"{_short(minutes / 1440)}d"


def countdown(seconds: float) -> str:
    """Time left, in the two units that matter: `now`, `4m`, `2h13m`, `3d4h`.

    A started minute counts as a whole one.
    """
    minutes = math.ceil(seconds / 60)
    if minutes <= 0:
        return "now"
    if minutes < 60:
        return f"{minutes}m"
    if minutes < 1440:
        return f"{minutes // 60}h{minutes % 60}m"
    return f"{minutes // 1440}d{minutes % 1440 // 60}h"


def bar(used_percent: float, width: int = 10, pace_percent: float | None = None) -> str:
    """A bar of `width` cells.

    Used `█`, free `░`, and the span between use and pace `▒` (reserve) or `▓` (deficit).
    """
    filled = _cells(used_percent, width)
    if pace_percent is None:
        return "█" * filled + "░" * (width - filled)
    even = _cells(pace_percent, width)
    low, high = sorted((filled, even))
    between = "▓" if filled > even else "▒"
    return "█" * low + between * (high - low) + "░" * (width - high)


def _cells(percent: float, width: int) -> int:
    return min(width, max(0, math.floor(percent * width / 100 + 0.5)))


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
