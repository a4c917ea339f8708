"""Polling: what is asked, of whom, how often, and what a failure does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from accounts import usage
from accounts.models import Account, AccountsError, LoginRequired, Quota, StoreDamaged, Window
from accounts.usage import BackgroundPoller, Polled, Poller
from accounts.wham import BackendError, Wham, retry_after
from tests.routing_world import account, roster
from tests.wham_server import NOW, Holds, Tokens, WhamServer, usage_answer

A, B, C = roster()
PATH = usage.PATH


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Saved(dict[str, Quota]):
    async def __call__(self, account: Account, quota: Quota) -> None:
        self[account.id] = quota


async def test_the_request_is_the_backends_and_the_name_is_ours() -> None:
    server = WhamServer({PATH: [usage_answer(42)]})
    async with server.running() as wham:
        quota = await usage.fetch(wham, await Tokens().access(A), now=NOW)
    assert quota.account_id == "chatgpt-a"
    assert [(each.minutes, each.used_percent, each.source) for each in quota.windows] == [(300, 42, "usage")]
    headers = server.asked[0].headers
    assert server.paths() == ["GET /wham/usage"]
    assert {
        "authorization": "Bearer a-0",
        "chatgpt-account-id": "chatgpt-a",
        "oai-client-platform": "web",
        "oai-client-version": "0",
        "x-openai-target-path": "/backend-api/wham/usage",
        "user-agent": "openai-auth-proxy/test",
    }.items() <= headers.items()


class TestFailures:
    async def refused(self, answer: object) -> BackendError:
        async with WhamServer({PATH: [answer]}).running() as wham:
            with pytest.raises(BackendError) as caught:
                await usage.fetch(wham, await Tokens().access(A), now=NOW)
        return caught.value

    @pytest.mark.parametrize(
        ("status", "transient"),
        [(400, False), (403, False), (429, True), (500, True), (503, True), (302, False)],
    )
    async def test_a_status(self, status: int, transient: bool) -> None:
        error = await self.refused(status)
        assert (error.status, error.transient) == (status, transient)

    async def test_retry_after_is_kept(self) -> None:
        async def later(request: web.Request) -> web.Response:
            return web.Response(status=429, headers={"retry-after": "7"})

        assert (await self.refused(later)).retry_after == 7

    @pytest.mark.parametrize("text", ["<html>", "[]", "", "null"])
    async def test_an_answer_that_is_no_json_object(self, text: str) -> None:
        async def page(request: web.Request) -> web.Response:
            return web.Response(text=text)

        error = await self.refused(page)
        assert (error.status, error.transient) == (None, True)

    async def test_nobody_listens(self) -> None:
        async with aiohttp.ClientSession() as http:
            wham = Wham(http, lambda: "http://127.0.0.1:9", user_agent=lambda: "x")
            with pytest.raises(BackendError) as caught:
                await usage.fetch(wham, await Tokens().access(A), now=NOW)
        assert caught.value.transient
        assert "a-0" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("1.2", 2),
        ("0", None),
        ("-3", None),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("Tue, 16 Jun 2026 08:53:21 GMT", 1),
        ("Tue, 16 Jun 2026 08:53:20 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("error", "failures", "seconds"),
    [
        (BackendError("x", 503), 1, 60),
        (BackendError("x", 503), 2, 120),
        (BackendError("x", 503), 4, 480),
        (BackendError("x", 503), 5, 900),
        (BackendError("x", None), 99, 900),
        (BackendError("x", 403), 1, 300),
        (BackendError("x", 403), 9, 300),
        (BackendError("x", 429, 7), 3, 7),
        (BackendError("x", 401), 3, math.inf),
        (LoginRequired("x"), 3, None),
    ],
)
def test_how_long_an_account_is_left_alone(
    error: AccountsError, failures: int, seconds: float | None
) -> None:
    assert usage.backoff_seconds(error, failures) == seconds


class TestPoller:
    async def test_accounts_are_asked_side_by_side(self) -> None:
        arrived = 0
        everybody = asyncio.Event()

        async def answer_when_all_are_here(request: web.Request) -> web.Response:
            nonlocal arrived
            arrived += 1
            if arrived == 3:
                everybody.set()
            await everybody.wait()
            return web.json_response(usage_answer())

        saved, seen = Saved(), list[Polled]()
        async with WhamServer({PATH: [answer_when_all_are_here]}).running() as wham:
            results = await Poller(wham, Tokens(), saved, Holds(), clock=Clock()).poll(
                [A, B, C], on_result=seen.append
            )
        assert [result.account for result in results] == [A, B, C]
        assert sorted(result.account.id for result in seen) == ["a", "b", "c"]
        assert {name: quota.account_id for name, quota in saved.items()} == {
            name: f"chatgpt-{name}" for name in "abc"
        }

    async def test_one_failure_is_a_result_and_stops_nobody(self) -> None:
        tokens = Tokens(dead={"b"})
        async with WhamServer({PATH: [usage_answer()]}).running() as wham:
            results = await Poller(wham, tokens, Saved(), Holds(), clock=Clock()).poll([A, B, C])
        assert [type(result.error) for result in results] == [type(None), LoginRequired, type(None)]
        assert results[1].quota is None

    async def test_a_token_that_is_refused_is_renewed_once(self) -> None:
        server = WhamServer({PATH: [401, usage_answer()]})
        async with server.running() as wham:
            (result,) = await Poller(wham, Tokens(), Saved(), Holds(), clock=Clock()).poll([A])
        assert result.error is None
        assert [each.headers["authorization"] for each in server.asked] == ["Bearer a-0", "Bearer a-1"]

    async def test_refused_twice_it_is_an_error(self) -> None:
        server = WhamServer({PATH: [401]})
        async with server.running() as wham:
            (result,) = await Poller(wham, Tokens(), Saved(), Holds(), clock=Clock()).poll([A])
        assert isinstance(result.error, BackendError)
        assert len(server.asked) == 2

    async def test_disabled_accounts_are_asked_on_demand_api_keys_never(self) -> None:
        people = [replace(A, enabled=False), account("k", 1, type="api_key")]
        async with WhamServer({PATH: [usage_answer()]}).running() as wham:
            results = await Poller(wham, Tokens(), Saved(), Holds(), clock=Clock()).poll(people)
        assert [result.account.id for result in results] == ["a"]


def seen(age: float, owner: str | None = "chatgpt-a") -> Quota:
    return Quota(owner, (Window(300, 5, NOW + 3600, NOW - age, "usage"),), seen_at=NOW - age)


class TestDue:
    @pytest.mark.parametrize(
        ("account", "quota", "due"),
        [
            (A, None, True),
            (A, seen(0), False),
            (A, seen(239), False),
            (A, seen(240), True),
            (A, seen(-5), True),
            (A, seen(0, "chatgpt-former"), True),
            (A, seen(0, None), True),
            (A, Quota("chatgpt-a", seen_at=NOW, complete=True), False),
            (A, Quota("chatgpt-a", plan="plus", seen_at=NOW), True),
            (A, replace(seen(240), seen_at=NOW), True),
            (A, Quota("chatgpt-a", (Window(300, 5, NOW, NOW - 9, "usage"),), seen_at=NOW - 9), True),
            (A, Quota("chatgpt-a", (Window(300, 5, NOW - 9, NOW, "usage"),), seen_at=NOW), False),
            (replace(A, enabled=False), None, False),
            (replace(A, login_error="log in again"), None, False),
            (account("k", 0, type="api_key"), None, False),
        ],
    )
    async def test_idle_usable_accounts_are(self, account: Account, quota: Quota | None, due: bool) -> None:
        async with WhamServer().running() as wham:
            poller = Poller(wham, Tokens(), Saved(), Holds(), clock=Clock())
            quotas = {account.id: quota} if quota else {}
            assert await poller.due([account], quotas) == ([account] if due else [])

    async def test_a_failing_account_is_left_alone_by_every_process_until_its_backoff_ends(self) -> None:
        clock, holds = Clock(), Holds()
        async with WhamServer({PATH: [503, 503, 503, 503, usage_answer()]}).running() as wham:
            first, second = (Poller(wham, Tokens(), Saved(), holds, clock=clock) for _ in range(2))
            for wait in (60, 120, 240, 480):
                await first.poll([A])
                assert await second.due([A], {}) == []
                clock.now += wait
                assert await second.due([A], {}) == [A]
            await first.poll([A])
            assert holds == {}

    @pytest.mark.parametrize("answer", [usage_answer(), 503, 401, 400])
    async def test_nobody_is_asked_again_within_the_interval_whatever_came_of_it(self, answer: Any) -> None:
        clock, renewed = Clock(), replace(A, generation=9)
        async with WhamServer({PATH: [answer]}).running() as wham:
            poller = Poller(wham, Tokens(), Saved(), Holds(), clock=clock)
            await poller.poll([A])
            clock.now += 239
            assert await poller.due([A, renewed], {}) == []

    async def test_a_lasting_401_is_left_alone_until_the_login_changes(self) -> None:
        clock, tokens = Clock(), Tokens()
        server = WhamServer({PATH: [401]})
        async with server.running() as wham:
            poller = Poller(wham, tokens, Saved(), Holds(), clock=clock)
            await poller.poll([A])
            assert [each.headers["authorization"] for each in server.asked] == ["Bearer a-0", "Bearer a-1"]
            clock.now += 9e6
            assert await poller.due([A, replace(A, generation=1)], {}) == []
            again = replace(A, generation=2)
            assert await poller.due([again], {}) == [again]

    async def test_a_reset_is_reason_to_ask_again(self) -> None:
        clock = Clock()
        async with WhamServer({PATH: [503]}).running() as wham:
            poller = Poller(wham, Tokens(), Saved(), Holds(), clock=clock)
            quotas = {"a": Quota("chatgpt-a", (Window(300, 5, NOW + 70, NOW, "usage"),), seen_at=NOW)}
            await poller.poll([A])
            clock.now += 69
            assert await poller.due([A], quotas) == []
            assert poller.until_reset([A], quotas) == 1
            clock.now += 1
            assert await poller.due([A], quotas) == [A]
            assert poller.until_reset([A], quotas) == math.inf


class Lease:
    """A lease that is ours, somebody else's, or broken."""

    def __init__(self, state: bool | AccountsError) -> None:
        self.state = state
        self.released = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[bool]:
        if isinstance(self.state, AccountsError):
            raise self.state
        try:
            yield self.state
        finally:
            self.released += 1


