"""Logging in headless, with a device code: the calls to the issuer, and the wait for the person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest

from accounts import oauth
from accounts.login import (
    LoginTimedOut,
    device_login,
)
from accounts.models import Secret
from accounts.oauth import DeviceCode, Grant, Issuer, OAuthError
from tests.scripted_issuer import (
    POLL,
    TOKEN,
    USERCODE,
    ScriptedIssuer,
    tokens,
)

pytest_plugins = ("tests.login_fixtures",)


# The calls


async def test_device_start_reads_the_code(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(USERCODE, 200, {"device_auth_id": "da_1", "user_code": "ABCD-1234", "interval": "7"})
    device = await issuer.device_start()
    assert (device.user_code, device.interval, device.expires_in) == ("ABCD-1234", 7.0, 900.0)
    assert device.url == script.url + "/codex/device"
    assert "da_1" not in repr(device)
    [request] = script.seen
    assert request.json == {"client_id": "app_EMoamEEZ73f0CkXaXp7hrann"}
    assert request.headers["user-agent"] == "tester/1"


@pytest.mark.parametrize(
    ("interval", "seconds"), [(None, 5), ("", 5), ("x", 5), ("0", 5), ("0.2", 1), (3, 3), ("12", 12)]
)
async def test_the_interval_is_a_string_with_a_floor(
    script: ScriptedIssuer, issuer: Issuer, interval: object, seconds: float
) -> None:
    script.answer(USERCODE, 200, {"device_auth_id": "d", "usercode": "U", "interval": interval})
    assert (await issuer.device_start()).interval == seconds


@pytest.mark.parametrize("life", [60, "60", 60.0])
async def test_the_life_of_a_code_is_a_number_or_a_string(
    script: ScriptedIssuer, issuer: Issuer, life: object
) -> None:
    script.answer(USERCODE, 200, {"device_auth_id": "d", "user_code": "U", "expires_in": life})
    assert (await issuer.device_start()).expires_in == 60.0


async def test_404_means_that_device_logins_are_not_enabled(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(USERCODE, 404, {})
    with pytest.raises(OAuthError, match="use `openai-auth login` without --headless") as caught:
        await issuer.device_start()
    assert caught.value.permanent


@pytest.mark.parametrize("body", [{}, {"user_code": "U"}, {"device_auth_id": "d"}, b"<html>"])
async def test_a_device_answer_without_code_fails(
    script: ScriptedIssuer, issuer: Issuer, body: object
) -> None:
    script.answer(USERCODE, 200, body)
    with pytest.raises(OAuthError, match="without a code"):
        await issuer.device_start()


async def device_poll(
    script: ScriptedIssuer, issuer: Issuer, status: int, body: object, retry_after: str = "0"
) -> object:
    script.answer(USERCODE, 200, {"device_auth_id": "da_1", "user_code": "ABCD"})
    script.answer(POLL, status, body, retry_after=retry_after)
    return await issuer.device_poll(await issuer.device_start())


async def test_an_approved_code_brings_the_issuers_verifier(script: ScriptedIssuer, issuer: Issuer) -> None:
    body = {"authorization_code": "ac_1", "code_challenge": "x", "code_verifier": "cv_1"}
    approved = await device_poll(script, issuer, 200, body)
    assert approved == oauth.Authorization(Secret("ac_1"), Secret("cv_1"))
    assert script.seen[-1].json == {"device_auth_id": "da_1", "user_code": "ABCD"}


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, {}), (404, {}), (403, {"error": "access_denied"}), (400, {"error": "authorization_pending"})],
)
async def test_403_and_404_mean_pending(
    script: ScriptedIssuer, issuer: Issuer, status: int, body: object
) -> None:
    assert await device_poll(script, issuer, status, body) is None


@pytest.mark.parametrize(
    ("status", "body", "code", "permanent"),
    [
        (401, {}, "access_denied", True),
        (400, {"error": "access_denied"}, "access_denied", True),
        (400, {"error": {"code": "expired_token"}}, "expired_token", True),
        (400, {"error": "slow_down"}, "slow_down", False),
        (403, {"error": {"code": "slow_down"}}, "slow_down", False),
        (429, {}, "slow_down", False),
        (400, {}, None, True),
        (503, {}, None, False),
        (200, {"authorization_code": "ac_1"}, None, True),
        (200, b"", None, True),
    ],
)
async def test_every_other_answer_to_a_poll_is_judged(
    script: ScriptedIssuer, issuer: Issuer, status: int, body: object, code: str | None, permanent: bool
) -> None:
    with pytest.raises(OAuthError) as caught:
        await device_poll(script, issuer, status, body)
    assert (caught.value.code, caught.value.permanent) == (code, permanent)
    assert "da_1" not in str(caught.value)


async def test_slow_down_carries_the_retry_after(script: ScriptedIssuer, issuer: Issuer) -> None:
    with pytest.raises(OAuthError) as caught:
        await device_poll(script, issuer, 429, {}, retry_after="20")
    assert caught.value.retry_after == 20


# The wait


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.on_sleep: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1
        self.now += seconds
        self.on_sleep()
        await asyncio.sleep(0)


APPROVED = {"authorization_code": "ac_1", "code_verifier": "cv_1"}


class Person:
    """Logs in headless and notes what was shown, and when it was polled."""

    def __init__(self, script: ScriptedIssuer, issuer: Issuer) -> None:
        self.script, self.issuer = script, issuer
        self.clock = Clock()
        self.codes: list[DeviceCode] = []
        self.left: list[float] = []
        self.polled_at: list[float] = []

    def started(self, **changes: object) -> None:
        body = {"device_auth_id": "da_1", "user_code": "ABCD-1234", "interval": "5"} | changes
        self.script.answer(USERCODE, 200, body)

    async def login(self) -> Grant:
        poll = self.issuer.device_poll

        async def noted(device: DeviceCode) -> object:
            self.polled_at.append(self.clock.now - 1000)
            return await poll(device)

        self.issuer.device_poll = noted  # type: ignore[method-assign, assignment]
        return await device_login(
            self.issuer,
            on_code=self.codes.append,
            on_progress=self.left.append,
            clock=self.clock,
            sleep=self.clock.sleep,
        )


@pytest.fixture
def person(script: ScriptedIssuer, issuer: Issuer) -> Person:
    return Person(script, issuer)


async def test_a_device_login_shows_the_code_polls_and_exchanges(person: Person) -> None:
    script = person.script
    person.started()
    script.answer(POLL, 403, {})
    script.answer(POLL, 404, {})
    script.answer(POLL, 200, APPROVED)
    script.answer(TOKEN, 200, tokens())
    grant = await person.login()
    assert grant.refresh == Secret("rt_new")
    [code] = person.codes
    assert (code.user_code, code.url) == ("ABCD-1234", script.url + "/codex/device")
    assert person.polled_at == [0, 5, 10]
    form = {name: values[0] for name, values in parse_qs(script.seen[-1].text).items()}
    assert form["redirect_uri"] == script.url + "/deviceauth/callback"
    assert (form["code"], form["code_verifier"]) == ("ac_1", "cv_1")


async def test_progress_is_the_time_left_every_second(person: Person) -> None:
    person.started(interval="3", expires_in="4")
    person.script.answer(POLL, 403, {})
    with pytest.raises(LoginTimedOut):
        await person.login()
    assert person.left == [4, 3, 2, 1]


async def test_a_code_that_nobody_enters_expires(person: Person) -> None:
    person.started(expires_in=12)
    person.script.answer(POLL, 403, {})
    with pytest.raises(LoginTimedOut, match=r"ABCD-1234 expired.*openai-auth login --headless"):
        await person.login()
    assert person.polled_at == [0, 5, 10]
    assert person.clock.now == 1012


async def test_a_code_lives_fifteen_minutes_by_default(person: Person) -> None:
    person.started(interval="300")
    person.script.answer(POLL, 403, {})
    with pytest.raises(LoginTimedOut):
        await person.login()
    assert person.clock.now == 1900


async def test_slow_down_makes_every_later_pause_longer(person: Person) -> None:
    person.started()
    person.script.answer(POLL, 400, {"error": "slow_down"})
    person.script.answer(POLL, 403, {})
    person.script.answer(POLL, 400, {"error": "slow_down"})
    person.script.answer(POLL, 200, APPROVED)
    person.script.answer(TOKEN, 200, tokens())
    await person.login()
    assert person.polled_at == [0, 10, 20, 35]


async def test_a_retry_after_is_waited_out(person: Person) -> None:
    person.started()
    person.script.answer(POLL, 429, {}, retry_after="42")
    person.script.answer(POLL, 200, APPROVED)
    person.script.answer(TOKEN, 200, tokens())
    await person.login()
    assert person.polled_at == [0, 42]


async def test_a_declined_login_ends_at_once(person: Person) -> None:
    person.started()
    person.script.answer(POLL, 401, {})
    with pytest.raises(OAuthError, match=r"declined.*openai-auth login"):
        await person.login()
    assert person.polled_at == [0]


async def test_an_expired_code_ends_at_once(person: Person) -> None:
    person.started()
    person.script.answer(POLL, 400, {"error": "expired_token"})
    with pytest.raises(OAuthError, match="expired"):
        await person.login()


async def test_hiccups_are_polled_through(person: Person) -> None:
    person.started()
    for status in (503, 500, 502):
        person.script.answer(POLL, status, b"")
    person.script.answer(POLL, 200, APPROVED)
    person.script.answer(TOKEN, 200, tokens())
    await person.login()
    assert person.polled_at == [0, 5, 10, 15]


async def test_a_lost_network_is_polled_through_and_named_in_the_end(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    person.started(expires_in=12)
    polled: list[float] = []

    async def cut(_device: DeviceCode) -> None:
        polled.append(person.clock.now - 1000)
        raise OAuthError("cannot be reached: check the network")

    monkeypatch.setattr(person.issuer, "device_poll", cut)
    with pytest.raises(LoginTimedOut, match="check the network"):
        await person.login()
    assert polled == [0, 5, 10]


async def test_a_hiccup_that_passed_is_not_named(person: Person) -> None:
    person.started(expires_in=8)
    person.script.answer(POLL, 503, b"")
    person.script.answer(POLL, 403, {})
    with pytest.raises(LoginTimedOut) as caught:
        await person.login()
    assert "503" not in str(caught.value)


async def test_a_disabled_device_login_shows_no_code(person: Person) -> None:
    person.script.answer(USERCODE, 404, b"")
    with pytest.raises(OAuthError, match="not enabled"):
        await person.login()
    assert person.codes == []


async def test_a_refused_exchange_fails_the_device_login(person: Person) -> None:
    person.started()
    person.script.answer(POLL, 200, APPROVED)
    person.script.answer(TOKEN, 403, {"error": {"message": "no"}})
    with pytest.raises(OAuthError, match="403: no"):
        await person.login()


async def test_a_device_login_can_be_cancelled_while_it_waits(person: Person) -> None:
    person.started()
    person.script.answer(POLL, 403, {})
    task = asyncio.create_task(person.login())
    person.clock.on_sleep = task.cancel
    with pytest.raises(asyncio.CancelledError):
        await task
    assert person.polled_at == [0]
