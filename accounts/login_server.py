"""The loopback listener of the browser login: the browser comes back to it with a code.

The one idea: one listener serves every login of its process. A login is a future, found by its `state`;
whatever ends it (the callback, a refusal, /cancel, the clock, its caller) only settles the future, and when
no login is left the listener goes away. The code is exchanged before the browser gets its page, so the page
tells the truth.

The rule that must not be broken: a request changes a login only if it knows that login's `state` (`/cancel`
of a local program excepted), and nothing but 127.0.0.1 is listened on.

Ports, their order and the way to claim them are the official client's: only 1455 and 1457 are registered at
the issuer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from aiohttp import web

from accounts import login_page
from accounts.models import AccountsError, Secret
from accounts.oauth import Grant, Issuer, OAuthError, challenge, new_state, new_verifier
from accounts.oauth_answer import CODE, one_line

HOST = "127.0.0.1"
PORTS = (1455, 1457)
REDIRECT_URI = "http://localhost:{port}/auth/callback"
"""The issuer refuses the spelling with 127.0.0.1 (`authorize_hydra_invalid_request`)."""
LOGIN_TIMEOUT = 300.0
"""Seconds a login waits for the browser."""
CLAIM_ATTEMPTS = 10
CLAIM_PAUSE = 0.2
PEER_TIMEOUT = 2.0
DRAIN_TIMEOUT = 2.0
"""Seconds for another login server to answer, and for the last page to reach the browser."""
SERVER = "openai-auth-login"
"""Our `Server` header: a second process that sees it leaves us the port."""

AGAIN = "start again with `openai-auth login`"


class LoginFailed(AccountsError):
    """The login did not happen; the message says why and what to do."""


class LoginDenied(LoginFailed):
    """The person declined, or the workspace has no Codex access."""


class LoginCancelled(LoginFailed):
    """Ended from our side, or by another program that needs the port."""


class LoginTimedOut(LoginFailed):
    """Nobody finished it in time."""


class PortsBusy(LoginFailed):
    """No port to listen on."""


class PendingLogin:
    """One login that waits for its browser: open `url` there, then `wait()`.

    It ends by itself after its timeout, so nobody has to wait for it. As a context manager it is cancelled
    on the way out if it has not ended, and the last page has reached the browser.
    """

    def __init__(
        self, server: LoginServer, state: str, url: str, redirect_uri: str, verifier: Secret
    ) -> None:
        self.state = state
        self.url = url
        self.redirect_uri = redirect_uri
        self.verifier = verifier
        self.exchanging = False
        """The code is being exchanged: from here on neither the clock nor another callback ends the login."""
        self._server = server
        self._result: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Grant:
        """The tokens. Raises a `LoginFailed`, or the `OAuthError` of the exchange."""
        return await asyncio.shield(self._result)

    @property
    def ended(self) -> bool:
        return self._result.done()

    def succeed(self, grant: Grant) -> None:
        """Ends the login well, unless it has ended."""
        if not self.ended:
            self._result.set_result(grant)
            self._server.forget(self)

    def fail(self, error: AccountsError) -> None:
        """Ends the login badly, unless it has ended."""
        if not self.ended:
            self._result.set_exception(error)
            self._result.exception()  # counts as seen, also when nobody waits
            self._server.forget(self)

    def cancel(self) -> None:
        """Ends the login from our side, unless it has ended."""
        self.fail(LoginCancelled(f"the login was cancelled: {AGAIN}"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        await self._server.drained()


class LoginServer:
    """Browser logins at one issuer. Listens only while a login is pending; may be kept for ever and shared.

    `ports` are tried in order, `redirect_uri` has `{port}` where the port goes. Must be used in one event
    loop.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        ports: Sequence[int] = PORTS,
        redirect_uri: str = REDIRECT_URI,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._issuer = issuer
        self._ports = tuple(ports)
        self._redirect_uri = redirect_uri
        self._sleep = sleep
        self._logins: dict[str, PendingLogin] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._lock = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._closing: asyncio.Task[None] | None = None

    async def begin(self, timeout: float = LOGIN_TIMEOUT) -> PendingLogin:
        """A new login, with the listener up. Raises `PortsBusy`."""
        async with self._lock:
            if self._runner is None:
                self._runner = await self._listen()
            state, verifier = new_state(), new_verifier()
            redirect_uri = self._redirect_uri.replace("{port}", str(self._port))
            url = self._issuer.authorize_url(
                redirect_uri=redirect_uri, state=state, challenge=challenge(verifier)
            )
            login = PendingLogin(self, state, url, redirect_uri, verifier)
            self._logins[state] = login
            loop = asyncio.get_running_loop()
            self._timers[state] = loop.call_later(timeout, self._expire, login, timeout)
        return login

    def forget(self, login: PendingLogin) -> None:
        """A login has ended; after the last one the listener closes, once the browser has its page."""
        del self._logins[login.state]
        self._timers.pop(login.state).cancel()
        if not self._logins:
            self._closing = asyncio.create_task(self._close())

    async def close(self) -> None:
        """Cancels every pending login and stops listening."""
        for login in tuple(self._logins.values()):
            login.cancel()
        await self.drained()

    async def drained(self) -> None:
        """Returns when the listener is gone, or at once while other logins need it."""
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def _expire(self, login: PendingLogin, timeout: float) -> None:
        if not login.exchanging:
            login.fail(LoginTimedOut(f"nobody finished the login within {_spell(timeout)}: {AGAIN}"))

    async def _close(self) -> None:
        async with self._lock:
            if not self._logins and self._runner is not None:
                runner, self._runner = self._runner, None
                await runner.cleanup()

    async def _listen(self) -> web.AppRunner:
        sock = await self._bind()
        self._port = sock.getsockname()[1]
        app = web.Application(middlewares=[_local_only])
        app.router.add_get("/auth/callback", self._callback, allow_head=False)
        app.router.add_get("/cancel", self._cancel, allow_head=False)
        app.on_response_prepare.append(_sign)
        # No access log: its lines would hold the code.
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=DRAIN_TIMEOUT)
        try:
            await runner.setup()
            await web.SockSite(runner, sock).start()
        except BaseException:
            await runner.cleanup()
            sock.close()
            raise
        return runner

    async def _bind(self) -> socket.socket:
        for rank, port in enumerate(self._ports):
            sock = _bind(port) or (await self._claim(port) if rank == 0 else None)
            if sock is not None:
                return sock
        raise PortsBusy(
            f"the ports of the login ({' or '.join(map(str, self._ports))}) are taken by other programs: "
            "end them, or use `openai-auth login --headless`, which needs no port"
        )

    async def _claim(self, port: int) -> socket.socket | None:
        """Asks an older login server of another program to leave the port; None if the port stays taken."""
        if f"server: {SERVER}" in (await _ask(port, "/")).lower():
            return None
        await _ask(port, "/cancel")
        for _ in range(CLAIM_ATTEMPTS):
            await self._sleep(CLAIM_PAUSE)
            if sock := _bind(port):
                return sock
        return None

    async def _callback(self, request: web.Request) -> web.Response:
        query = request.query
        state, code = query.get("state"), query.get("code")
        login = self._logins.get(state) if state else None
        if login is not None and login.exchanging:
            login = None
        if "error" in query:
            return _refusal(login, query["error"], query.get("error_description", ""))
        if not state or not code:
            missing = "state" if not state else "code"
            return _page(login_page.failed(f"the browser came back without a {missing}: {AGAIN}"), 400)
        if login is None:
            what = f"this login is not known here, it was used already or has ended: {AGAIN}"
            return _page(login_page.failed(what), 400)
        return await self._finish(login, Secret(code))

    async def _finish(self, login: PendingLogin, code: Secret) -> web.Response:
        login.exchanging = True
        try:
            grant = await self._issuer.exchange(code, login.redirect_uri, login.verifier)
        except OAuthError as error:
            login.fail(error)
            return _page(login_page.failed(str(error)), 502)
        except BaseException:
            login.cancel()
            raise
        if login.ended:
            return _page(login_page.cancelled(f"it was ended before the browser came back: {AGAIN}"), 410)
        login.succeed(grant)
        return _page(login_page.logged_in(grant.claims), 200)

    async def _cancel(self, request: web.Request) -> web.Response:
        # A browser names the site a request comes from; no web page has a say here.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return _page(login_page.failed("a web page cannot cancel a login"), 403)
        state = request.query.get("state")
        for known, login in tuple(self._logins.items()):
            if state in (None, known) and not login.exchanging:
                what = "the login was cancelled, perhaps by another program's login"
                login.fail(LoginCancelled(f"{what}: {AGAIN}"))
        return _page(login_page.cancelled("no login is waiting here any more"), 200)