class TestBackground:
    @pytest.mark.parametrize(
        ("lease", "interval", "asked"),
        [
            (True, 300.0, 3),
            (False, 300.0, 0),
            (StoreDamaged("x"), 300.0, 3),
            (True, None, 0),
        ],
    )
    async def test_one_process_polls_and_a_broken_lease_stops_nobody(
        self, lease: bool | AccountsError, interval: float | None, asked: int
    ) -> None:
        server = WhamServer({PATH: [usage_answer()]})
        async with server.running() as wham:
            poller = Poller(wham, Tokens(), Saved(), Holds(), clock=Clock())
            background = BackgroundPoller(
                poller, lambda: ([A, B, C], {}), Lease(lease), interval=lambda: interval
            )
            await background.tick()
        assert len(server.asked) == asked

    async def test_the_lease_is_given_back_also_after_trouble(self) -> None:
        lease = Lease(True)

        def broken() -> tuple[list[Account], dict[str, Quota]]:
            raise RuntimeError("view")

        async with WhamServer().running() as wham:
            background = BackgroundPoller(Poller(wham, Tokens(), Saved(), Holds()), broken, lease)
            with pytest.raises(RuntimeError):
                await background.tick()
        assert lease.released == 1

    async def test_it_polls_at_once_at_resets_and_every_interval_with_one_jitter_and_survives_trouble(
        self,
    ) -> None:
        clock = Clock()
        naps: list[float] = []
        rounds, resets_at = 0, NOW + 120

        class Enough(Exception):
            pass

        async def sleep(seconds: float) -> None:
            naps.append(seconds)
            clock.now += seconds
            if len(naps) == 3:
                raise Enough

        def view() -> tuple[list[Account], dict[str, Quota]]:
            nonlocal rounds
            rounds += 1
            if rounds == 3:
                raise RuntimeError("view")
            return [A], {"a": Quota("chatgpt-a", (Window(300, 5, resets_at, 0, "usage"),), seen_at=0)}

        async with WhamServer({PATH: [503]}).running() as wham:
            background = BackgroundPoller(
                Poller(wham, Tokens(), Saved(), Holds(), clock=clock),
                view,
                Lease(True),
                sleep=sleep,
                draw=lambda: 1.0,
            )
            with pytest.raises(Enough):
                await background.run()
        assert naps == [pytest.approx(120), pytest.approx(330), pytest.approx(330)]
