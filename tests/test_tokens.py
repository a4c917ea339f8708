"""Access tokens: when they are refreshed, by whom, and that none is ever lost. The issuer is a real HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from accounts.models import (
    Access,
    Account,
    Credentials,
    Login,
    LoginRequired,
    NoSuchAccount,
    RefreshFailed,
    Secret,
    StoreUnavailable,
)
from accounts.oauth import OAuthError
from accounts.store import Store
from accounts.tokens import LEASE, Tokens
from tests.rotating_issuer import LIFE, START, RotatingIssuer, jwt

MINUTE = 60.0


@dataclass
class Bench:
    """A store with one account, an issuer, and time that only moves when told."""

    store: Store
    issuer: RotatingIssuer
    tokens: Tokens
    account: Account
    now: float = START
    slept: float = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds
        await asyncio.sleep(0)

    def another_process(self) -> Tokens:
        """Tokens without the memory of the first ones."""
        return Tokens(self.store, self.issuer.client, self.clock, self.sleep)

    async def left(self, seconds: float | None, account: str = "acc-1") -> Account:
        """Logs in again with a token that has so long to live."""
        expires_at = None if seconds is None else self.now + seconds
        token = Secret(jwt(account, expires_at or 0, serial=-1))
        refresh = Secret(f"rt|{account}|{self.issuer.serials.get(account, 0)}")
        stored, _ = await self.store.add(Login("oauth", token, refresh, expires_at, account))
        return stored


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with RotatingIssuer() as issuer, await Store.open(tmp_path, keyring=False) as store:
        bench = Bench(store, issuer, None, None)  # type: ignore[arg-type]
        store.clock = bench.clock
        bench.tokens = bench.another_process()
        bench.account = await bench.left(LIFE)
        yield bench


async def stored(bench: Bench) -> Credentials:
    return await bench.store.credentials(bench.account.id)


# When


async def test_a_good_token_costs_no_request(bench: Bench) -> None:
    access = await bench.tokens.access(bench.account)
    assert access == Access((await stored(bench)).access, "acc-1")
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
    assert access == Access(Secret("sk-1"), None)
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


# What the issuer says


async def test_an_answer_without_a_refresh_token_keeps_the_old_one(bench: Bench) -> None:
    bench.issuer.keep_refresh_token = True
    for _ in range(2):
        await bench.tokens.access(await bench.left(0))
    assert (await stored(bench)).refresh == Secret("rt|acc-1|0")
    assert len(bench.issuer.requests) == 2


PERMANENT: list[tuple[int, dict[str, Any]]] = [
    (401, {"error": {"code": "refresh_token_expired"}}),
    (401, {"error": {"code": "refresh_token_reused"}}),
    (401, {"error": {"code": "refresh_token_invalidated"}}),
    (401, {}),
    (400, {"error": "invalid_grant"}),
]


@pytest.mark.parametrize(("status", "answer"), PERMANENT)
async def test_a_dead_login_is_asked_about_once_until_someone_logs_in(
    bench: Bench, status: int, answer: dict[str, Any]
) -> None:
    account = await bench.left(-1)
    bench.issuer.failures = [(status, answer, {})]
    for tokens in (bench.tokens, bench.tokens, bench.another_process()):
        with pytest.raises(LoginRequired, match="openai-auth login"):
            await tokens.access(account)
        bench.now += 30 * 24 * 60 * MINUTE
    assert len(bench.issuer.requests) == 1
    assert "log in again" in str((await bench.store.accounts())[0].login_error)
    account = await bench.left(-1)
    assert (await bench.tokens.access(account)).token == (await stored(bench)).access


TRANSIENT: list[tuple[int, dict[str, Any]]] = [
    (429, {}),
    (500, {}),
    (503, {"error": "server_error"}),
    (403, {}),
    (400, {"error": "invalid_request"}),
]


@pytest.mark.parametrize(("status", "answer"), TRANSIENT)
async def test_a_passing_failure_is_tried_again_after_five_minutes(
    bench: Bench, status: int, answer: dict[str, Any]
) -> None:
    account = await bench.left(-1)
    bench.issuer.failures = [(status, answer, {})]
    with pytest.raises(RefreshFailed) as refused:
        await bench.tokens.access(account)
    assert refused.value.retry_at == bench.now + 5 * MINUTE
    bench.now += 5 * MINUTE - 1
    with pytest.raises(RefreshFailed):
        await bench.another_process().access(account)
    assert len(bench.issuer.requests) == 1
    bench.now += 1
    await bench.tokens.access(account)
    assert (await bench.store.refresh_error(account.id)) is None
    assert (await bench.store.accounts())[0].login_error is None


async def test_the_pauses_grow_to_an_hour(bench: Bench) -> None:
    account = await bench.left(-1)
    bench.issuer.failures = [(500, {}, {})] * 7
    pauses = []
    for _ in range(7):
        with pytest.raises(RefreshFailed) as refused:
            await bench.tokens.access(account)
        assert refused.value.retry_at is not None
        pauses.append((refused.value.retry_at - bench.now) / MINUTE)
        bench.now = refused.value.retry_at
    assert pauses == [5, 10, 20, 40, 60, 60, 60]


async def test_the_issuers_own_pause_wins(bench: Bench) -> None:
    bench.issuer.failures = [(429, {}, {"retry-after": "17"})]
    with pytest.raises(RefreshFailed) as refused:
        await bench.tokens.access(await bench.left(-1))
    assert refused.value.retry_at == bench.now + 17


async def test_an_issuer_that_cannot_be_reached_is_tried_again_soon(bench: Bench) -> None:
    class Unreachable:
        async def refresh(self, *_: object, **__: object) -> Any:
            raise OAuthError("the network is down")

    account = await bench.left(-1)
    with pytest.raises(RefreshFailed) as refused:
        await Tokens(bench.store, Unreachable(), bench.clock, bench.sleep).access(account)
    assert refused.value.retry_at == bench.now + 30


@pytest.mark.parametrize("status", [500, 401])
async def test_a_refresh_ahead_of_time_that_fails_leaves_the_old_token_in_use(
    bench: Bench, status: int
) -> None:
    account = await bench.left(4 * MINUTE)
    bench.issuer.failures = [(status, {}, {})]
    before = (await stored(bench)).access
    for _ in range(2):
        assert (await bench.tokens.access(account)).token == before
    assert len(bench.issuer.requests) == 1


async def test_after_a_401_a_refresh_that_fails_is_an_error(bench: Bench) -> None:
    rejected = await bench.tokens.access(bench.account)
    bench.issuer.failures = [(500, {}, {})]
    with pytest.raises(RefreshFailed):
        await bench.tokens.renew(bench.account, rejected)


async def test_no_token_is_part_of_an_error(bench: Bench) -> None:
    account = await bench.left(-1)
    bench.issuer.failures = [(401, {"error": {"code": "x", "message": "bad rt|acc-1|0"}}, {})]
    with pytest.raises(LoginRequired) as refused:
        await bench.tokens.access(account)
    assert "rt|" not in str(refused.value)


async def test_a_login_without_a_refresh_token_ends_with_its_token(bench: Bench) -> None:
    account, _ = await bench.store.add(Login("oauth", Secret("t"), None, bench.now + 1, "acc-9"))
    await bench.tokens.access(account)
    bench.now += 2
    with pytest.raises(LoginRequired, match="no refresh token"):
        await bench.tokens.access(account)


async def test_an_account_that_was_removed_is_gone(bench: Bench) -> None:
    account = await bench.left(0)
    await bench.store.remove("main")
    with pytest.raises(NoSuchAccount):
        await bench.tokens.access(account)


# The disk


class FailingDisk:
    """Makes `Store.rotate` fail so many times."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.left, self.rotate = times, store.rotate
        monkeypatch.setattr(store, "rotate", self)

    async def __call__(self, *args: Any) -> Credentials:
        if self.left:
            self.left -= 1
            raise StoreUnavailable("the disk is full")
        return await self.rotate(*args)


