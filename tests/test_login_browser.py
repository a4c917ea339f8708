"""The browser login with a real Chromium in the person's hand: from the address to the page that ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from accounts.login import LoginDenied, LoginServer
from accounts.oauth import Issuer
from tests.chromium import BINARY, MISSING, Page, chromium
from tests.codex_fake import CodexFake

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)


@pytest.fixture
async def fake() -> AsyncIterator[CodexFake]:
    async with CodexFake() as fake:
        fake.issuer.lenient_ports = True
        fake.account("acct-main", plan="plus", email="main@example.com")
        fake.account("acct-work", plan="pro", email="work@example.com")
        yield fake


@pytest.fixture
async def server(fake: CodexFake) -> AsyncIterator[LoginServer]:
    async with aiohttp.ClientSession() as http:
        server = LoginServer(Issuer(http, fake.issuer_url), ports=(0,))
        yield server
        await server.close()


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with chromium(tmp_path / "profile") as page:
        yield page


async def test_a_person_approves_and_reads_who_is_logged_in(server: LoginServer, page: Page) -> None:
    async with await server.begin() as login:
        await page.goto(login.url)
        assert "Sign in to Codex with ChatGPT" in await page.text()
        await page.choose("select", "acct-work")
        await page.press("#approve")
        text = await page.text()
        assert "You are logged in" in text
        assert "work@example.com" in text
        assert "pro" in text
        assert (await login.wait()).claims.account_id == "acct-work"


async def test_a_person_denies(server: LoginServer, page: Page) -> None:
    async with await server.begin() as login:
        await page.goto(login.url)
        await page.press("#deny")
        assert "You are not logged in" in await page.text()
        with pytest.raises(LoginDenied, match="denied the request"):
            await login.wait()


async def test_two_logins_at_once_in_one_browser_do_not_mix(server: LoginServer, page: Page) -> None:
    async with await server.begin() as first, await server.begin() as second:
        for login, account in ((second, "acct-work"), (first, "acct-main")):
            await page.goto(login.url)
            await page.choose("select", account)
            await page.press("#approve")
            assert "You are logged in" in await page.text()
            assert (await login.wait()).claims.account_id == account


async def test_a_workspace_without_codex_is_told_so(fake: CodexFake, server: LoginServer, page: Page) -> None:
    fake.account("acct-main").entitled = False
    async with await server.begin() as login:
        await page.goto(login.url)
        await page.press("#approve")
        assert "no access to Codex" in await page.text()
        with pytest.raises(LoginDenied):
            await login.wait()


async def test_the_page_obeys_its_own_security_policy(server: LoginServer, page: Page) -> None:
    async with await server.begin() as login:
        await page.goto(login.url)
        await page.press("#approve")
        styled = "getComputedStyle(document.querySelector('main')).textAlign"
        assert await page.evaluate(styled) == "center"  # its own style got through
        assert await page.evaluate("document.scripts.length + document.images.length") == 0
        await login.wait()
