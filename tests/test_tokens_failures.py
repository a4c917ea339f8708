"""Access tokens when the issuer refuses or the disk fails: no token is ever lost, and nobody is asked in vain."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import (
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
from accounts.tokens import JUST_RENEWED, Tokens
from tests.rotating_issuer import LIFE
from tests.tokens_bench import MINUTE, Bench, stored

pytest_plugins = ("tests.tokens_fixtures",)


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


async def test_a_renewed_token_that_is_refused_too_is_renewed_again_after_a_minute(bench: Bench) -> None:
    renewed = await bench.tokens.renew(bench.account, await bench.tokens.access(bench.account))
    for tokens in (bench.tokens, bench.another_process()):
        with pytest.raises(RefreshFailed, match="just renewed"):
            await tokens.renew(bench.account, renewed)
    assert len(bench.issuer.requests) == 1
    assert (await bench.store.accounts())[0].login_error is None
    bench.now += JUST_RENEWED
    assert (await bench.tokens.renew(bench.account, renewed)).token != renewed.token


async def test_a_renewed_token_that_is_revoked_is_the_end_of_the_login(bench: Bench) -> None:
    renewed = await bench.tokens.renew(bench.account, await bench.tokens.access(bench.account))
    with pytest.raises(LoginRequired, match="openai-auth login"):
        await bench.tokens.renew(bench.account, renewed, revoked=True)
    assert "log in again" in str((await bench.store.accounts())[0].login_error)
    bench.now += 30 * 24 * 60 * MINUTE
    with pytest.raises(LoginRequired):
        await bench.another_process().access(bench.account)
    assert len(bench.issuer.requests) == 1
    assert (await bench.left(LIFE)).login_error is None


async def test_a_revoked_token_that_is_not_fresh_is_renewed_first(bench: Bench) -> None:
    stale = await bench.tokens.access(bench.account)
    assert (await bench.tokens.renew(bench.account, stale, revoked=True)).token != stale.token


async def test_a_token_that_lives_for_seconds_is_renewed_when_it_has_ended(bench: Bench) -> None:
    bench.issuer.life = MINUTE / 2
    renewed = await bench.tokens.renew(bench.account, await bench.tokens.access(bench.account))
    bench.now = bench.issuer.now = bench.now + MINUTE / 2
    assert (await bench.tokens.renew(bench.account, renewed)).token != renewed.token


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