def _refusal(login: PendingLogin | None, error: str, description: str) -> web.Response:
    """The issuer sent the browser back with an error. Free text is shown only when the state was right."""
    code = error if CODE.fullmatch(error) else "error"
    if login is None:
        return _page(login_page.denied(f"the issuer answered “{code}”: {AGAIN}"), 200)
    words = one_line(description).rstrip(".")
    if "missing_codex_entitlement" in description:
        what = "this workspace has no access to Codex"
        advice = "ask its administrator for it, or choose another workspace with `openai-auth login`"
    elif error == "access_denied":
        what = words or "the login was declined in the browser"
        advice = f"{AGAIN} if that was a mistake"
    else:
        what = f"the issuer refused the login ({words or code})"
        advice = AGAIN
    login.fail(LoginDenied(f"{what}: {advice}"))
    return _page(login_page.denied(f"{what}: {advice}"), 200)


def _page(page: login_page.Page, status: int) -> web.Response:
    response = web.Response(
        text=page.html(), status=status, content_type="text/html", charset="utf-8", headers=login_page.HEADERS
    )
    response.force_close()
    return response


@web.middleware
async def _local_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses requests for any other host name, so that no foreign name can be pointed at this listener."""
    try:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    except ValueError:
        host = None
    if host not in ("localhost", HOST):
        return _page(login_page.failed("this address serves logins at localhost only"), 403)
    return await handler(request)


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER


def _bind(port: int) -> socket.socket | None:
    """A listening socket, or None if the port cannot be had."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: REUSEADDR would share the port there
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen()  # two sockets can be bound with REUSEADDR, only one can listen
    except OSError:
        sock.close()
        return None
    return sock


async def _ask(port: int, path: str) -> str:
    """The head of the answer of whatever listens on a local port; "" if it gives none."""
    try:
        async with asyncio.timeout(PEER_TIMEOUT):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return ""
    return head.decode("latin-1")


def _spell(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{seconds:.0f} seconds"
