"""The killswitch: which account rests, at which number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accounts.killswitch import Killswitch, Thresholds, ends_at, violations
from accounts.models import Quota, Window
from accounts.routing import Mode, Policy
from tests.routing_world import DAY, HOUR, NOW, account, order, quota, reasons, roster, route

DEFAULTS = Thresholds()


def single(minutes: int | None, used: float, reset: float | None = HOUR) -> Quota:
    resets_at = None if reset is None else NOW + reset
    return Quota(None, (Window(minutes, used, resets_at, NOW, "headers"),), seen_at=NOW)


# Defaults: 5 % of windows up to a day, 10 % of longer ones; strict less-than.
@pytest.mark.parametrize(
    ("known", "blocked"),
    [
        (single(300, 95), False),
        (single(300, 95.1), True),
        (single(1440, 94), False),
        (single(1440, 96), True),
        (single(1441, 91), True),
        (single(10_080, 90), False),
        (single(10_080, 90.1), True),
        (single(43_200, 91), True),
        (single(None, 91), True),
        (single(300, 100, None), True),
        (single(300, 100, 0), False),
        (single(300, 100, -1), False),
        (quota(10, 95), True),
        (quota(99, 10), True),
        (quota(), False),
        (None, False),
    ],
)
def test_thresholds_are_remaining_percent_by_length(known: Quota | None, blocked: bool) -> None:
    policy = Policy(killswitch=Killswitch(enabled=True))
    decision = route(policy, roster(1), quotas={"a": known} if known else {})
    assert reasons(decision) == ({"a": "killswitch"} if blocked else {})
    assert bool(violations(known, DEFAULTS, NOW)) is blocked


def test_off_it_blocks_nothing() -> None:
    assert order(route(quotas={"a": quota(99, 99)})) == "abc"


@pytest.mark.parametrize("mode", list(Mode))
def test_it_blocks_also_when_nobody_else_is_left(mode: Mode) -> None:
    policy = Policy(mode=mode, killswitch=Killswitch(enabled=True))
    decision = route(policy, quotas={name: quota(96, 50) for name in "abc"}, session="s")
    assert order(decision) == ""
    assert set(reasons(decision).values()) == {"killswitch"}
    assert decision.retry_at == NOW + HOUR


# The most exact name wins; ids and labels keep their case.
@pytest.mark.parametrize(
    ("overrides", "name", "expected"),
    [
        ({}, "a", DEFAULTS),
        ({"main": Thresholds(1, 2)}, "a", Thresholds(1, 2)),
        ({"main": Thresholds(1, 2)}, "b", DEFAULTS),
        ({"b-id": Thresholds(1, 2)}, "b", Thresholds(1, 2)),
        ({"My Work": Thresholds(1, 2)}, "b", Thresholds(1, 2)),
        ({"my work": Thresholds(1, 2)}, "b", DEFAULTS),
        ({"chatgpt-b": Thresholds(1, 2)}, "b", Thresholds(1, 2)),
        ({"a-id": Thresholds(3, 4), "main": Thresholds(1, 2)}, "a", Thresholds(3, 4)),
        ({"b-id": Thresholds(3, 4), "My Work": Thresholds(1, 2)}, "b", Thresholds(3, 4)),
    ],
)
def test_thresholds_of_an_account(overrides: dict[str, Thresholds], name: str, expected: Thresholds) -> None:
    people = {
        "a": replace(account("a", 0), id="a-id", label=None),
        "b": replace(account("b", 1), id="b-id", label="My Work"),
    }
    assert Killswitch(True, accounts=overrides).thresholds(people[name]) == expected


def test_a_threshold_of_zero_never_blocks() -> None:
    assert not violations(quota(100, 100), Thresholds(0, 0), NOW)


@pytest.mark.parametrize(
    ("known", "end"),
    [
        (quota(99, 99), 2 * DAY),
        (quota(99, 10), HOUR),
        (quota(99, 99, long_reset=None), None),
        (quota(0, 0), None),
    ],
)
def test_it_ends_when_the_last_violating_window_resets(known: Quota, end: float | None) -> None:
    assert ends_at(violations(known, DEFAULTS, NOW)) == (None if end is None else NOW + end)
