"""Logging in with a browser: from the URL to the tokens, and every way it can end before that."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from urllib.parse import parse_qs

import pytest

from accounts import login, login_server
from accounts.login import (
    LoginCancelled,
    LoginDenied,
    LoginServer,
    LoginTimedOut,
    PendingLogin,
    PortsBusy,
    browser_login,
)
from accounts.models import AccountsError, Secret
from accounts.oauth import Issuer, OAuthError, challenge
from tests.login_browser import Browser, asked, come_back, get, is_listening, port_of
from tests.scripted_issuer import (
    TOKEN,
    ScriptedIssuer,
    tokens,
)

pytest_plugins = ("tests.login_fixtures",)


# The browser login, whole


async def test_a_browser_login_returns_the_tokens_and_shows_who_logged_in(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    script.answer(TOKEN, 200, tokens())
    browser = Browser(code="c1")
    grant = await browser_login(issuer, on_url=browser.on_url, open_browser=False, ports=(0,))
    page = await browser.page()
    assert grant.refresh == Secret("rt_new")
    assert page.status == 200
    for text in ("You are logged in", "me@example.com", "plus", "close this tab"):
        assert text in page.text


async def test_the_page_has_arrived_when_the_login_returns(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 200, tokens())
    received: list[bytes] = []

    async def raw(url: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        path = f"/auth/callback?code=c&state={asked(url)['state']}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received.append(await reader.read())
        writer.close()

    walks: list[asyncio.Task[None]] = []
    await browser_login(
        issuer,
        on_url=lambda url: walks.append(asyncio.create_task(raw(url))),
        open_browser=False,
        ports=(0,),
    )
    await walks[0]
    assert received[0].endswith(b"</html>\n")


async def test_the_code_is_exchanged_with_the_same_redirect_uri_and_the_matching_verifier(
    script: ScriptedIssuer, server: LoginServer
) -> None:
    script.answer(TOKEN, 200, tokens())
    pending = await server.begin()
    await come_back(pending.url, code="c1")
    await pending.wait()
    form = {name: values[0] for name, values in parse_qs(script.seen[0].text).items()}
    sent = asked(pending.url)
    assert form["code"] == "c1"
    assert (
        form["redirect_uri"]
        == sent["redirect_uri"]
        == f"http://localhost:{port_of(pending.url)}/auth/callback"
    )
    assert challenge(Secret(form["code_verifier"])) == sent["code_challenge"]


async def test_the_redirect_uri_is_configurable(issuer: Issuer) -> None:
    server = LoginServer(issuer, ports=(0,), redirect_uri="http://127.0.0.1:{port}/auth/callback")
    pending = await server.begin()
    assert asked(pending.url)["redirect_uri"] == f"http://127.0.0.1:{port_of(pending.url)}/auth/callback"
    await server.close()


async def test_the_browser_waits_for_the_exchange_before_it_sees_success(
    script: ScriptedIssuer, server: LoginServer
) -> None:
    script.answer(TOKEN, 200, tokens(), hold=True)
    pending = await server.begin()
    walk = asyncio.create_task(come_back(pending.url, code="c"))
    await script.arrived.wait()
    assert not walk.done()
    assert not pending.ended
    script.released.set()
    assert (await walk).status == 200
    await pending.wait()


async def test_a_refused_exchange_shows_in_the_browser_and_fails_the_login(
    script: ScriptedIssuer, server: LoginServer
) -> None:
    script.answer(TOKEN, 400, {"error": "invalid_grant", "error_description": "code <b>expired</b>"})
    pending = await server.begin()
    page = await come_back(pending.url, code="c1")
    assert page.status == 502
    assert "The login failed" in page.text
    assert "code &lt;b&gt;expired&lt;/b&gt;" in page.text
    with pytest.raises(OAuthError, match="code <b>expired</b>"):
        await pending.wait()


async def test_the_listener_is_gone_after_the_last_login(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 200, tokens())
    seen: list[str] = []
    browser = Browser(code="c")

    def on_url(url: str) -> None:
        seen.append(url)
        browser.on_url(url)

    await browser_login(issuer, on_url=on_url, open_browser=False, ports=(0,))
    assert not is_listening(port_of(seen[0]))


async def test_only_the_loopback_address_is_listened_on(server: LoginServer) -> None:
    pending = await server.begin()
    with socket.socket() as sock:
        # Linux routes all of 127/8 to this machine: a listener on every address would answer here.
        with suppress(OSError):
            sock.connect(("127.0.0.2", port_of(pending.url)))
        with pytest.raises(OSError, match="not connected"):
            sock.getpeername()


# Opening the browser


async def test_the_browser_is_opened_with_the_url_that_is_shown(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    script.answer(TOKEN, 200, tokens())
    loop = asyncio.get_running_loop()
    opened: list[tuple[str, bool]] = []
    browser = Browser(code="c")
    shown: list[str] = []

    def opener(url: str) -> None:
        opened.append((url, threading.current_thread().daemon))
        loop.call_soon_threadsafe(browser.on_url, url)

    await browser_login(issuer, on_url=shown.append, opener=opener, ports=(0,))
    assert opened == [(shown[0], True)]  # a browser that stays open keeps no program alive


async def test_a_browser_that_cannot_be_opened_fails_nothing(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 200, tokens())
    browser = Browser(code="c")

    def opener(_url: str) -> None:
        raise OSError("no browser")

    await browser_login(issuer, on_url=browser.on_url, opener=opener, ports=(0,))


@pytest.mark.parametrize(
    ("platform", "variables", "opens"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"BROWSER": "firefox"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_without_a_display_no_browser_is_opened(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], opens: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    login.open_page("https://issuer.example/")
    assert bool(opened) is opens


# Ends from our side


async def test_nobody_comes_back(issuer: Issuer) -> None:
    with pytest.raises(LoginTimedOut, match="start again with `openai-auth login`"):
        await browser_login(issuer, on_url=lambda _: None, open_browser=False, timeout=0, ports=(0,))


async def test_a_login_that_nobody_waits_for_ends_too(server: LoginServer) -> None:
    pending = await server.begin(timeout=0)
    with suppress(LoginTimedOut):
        await pending.wait()
    await server.drained()
    assert not is_listening(port_of(pending.url))


async def test_the_clock_does_not_interrupt_an_exchange(script: ScriptedIssuer, server: LoginServer) -> None:
    script.answer(TOKEN, 200, tokens(), hold=True)
    pending = await server.begin()
    walk = asyncio.create_task(come_back(pending.url, code="c"))
    await script.arrived.wait()
    server._expire(pending, 300)
    script.released.set()
    assert (await walk).status == 200
    assert (await pending.wait()).refresh == Secret("rt_new")


def test_the_default_wait_is_five_minutes() -> None:
    assert login.LOGIN_TIMEOUT == 300
    assert login_server._spell(300) == "5 minutes"
    assert login_server._spell(45) == "45 seconds"


async def test_cancel_ends_every_login(server: LoginServer) -> None:
    one, two = await server.begin(), await server.begin()
    assert (await get(port_of(one.url), "/cancel")).status == 200
    for pending in (one, two):
        with pytest.raises(LoginCancelled, match="another program"):
            await pending.wait()


async def test_cancel_with_a_state_ends_that_login_only(server: LoginServer) -> None:
    one, two = await server.begin(), await server.begin()
    assert (await get(port_of(one.url), f"/cancel?state={asked(one.url)['state']}")).status == 200
    assert (one.ended, two.ended) == (True, False)


async def test_cancel_with_an_unknown_state_ends_none(server: LoginServer) -> None:
    pending = await server.begin()
    assert (await get(port_of(pending.url), "/cancel?state=other")).status == 200
    assert not pending.ended


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_web_page_cannot_cancel(server: LoginServer, site: str) -> None:
    pending = await server.begin()
    assert (await get(port_of(pending.url), "/cancel", sec_fetch_site=site)).status == 403
    assert not pending.ended


async def test_a_cancelled_task_leaves_no_listener(issuer: Issuer) -> None:
    shown: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(browser_login(issuer, on_url=shown.set_result, open_browser=False, ports=(0,)))
    port = port_of(await shown)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_listening(port)


async def test_a_failing_callback_leaves_no_listener(issuer: Issuer) -> None:
    seen: list[str] = []

    def on_url(url: str) -> None:
        seen.append(url)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await browser_login(issuer, on_url=on_url, open_browser=False, ports=(0,))
    assert not is_listening(port_of(seen[0]))


async def test_a_login_cancelled_during_the_exchange_shows_no_success(
    script: ScriptedIssuer, server: LoginServer
) -> None:
    script.answer(TOKEN, 200, tokens(), hold=True)
    keeper, pending = await server.begin(), await server.begin()
    walk = asyncio.create_task(come_back(pending.url, code="c"))
    await script.arrived.wait()
    pending.cancel()
    script.released.set()
    page = await walk
    assert (page.status, "You are logged in" in page.text) == (410, False)
    assert not keeper.ended


async def test_close_ends_everything(server: LoginServer) -> None:
    one, two = await server.begin(), await server.begin()
    await server.close()
    for pending in (one, two):
        with pytest.raises(LoginCancelled):
            await pending.wait()
    assert not is_listening(port_of(one.url))
    await server.close()


# Rules


@pytest.mark.parametrize("error", [LoginDenied, LoginCancelled, LoginTimedOut, PortsBusy])
def test_every_failure_is_an_accounts_error(error: type[Exception]) -> None:
    assert issubclass(error, AccountsError)


async def test_a_pending_login_does_not_show_its_secrets(server: LoginServer) -> None:
    pending: PendingLogin = await server.begin()
    assert pending.verifier.reveal() not in repr(pending)
    assert pending.verifier.reveal() not in pending.url
