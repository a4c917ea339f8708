"""The loopback listener: whom it lets in, which ports it takes, and what its pages say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from accounts import login
from accounts.claims import Claims
from accounts.login import (
    LoginDenied,
    LoginServer,
    PortsBusy,
    browser_login,
)
from accounts.login_page import HEADERS, STYLE, Page, denied, failed, logged_in
from accounts.models import Secret
from accounts.oauth import Issuer, challenge
from tests.login_browser import Browser, asked, come_back, get, is_listening, no_sleep, occupied, port_of
from tests.scripted_issuer import (
    TOKEN,
    ScriptedIssuer,
    identity,
    tokens,
)

pytest_plugins = ("tests.login_fixtures",)


# Refusals


async def test_a_person_who_declines_is_told_so_in_browser_and_program(server: LoginServer) -> None:
    pending = await server.begin()
    page = await come_back(pending.url, error="access_denied")
    assert page.status == 200
    assert "You are not logged in" in page.text
    with pytest.raises(LoginDenied, match=r"declined in the browser.*openai-auth login"):
        await pending.wait()


async def test_the_issuers_description_is_shown_escaped(server: LoginServer) -> None:
    pending = await server.begin()
    page = await come_back(pending.url, error="access_denied", error_description='<script>"x"</script>')
    assert "&lt;script&gt;&quot;x&quot;&lt;/script&gt;" in page.text
    assert "<script" not in page.text
    with pytest.raises(LoginDenied, match='<script>"x"</script>'):
        await pending.wait()


async def test_a_workspace_without_codex_is_explained(server: LoginServer) -> None:
    pending = await server.begin()
    page = await come_back(
        pending.url, error="access_denied", error_description="unauthorized: missing_codex_entitlement"
    )
    assert "workspace has no access to Codex" in page.text
    with pytest.raises(LoginDenied, match="ask its administrator"):
        await pending.wait()


async def test_another_error_of_the_issuer_is_named(server: LoginServer) -> None:
    pending = await server.begin()
    page = await come_back(pending.url, error="server_error")
    assert "server_error" in page.text
    with pytest.raises(LoginDenied, match="server_error"):
        await pending.wait()


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ({"state": "wrong", "code": "c"}, 400, "not known here"),
        ({"state": "", "code": "c"}, 400, "without a state"),
        ({"code": ""}, 400, "without a code"),
        ({"state": "wrong", "error": "access_denied"}, 200, "access_denied"),
        ({"state": "", "error": "access_denied"}, 200, "access_denied"),
    ],
)
async def test_a_callback_that_is_not_right_changes_no_login(
    script: ScriptedIssuer, server: LoginServer, query: dict[str, str], status: int, text: str
) -> None:
    script.answer(TOKEN, 200, tokens())
    pending = await server.begin()
    page = await come_back(pending.url, **query)
    assert (page.status, text in page.text) == (status, True)
    assert script.seen == []
    assert (await come_back(pending.url, code="c")).status == 200
    await pending.wait()


async def test_text_from_a_stranger_is_not_shown(server: LoginServer) -> None:
    pending = await server.begin()
    page = await come_back(
        pending.url, state="wrong", error="call 555-1234 now", error_description="call 555-1234 now"
    )
    assert "555" not in page.text


async def test_a_code_is_exchanged_once(script: ScriptedIssuer, server: LoginServer) -> None:
    script.answer(TOKEN, 200, tokens(), hold=True)
    pending = await server.begin()
    first = asyncio.create_task(come_back(pending.url, code="c"))
    await script.arrived.wait()
    assert (await come_back(pending.url, code="c")).status == 400
    assert (await come_back(pending.url, error="access_denied")).status == 200
    script.released.set()
    assert (await first).status == 200
    await pending.wait()
    assert script.paths() == [TOKEN]


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_only_get_brings_a_code(script: ScriptedIssuer, server: LoginServer, method: str) -> None:
    pending = await server.begin()
    path = f"/auth/callback?code=c&state={asked(pending.url)['state']}"
    assert (await get(port_of(pending.url), path, method=method)).status == 405
    assert script.seen == []


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/auth", "/auth/callback/x", "//auth/callback"])
async def test_every_other_path_is_404(server: LoginServer, path: str) -> None:
    pending = await server.begin()
    assert (await get(port_of(pending.url), path)).status == 404


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[::1", "", "192.168.1.2:1455"])
async def test_a_foreign_host_name_is_refused(script: ScriptedIssuer, server: LoginServer, host: str) -> None:
    pending = await server.begin()
    path = f"/auth/callback?code=c&state={asked(pending.url)['state']}"
    assert (await get(port_of(pending.url), path, host=host)).status == 403
    assert script.seen == []
    assert not pending.ended


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "127.0.0.1:1455"])
async def test_the_local_names_are_accepted_with_any_port(
    script: ScriptedIssuer, server: LoginServer, host: str
) -> None:
    script.answer(TOKEN, 200, tokens())
    pending = await server.begin()
    path = f"/auth/callback?code=c&state={asked(pending.url)['state']}"
    assert (await get(port_of(pending.url), path, host=host)).status == 200
    await pending.wait()


# Several at once


async def test_logins_of_one_process_share_a_listener_and_keep_apart(
    script: ScriptedIssuer, server: LoginServer
) -> None:
    one, two = await server.begin(), await server.begin()
    assert port_of(one.url) == port_of(two.url)
    script.answer(TOKEN, 200, tokens(id_token=identity("two@b"), refresh_token="rt_2"))
    script.answer(TOKEN, 200, tokens(id_token=identity("one@b"), refresh_token="rt_1"))
    assert "two@b" in (await come_back(two.url, code="c2")).text
    assert not one.ended
    assert "one@b" in (await come_back(one.url, code="c1")).text
    assert ((await one.wait()).refresh, (await two.wait()).refresh) == (Secret("rt_1"), Secret("rt_2"))
    forms = [parse_qs(request.text) for request in script.seen]
    assert [form["code"] for form in forms] == [["c2"], ["c1"]]
    assert challenge(Secret(forms[1]["code_verifier"][0])) == asked(one.url)["code_challenge"]


async def test_many_logins_at_once_each_get_their_own(script: ScriptedIssuer, server: LoginServer) -> None:
    script.answer(TOKEN, 200, tokens())
    browsers = [Browser(code=f"c{n}") for n in range(10)]
    grants = await asyncio.gather(
        *(
            browser_login(server._issuer, on_url=browser.on_url, open_browser=False, server=server)
            for browser in browsers
        )
    )
    assert len(grants) == 10
    assert [(await browser.page()).status for browser in browsers] == [200] * 10
    assert sorted(parse_qs(request.text)["code"][0] for request in script.seen) == sorted(
        f"c{n}" for n in range(10)
    )


async def test_a_server_can_be_used_again_after_its_last_login(
    script: ScriptedIssuer, server: LoginServer
) -> None:
    script.answer(TOKEN, 200, tokens())
    for _ in range(3):
        pending = await server.begin()
        assert (await come_back(pending.url, code="c")).status == 200
        await pending.wait()


def free_ports() -> tuple[int, int]:
    with closing(occupied()) as one, closing(occupied()) as two:
        return one.getsockname()[1], two.getsockname()[1]


async def test_a_second_process_takes_the_second_port_and_disturbs_nobody(issuer: Issuer) -> None:
    ports = free_ports()
    first = LoginServer(issuer, ports=ports, sleep=no_sleep)
    second = LoginServer(issuer, ports=ports, sleep=no_sleep)
    one, two = await first.begin(), await second.begin()
    assert (port_of(one.url), port_of(two.url)) == ports
    assert not one.ended
    await first.close()
    await second.close()


async def test_a_third_process_is_told_what_to_do(issuer: Issuer) -> None:
    ports = free_ports()
    servers = [LoginServer(issuer, ports=ports, sleep=no_sleep) for _ in range(3)]
    await servers[0].begin()
    await servers[1].begin()
    with pytest.raises(PortsBusy, match=rf"{ports[0]} or {ports[1]}.*openai-auth login --headless"):
        await servers[2].begin()
    for server in servers:
        await server.close()


@asynccontextmanager
async def foreign_server(*, leaves: bool) -> AsyncIterator[tuple[int, list[str]]]:
    """A login server of another program; it ends itself on /cancel if it `leaves`."""
    seen: list[str] = []
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    ends: list[asyncio.Task[None]] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path == "/cancel" and leaves:
            ends.append(asyncio.create_task(runner.cleanup()))
        return web.Response(text="Login cancelled")

    app.router.add_route("*", "/{tail:.*}", handle)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], seen
    finally:
        await runner.cleanup()


async def test_an_older_login_server_is_asked_to_leave_and_its_port_is_taken(issuer: Issuer) -> None:
    async with foreign_server(leaves=True) as (port, seen):

        async def sleep(_seconds: float) -> None:
            while is_listening(port):
                await asyncio.sleep(0)

        server = LoginServer(issuer, ports=(port, 0), sleep=sleep)
        pending = await server.begin()
        assert port_of(pending.url) == port
        assert seen == ["/", "/cancel"]
        await server.close()


async def test_a_program_that_stays_is_waited_for_ten_times_and_left_alone(issuer: Issuer) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with foreign_server(leaves=False) as (port, seen):
        server = LoginServer(issuer, ports=(port, 0), sleep=sleep)
        pending = await server.begin()
        assert port_of(pending.url) != port
        assert pauses == [0.2] * 10
        assert seen == ["/", "/cancel"]
        await server.close()


async def test_a_port_that_is_held_but_does_not_answer_is_passed_over(issuer: Issuer) -> None:
    with closing(occupied()) as sock:
        server = LoginServer(issuer, ports=(sock.getsockname()[1], 0), sleep=no_sleep)
        pending = await server.begin()
        assert port_of(pending.url) != sock.getsockname()[1]
        await server.close()


async def test_ports_that_were_busy_may_be_tried_again(issuer: Issuer) -> None:
    with closing(occupied()) as sock:
        server = LoginServer(issuer, ports=(sock.getsockname()[1],), sleep=no_sleep)
        with pytest.raises(PortsBusy):
            await server.begin()
    await server.begin()
    await server.close()


def test_the_official_ports_are_the_default() -> None:
    assert login.PORTS == (1455, 1457)
    assert login.REDIRECT_URI == "http://localhost:{port}/auth/callback"


# The page


async def test_every_page_forbids_everything_but_its_own_style(server: LoginServer) -> None:
    pending = await server.begin()
    for path in ("/auth/callback", "/auth/callback?error=x", "/cancel?state=x"):
        page = await get(port_of(pending.url), path)
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("page", [logged_in(Claims("acc", "a@b", "plus")), denied("no"), failed("oh")])
def test_a_page_is_self_contained(page: Page) -> None:
    html = page.html()
    assert f"<style>{STYLE}</style>" in html
    assert not re.search(r"https?:|<script|\ssrc=|\shref=|url\(|@import|\sstyle=|\son\w+=", html)
    assert "prefers-color-scheme: dark" in html


def test_an_account_without_email_or_plan_is_shown_by_what_is_known() -> None:
    assert "<dd>acc-1</dd>" in logged_in(Claims("acc-1")).html()
    assert "<dl>" not in logged_in(Claims()).html()


def test_facts_are_escaped() -> None:
    assert "<dd>&lt;i&gt;</dd>" in logged_in(Claims(email="<i>")).html()


def test_headers_allow_the_style_by_its_hash_only() -> None:
    assert "unsafe-inline" not in HEADERS["Content-Security-Policy"]
