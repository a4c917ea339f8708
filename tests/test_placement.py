"""Pins, and where a new conversation goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accounts import placement
from accounts.killswitch import Thresholds
from accounts.models import Account, Quota, Window
from tests.routing_world import DAY, HOUR, MINUTE, NOW, account, pin, quota

A = account("a", 0)
RESERVE = Thresholds(5, 10)


def stand(known: Quota | None, *, waiting: int = 0, body: int = 100) -> placement.Standing:
    return placement.standing(A, known, RESERVE, waiting, body, None, NOW)


# Score = bytes / (percent above the reserve per hour until the reset), by the tightest window.
@pytest.mark.parametrize(
    ("known", "score"),
    [
        (quota(45, short_reset=HOUR), 100 / 50),
        (quota(45, short_reset=2 * HOUR), 100 / 25),
        (quota(45, short_reset=None), 100 / 50),
        (quota(45, short_reset=-1), 100 / 50),
        (quota(45, short_reset=1), 100 / (50 * 60)),
        (quota(45, 50, long_reset=2 * DAY), 100 / (40 / 48)),
        (quota(45, 50, short_reset=HOUR, long_reset=HOUR / 2), 100 / 50),
    ],
)
def test_the_score_of_a_known_account(known: Quota, score: float) -> None:
    assert stand(known)[:2] == (0, pytest.approx(score))


@pytest.mark.parametrize(
    ("known", "group"),
    [
        (None, 1),
        (quota(), 1),
        (quota(10, age=15 * MINUTE), 0),
        (quota(10, age=15 * MINUTE + 1), 1),
        (quota(100, short_reset=-1), 1),
        (quota(95), 2),
        (quota(10, 90), 2),
        (quota(95, age=HOUR / 2), 2),
        (quota(100, short_reset=None), 2),
    ],
)
def test_known_before_unknown_before_used_up_to_the_reserve(known: Quota | None, group: int) -> None:
    assert stand(known).group == group


def test_numbers_of_one_model_make_those_of_the_plan_no_younger() -> None:
    spark = Window(300, 5, NOW + HOUR, NOW, "headers", "spark")
    old = quota(10, age=HOUR)
    known = replace(old, windows=(*old.windows, spark), seen_at=NOW)
    assert stand(known).group == 1
    assert placement.standing(A, known, RESERVE, 0, 100, "spark", NOW).group == 0
    assert not placement.used_up(
        replace(known, windows=(replace(old.windows[0], used_percent=100), spark)), None, NOW
    )


def test_waiting_bytes_make_an_account_less_attractive() -> None:
    assert stand(quota(45), waiting=900).score == pytest.approx(10 * stand(quota(45)).score)


def test_waiting_are_pins_of_the_current_snapshot_and_running_requests() -> None:
    pins = [
        pin("a", input_bytes=10, quota_seen_at=NOW),
        pin("a", input_bytes=20, quota_seen_at=NOW - 1),
        pin("b", input_bytes=40, quota_seen_at=NOW),
    ]
    assert placement.waiting_bytes(A, quota(1), pins, {"a": 100, "b": 200}) == 110


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"reset_credits": 1}, {}),
        ({"reset_credits": 1}, {"reset_credits": 5, "reset_credits_applicable": 0}),
        ({"reset_credits_applicable": 1}, {"reset_credits": 0}),
    ],
)
def test_among_the_unknown_a_usable_reset_credit_goes_first(
    first: dict[str, int], second: dict[str, int]
) -> None:
    def key(who: Account, counts: dict[str, int]) -> tuple[object, ...]:
        known = quota(**counts)
        return placement.order_key(who, known, placement.standing(who, known, RESERVE, 0, 1, None, NOW))

    assert key(account("z", 9), first) < key(A, second)


@pytest.mark.parametrize(
    ("model", "seconds"),
    [
        (None, 300),
        ("gpt-5.4", 300),
        ("gpt-5.3-codex-spark", 300),
        ("o3", 300),
        ("gpt-5.6", 1800),
        ("gpt-5.6-luna", 1800),
        ("gpt-5.10", 1800),
        ("gpt-6", 1800),
        pytest.param("gpt-" + "9" * 5000, 1800, id="more digits than int() takes"),
    ],
)
def test_how_long_the_backend_keeps_a_prompt(model: str | None, seconds: float) -> None:
    assert placement.cache_ttl(model) == seconds


def test_pins_are_pruned_by_age_and_number_but_never_the_current_one() -> None:
    pins = {str(age): pin("a", ago=age * DAY) for age in (0, 1, 2, 8)}
    assert list(placement.prune(pins, NOW)) == ["0", "1", "2"]
    assert list(placement.prune(pins, NOW, limit=2)) == ["0", "1"]
    assert list(placement.prune(pins, NOW, keep="8", limit=2)) == ["8", "0"]


def test_a_pin_of_unknown_identity_takes_the_one_that_served() -> None:
    renewed = placement.renew(pin("a", account_id=None), A, None, 5, None, NOW)
    assert renewed.account_id == "chatgpt-a"
