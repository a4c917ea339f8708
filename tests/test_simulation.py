"""The simulation bench in small: what its table may claim, as assertions."""

from __future__ import annotations

from functools import cache

import pytest

from accounts.routing import Mode, Policy
from tests.simulation import POLICIES, Result, simulate

REQUESTS = 600
SEEDS = (1, 2, 3)


@cache
def run(accounts: int, policy: str, seed: int = 1) -> Result:
    return simulate(accounts, POLICIES[policy], REQUESTS, seed)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("accounts", [1, 3])
def test_nobody_is_refused_while_an_account_has_quota(accounts: int, policy: str) -> None:
    for seed in SEEDS:
        assert run(accounts, policy, seed).in_vain == 0


def test_the_quota_moves_so_far_that_accounts_run_out() -> None:
    """Else the other assertions would say nothing."""
    assert sum(run(1, "main-first", seed).refused for seed in SEEDS) > 0
    assert sum(run(3, "main-first", seed).hidden for seed in SEEDS) > 0
    assert sum(run(3, "main-first", seed).switches for seed in SEEDS) > 0


def test_keeping_conversations_saves_switches_and_cached_tokens() -> None:
    kept = [run(3, "main-first", seed) for seed in SEEDS]
    moved = [run(3, "main-first, keepConversation off", seed) for seed in SEEDS]
    assert sum(each.switches for each in kept) < sum(each.switches for each in moved)
    assert sum(each.cached_tokens for each in kept) > sum(each.cached_tokens for each in moved)


def test_placing_conversations_by_quota_saves_most_switches() -> None:
    for seed in SEEDS:
        assert run(3, "sticky-balanced", seed).switches <= run(3, "main-first", seed).switches


def test_many_accounts_share_the_work_in_sticky_balanced() -> None:
    assert len(simulate(8, Policy(Mode.STICKY_BALANCED), REQUESTS).served_by) == 8


def test_one_seed_gives_one_result() -> None:
    assert simulate(3, POLICIES["main-first"], 200) == simulate(3, POLICIES["main-first"], 200)
