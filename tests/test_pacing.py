"""Pace of a window, and the words that show it."""

from __future__ import annotations

import pytest

from accounts import pacing
from accounts.models import Window

NOW = 1_781_600_000.0
LENGTH = 300 * 60.0


def window(used: float, elapsed: float, minutes: int | None = 300) -> Window:
    return Window(minutes, used, NOW - elapsed + (minutes or 300) * 60, NOW, "headers")


@pytest.mark.parametrize(
    ("used", "state", "delta"),
    [
        (50, "on-pace", 0),
        (50.9, "on-pace", 0.9),
        (51, "deficit", 1),
        (80, "deficit", 30),
        (49, "reserve", -1),
        (0, "reserve", -50),
    ],
)
def test_half_way_through(used: float, state: str, delta: float) -> None:
    found = pacing.pace(window(used, LENGTH / 2), NOW)
    assert found is not None
    assert found.percent == pytest.approx(50)
    assert found.delta == pytest.approx(delta)
    assert found.state == state


@pytest.mark.parametrize(
    ("used", "left"), [(80, 0.125 * LENGTH), (100, 0), (50, None), (20, None), (0, None)]
)
def test_when_it_runs_out(used: float, left: float | None) -> None:
    found = pacing.pace(window(used, LENGTH / 2), NOW)
    assert found is not None
    assert found.runs_out_at == (None if left is None else pytest.approx(NOW + left))


@pytest.mark.parametrize(
    "silent",
    [
        window(5, 299),
        window(5, 6000, minutes=10_080),
        window(5, LENGTH),
        window(5, -60),
        window(5, 6000, minutes=None),
        Window(300, 5, None, NOW, "headers"),
    ],
)
def test_no_pace_where_it_would_be_wild(silent: Window) -> None:
    assert pacing.pace(silent, NOW) is None


def test_five_minutes_or_one_percent_are_enough() -> None:
    assert pacing.pace(window(5, 300), NOW) is not None
    assert pacing.pace(window(5, 6048, minutes=10_080), NOW) is not None


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (45, "45m"),
        (60, "1h"),
        (90, "1.5h"),
        (300, "5h"),
        (1440, "1d"),
        (2000, "1.4d"),
        (10_080, "7d"),
        (43_200, "30d"),
        (None, "?"),
    ],
)
def test_a_window_is_called_by_its_length(minutes: int | None, text: str) -> None:
    assert pacing.label(minutes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "now"),
        (0, "now"),
        (1, "1m"),
        (60, "1m"),
        (61, "2m"),
        (3600, "1h0m"),
        (7980, "2h13m"),
        (86_400, "1d0h"),
        (273_600, "3d4h"),
    ],
)
def test_time_left(seconds: float, text: str) -> None:
    assert pacing.countdown(seconds) == text


@pytest.mark.parametrize(
    ("used", "even", "text"),
    [
        (0, None, "░░░░░░░░░░"),
        (44, None, "████░░░░░░"),
        (45, None, "█████░░░░░"),
        (100, None, "██████████"),
        (20, 50, "██▒▒▒░░░░░"),
        (50, 20, "██▓▓▓░░░░░"),
        (50, 50, "█████░░░░░"),
    ],
)
def test_a_bar_shows_reserve_and_deficit(used: float, even: float | None, text: str) -> None:
    assert pacing.bar(used, 10, even) == text
