"""The simulation bench in small: what its table may claim, as assertions."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from accounts.routing import Mode, Policy
from tests.codex_fake.accounts import FIVE_HOURS, WEEK
from tests.simulation import POLICIES, START, Result, Simulation, simulate

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


def main_returns(policy: str, seed: int) -> Result:
    """Main is nearly used up at the start, and its window ends twenty minutes later."""
    simulation = Simulation(3, POLICIES[policy], seed)
    main = next(iter(simulation.fakes.values()))
    main.set_quota((98, FIVE_HOURS, START + 1200), (0, WEEK, START + 600_000))
    return asyncio.run(simulation.run(REQUESTS))


def test_keeping_conversations_saves_switches_and_cached_tokens_when_main_returns() -> None:
    kept = [main_returns("main-first", seed) for seed in SEEDS]
    moved = [main_returns("main-first, keepConversation off", seed) for seed in SEEDS]
    assert sum(each.switches for each in kept) < sum(each.switches for each in moved)
    assert sum(each.cached_share for each in kept) > sum(each.cached_share for each in moved)


def test_placing_conversations_by_quota_saves_most_switches() -> None:
    for seed in SEEDS:
        assert run(3, "sticky-balanced", seed).switches <= run(3, "main-first", seed).switches


def test_many_accounts_share_the_work_in_sticky_balanced() -> None:
    assert len(simulate(8, Policy(Mode.STICKY_BALANCED), REQUESTS).served_by) == 8


def test_one_seed_gives_one_result() -> None:
    assert simulate(3, POLICIES["main-first"], 200) == simulate(3, POLICIES["main-first"], 200)
