"""Access tokens: when they are refreshed, and by whom. The issuer is a real HTTP server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from accounts.models import (
    Access,
    Login,
    LoginRequired,
    RefreshFailed,
    Secret,
)
from accounts.tokens import JUST_RENEWED, LEASE
from tests.rotating_issuer import LIFE, jwt
from tests.tokens_bench import MINUTE, Bench, stored

pytest_plugins = ("tests.tokens_fixtures",)


# When


async def test_a_good_token_costs_no_request(bench: Bench) -> None:
    access = await bench.tokens.access(bench.account)
    assert access == Access((await stored(bench)).access, "acc-1", 1)
    assert bench.issuer.requests == []


@pytest.mark.parametrize(("left", "asked"), [(5 * MINUTE + 1, 0), (5 * MINUTE, 1), (-1.0, 1)])
async def test_a_request_refreshes_when_five_minutes_are_left(bench: Bench, left: float, asked: int) -> None:
    account = await bench.left(left)
    before = (await stored(bench)).access
    access = await bench.tokens.access(account)
    assert len(bench.issuer.requests) == asked
    assert (access.token != before) == bool(asked)


async def test_a_refresh_says_why(bench: Bench) -> None:
    await bench.tokens.access(await bench.left(0))
    bench.now += JUST_RENEWED
    await bench.tokens.renew(bench.account, Access((await stored(bench)).access, "acc-1"))
    assert [each["refresh_reason"] for each in bench.issuer.requests] == [
        "proactive_expiry",
        "unauthorized_recovery",
    ]


@pytest.mark.parametrize(("left", "asked"), [(241 * MINUTE, 0), (240 * MINUTE, 1)])
async def test_a_caller_can_ask_further_ahead(bench: Bench, left: float, asked: int) -> None:
    await bench.tokens.access(await bench.left(left), ahead=240 * MINUTE)
    assert len(bench.issuer.requests) == asked


async def test_short_lived_tokens_are_not_refreshed_ahead_over_and_over(bench: Bench) -> None:
    account = await bench.left(30 * MINUTE)
    held = await stored(bench)

    @dataclass(frozen=True)
    class Short:
        access = Secret(jwt("acc-1", bench.now + 30 * MINUTE, 7))
        refresh = Secret("rt|acc-1|0")
        expires_at = bench.now + 30 * MINUTE

    assert held.refresh_hash is not None
    await bench.store.rotate(account.id, held.refresh_hash, Short())
    for _ in range(3):
        await bench.tokens.access(account, ahead=240 * MINUTE)
    assert bench.issuer.requests == []
    bench.now += 25 * MINUTE
    await bench.tokens.access(account, ahead=240 * MINUTE)
    assert len(bench.issuer.requests) == 1


async def test_a_token_without_expiry_is_believed_for_eight_days(bench: Bench) -> None:
    account = await bench.left(None, "acc-2")
    bench.now += 8 * 24 * 60 * MINUTE
    await bench.tokens.access(account)
    assert bench.issuer.requests == []
    bench.now += 1
    await bench.tokens.access(account)
    assert len(bench.issuer.requests) == 1


async def test_an_api_key_is_its_own_token(bench: Bench) -> None:
    account, _ = await bench.store.add(Login("api_key", Secret("sk-1")))
    access = await bench.tokens.access(account, ahead=240 * MINUTE)
    assert access == Access(Secret("sk-1"), None, 1)
    with pytest.raises(LoginRequired, match="API key"):
        await bench.tokens.renew(account, access)
    assert bench.issuer.requests == []


# The 401


async def test_a_rejected_token_is_replaced(bench: Bench) -> None:
    rejected = await bench.tokens.access(bench.account)
    access = await bench.tokens.renew(bench.account, rejected)
    assert access.token == (await stored(bench)).access != rejected.token
    assert await bench.tokens.access(bench.account) == access


async def test_after_a_401_another_processs_token_is_taken_first(bench: Bench) -> None:
    rejected = await bench.tokens.access(bench.account)
    rotated = await bench.another_process().renew(bench.account, rejected)
    assert await bench.tokens.renew(bench.account, rejected) == rotated
    assert len(bench.issuer.requests) == 1


async def test_many_401s_at_once_cost_one_refresh(bench: Bench) -> None:
    rejected = await bench.tokens.access(bench.account)
    renewed = await asyncio.gather(*(bench.tokens.renew(bench.account, rejected) for _ in range(20)))
    assert len(set(renewed)) == 1
    assert len(bench.issuer.requests) == 1


# One at a time


async def test_callers_share_one_flight(bench: Bench) -> None:
    account = await bench.left(0)
    accesses = await asyncio.gather(*(bench.tokens.access(account) for _ in range(20)))
    assert len(set(accesses)) == 1
    assert len(bench.issuer.requests) == 1


async def test_a_caller_that_hangs_up_leaves_the_refresh_to_the_others(bench: Bench) -> None:
    account = await bench.left(0)
    bench.issuer.gate.clear()
    first = asyncio.ensure_future(bench.tokens.access(account))
    second = asyncio.ensure_future(bench.tokens.access(account))
    await bench.issuer.asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    bench.issuer.gate.set()
    assert (await second).token == (await stored(bench)).access
    assert len(bench.issuer.requests) == 1


async def test_a_token_that_nobody_waits_for_is_stored_all_the_same(bench: Bench) -> None:
    account = await bench.left(0)
    bench.issuer.gate.clear()
    only = asyncio.ensure_future(bench.tokens.access(account))
    await bench.issuer.asked.wait()
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    bench.issuer.gate.set()
    await bench.tokens.close()
    assert (await stored(bench)).refresh == Secret("rt|acc-1|1")


async def test_two_processes_ask_once(bench: Bench) -> None:
    account = await bench.left(0)
    both = await asyncio.gather(bench.tokens.access(account), bench.another_process().access(account))
    assert both[0] == both[1]
    assert len(bench.issuer.requests) == 1
    assert bench.issuer.reused == []


async def test_a_process_waits_ten_seconds_for_another_one(bench: Bench) -> None:
    account = await bench.left(-1)
    async with bench.store.lease(f"refresh {account.id}", LEASE):
        with pytest.raises(RefreshFailed, match="another process"):
            await bench.tokens.access(account)
    assert bench.slept == pytest.approx(10.0, abs=0.15)
    assert bench.issuer.requests == []


async def test_a_token_that_is_good_for_some_minutes_is_used_while_another_process_refreshes(
    bench: Bench,
) -> None:
    account = await bench.left(4 * MINUTE)
    async with bench.store.lease(f"refresh {account.id}", LEASE):
        assert (await bench.tokens.access(account)).token == (await stored(bench)).access


async def test_the_lease_of_a_killed_process_is_taken_over(bench: Bench) -> None:
    account = await bench.left(0)
    async with bench.store.lease(f"refresh {account.id}", 5.0):
        await bench.tokens.access(account)
    assert bench.slept == pytest.approx(5.0, abs=0.2)
    assert len(bench.issuer.requests) == 1


async def test_the_lease_is_given_back(bench: Bench) -> None:
    account = await bench.left(0)
    await bench.tokens.access(account)
    async with bench.store.lease(f"refresh {account.id}", LEASE) as free:
        assert free


async def test_a_new_login_is_seen_through_the_accounts_view(bench: Bench) -> None:
    await bench.tokens.access(bench.account)
    account = await bench.left(LIFE - 5)
    assert (await bench.tokens.access(account)).token == (await stored(bench)).access
