"""Both logins, a refresh and a logout against the fake issuer and its pages, over real sockets throughout."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from accounts.login import LoginDenied, browser_login, device_login
from accounts.models import Secret
from accounts.oauth import DeviceCode, Grant, Issuer, OAuthError
from tests.codex_fake import CodexFake


@pytest.fixture
async def fake() -> AsyncIterator[CodexFake]:
    async with CodexFake() as fake:
        fake.issuer.lenient_ports = True
        fake.account("acct-main", plan="plus", email="main@example.com")
        yield fake


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.fixture
def issuer(fake: CodexFake, http: aiohttp.ClientSession) -> Issuer:
    return Issuer(http, fake.issuer_url)


class Person:
    """Opens the page a login shows, presses a button there, and reads what comes."""

    def __init__(self, decision: str) -> None:
        self.decision = decision
        self.walk: asyncio.Task[str] | None = None

    def on_url(self, url: str) -> None:
        self.walk = asyncio.create_task(self.press(url))

    async def press(self, url: str, **typed: str) -> str:
        async with aiohttp.ClientSession() as browser:
            async with browser.get(url) as response:
                page = await response.text()
            fields = dict(re.findall(r"<input type='hidden' name='([^']*)' value='([^']*)'", page))
            form = {name: html.unescape(value) for name, value in fields.items()}
            async with browser.post(
                url.partition("?")[0], data=form | typed | {"decision": self.decision}
            ) as response:
                return await response.text()

    async def page(self) -> str:
        assert self.walk is not None
        return await self.walk


async def log_in(issuer: Issuer) -> Grant:
    person = Person("approve")
    return await browser_login(issuer, on_url=person.on_url, open_browser=False, ports=(0,))


async def test_a_browser_login(issuer: Issuer) -> None:
    person = Person("approve")
    grant = await browser_login(issuer, on_url=person.on_url, open_browser=False, ports=(0,))
    who = grant.claims
    assert (who.account_id, who.email, who.plan) == ("acct-main", "main@example.com", "plus")
    page = await person.page()
    assert "You are logged in" in page
    assert "main@example.com" in page


async def test_a_browser_login_that_the_person_denies(issuer: Issuer) -> None:
    person = Person("deny")
    with pytest.raises(LoginDenied, match="denied the request: start again"):
        await browser_login(issuer, on_url=person.on_url, open_browser=False, ports=(0,))
    assert "You are not logged in" in await person.page()


async def test_a_browser_login_of_a_workspace_without_codex(fake: CodexFake, issuer: Issuer) -> None:
    fake.account("acct-main").entitled = False
    person = Person("approve")
    with pytest.raises(LoginDenied, match="no access to Codex"):
        await browser_login(issuer, on_url=person.on_url, open_browser=False, ports=(0,))


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_device_login(issuer: Issuer, decision: str) -> None:
    shown: list[DeviceCode] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        if not slept:  # the person acts in the first pause between two polls
            await Person(decision).press(shown[0].url, user_code=shown[0].user_code)
        slept.append(seconds)

    login = device_login(issuer, on_code=shown.append, clock=lambda: sum(slept), sleep=sleep)
    if decision == "approve":
        assert (await login).claims.email == "main@example.com"
    else:
        with pytest.raises(OAuthError, match="declined"):
            await login


async def test_a_refresh_rotates_and_the_old_token_is_dead(issuer: Issuer) -> None:
    grant = await log_in(issuer)
    assert grant.refresh is not None
    renewed = await issuer.refresh(grant.refresh)
    assert renewed.refresh not in (None, grant.refresh)
    assert renewed.access != grant.access
    with pytest.raises(OAuthError, match="already used") as caught:
        await issuer.refresh(grant.refresh)
    assert (caught.value.permanent, caught.value.code) == (True, "refresh_token_reused")


async def test_a_logout_ends_the_login(fake: CodexFake, issuer: Issuer) -> None:
    grant = await log_in(issuer)
    assert grant.refresh is not None
    assert await issuer.revoke(grant.refresh) is None
    assert fake.issuer.revoked == ["acct-main"]
    with pytest.raises(OAuthError, match="log in again"):
        await issuer.refresh(grant.refresh)


async def test_a_cut_refresh_is_transient(fake: CodexFake, issuer: Issuer) -> None:
    grant = await log_in(issuer)
    fake.issuer.cut("refresh")
    assert isinstance(grant.refresh, Secret)
    with pytest.raises(OAuthError) as caught:
        await issuer.refresh(grant.refresh)
    assert (caught.value.permanent, caught.value.status) == (False, None)
    assert (await issuer.refresh(grant.refresh)).refresh is not None