async def test_a_new_token_is_written_in_three_attempts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await bench.left(-1)
    FailingDisk(bench.store, monkeypatch, 2)
    assert (await bench.tokens.access(account)).token == (await stored(bench)).access


async def test_a_new_token_that_cannot_be_written_is_not_used_and_not_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await bench.left(-1)
    disk = FailingDisk(bench.store, monkeypatch, 7)
    for _ in range(2):
        with pytest.raises(RefreshFailed, match="kept in memory"):
            await bench.tokens.access(account)
    assert (await stored(bench)).refresh == Secret("rt|acc-1|0")
    assert await bench.store.refresh_error(account.id) is None
    access = await bench.tokens.access(account)
    assert disk.left == 0
    assert len(bench.issuer.requests) == 1
    assert access.token == (await stored(bench)).access
    assert (await stored(bench)).refresh == Secret("rt|acc-1|1")


async def test_an_unwritten_token_is_written_later_without_a_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await bench.left(4 * MINUTE)
    before = (await stored(bench)).access
    FailingDisk(bench.store, monkeypatch, 6)
    assert (await bench.tokens.access(account)).token == before
    with pytest.raises(RefreshFailed):
        await bench.tokens.save_unsaved()
    await bench.tokens.save_unsaved()
    assert (await stored(bench)).refresh == Secret("rt|acc-1|1")
    await bench.tokens.save_unsaved()
    assert len(bench.issuer.requests) == 1
