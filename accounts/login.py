"""The two ways to log in: with the browser of this machine, or headless with a code typed on another one.

The one idea: each is one coroutine from nothing to a `Grant`; what has to be shown to a person on the way
is handed to a callback, so the command line, mitmproxy and tests show it each in their own manner.

The rule that must not be broken: nothing here prints, and nothing here stores; cancel the coroutine and
nothing stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable, Sequence

from accounts.login_server import (
    LOGIN_TIMEOUT,
    PORTS,
    REDIRECT_URI,
    LoginCancelled,
    LoginDenied,
    LoginFailed,
    LoginServer,
    LoginTimedOut,
    PendingLogin,
    PortsBusy,
)
from accounts.oauth import DeviceCode, Grant, Issuer, OAuthError

__all__ = [
    "LOGIN_TIMEOUT",
    "PORTS",
    "REDIRECT_URI",
    "LoginCancelled",
    "LoginDenied",
    "LoginFailed",
    "LoginServer",
    "LoginTimedOut",
    "PendingLogin",
    "PortsBusy",
    "browser_login",
    "device_login",
    "open_page",
]

SLOW_DOWN = 5.0
"""Seconds added to the pause each time the issuer says `slow_down` (RFC 8628, 3.5)."""
TICK = 1.0
"""Seconds between two reports of the time left."""

Sleep = Callable[[float], Awaitable[object]]


async def browser_login(
    issuer: Issuer,
    *,
    on_url: Callable[[str], None],
    open_browser: bool = True,
    timeout: float = LOGIN_TIMEOUT,
    server: LoginServer | None = None,
    ports: Sequence[int] = PORTS,
    redirect_uri: str = REDIRECT_URI,
    opener: Callable[[str], object] | None = None,
    sleep: Sleep = asyncio.sleep,
) -> Grant:
    """Logs in through the browser and returns the tokens, after the browser got its page.

    `on_url` is given the address to open, whether or not a browser opens by itself; `opener` opens it (in a
    thread, and its failure is nobody's). Logins that run at once in one process share a `server`; `ports`,
    `redirect_uri` and `sleep` are for the one that is made without it. Raises a `LoginFailed` or, from the
    code exchange, an `OAuthError`.
    """
    server = server or LoginServer(issuer, ports=ports, redirect_uri=redirect_uri, sleep=sleep)
    async with await server.begin(timeout) as login:
        on_url(login.url)
        if open_browser:
            _in_background(opener or open_page, login.url)
        return await login.wait()


async def device_login(
    issuer: Issuer,
    *,
    on_code: Callable[[DeviceCode], None],
    on_progress: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> Grant:
    """Logs in with a code that a person types into a page on any machine.

    `on_code` is given the code once, `on_progress` the seconds left, about every second. A poll that fails
    for a passing reason (network, 5xx) is repeated until the code expires. Raises `LoginTimedOut`, or an
    `OAuthError` for everything the issuer refuses.
    """
    device = await issuer.device_start()
    deadline = clock() + device.expires_in
    on_code(device)
    pause = device.interval
    trouble: OAuthError | None = None
    while clock() < deadline:
        wait = pause
        try:
            approved = await issuer.device_poll(device)
        except OAuthError as error:
            if error.permanent:
                raise
            if error.code == "slow_down":
                pause += SLOW_DOWN
            else:
                trouble = error
            wait = max(pause, error.retry_after or 0.0)
        else:
            if approved is not None:
                return await issuer.exchange(approved.code, issuer.device_redirect_uri, approved.verifier)
            trouble = None
        until = min(clock() + wait, deadline)
        while (rest := until - clock()) > 0:
            if on_progress is not None:
                on_progress(deadline - clock())
            await sleep(min(rest, TICK))
    reason = f" (at the end: {trouble})" if trouble else ""
    raise LoginTimedOut(
        f"the code {device.user_code} expired before it was entered{reason}: "
        "get a new one with `openai-auth login --headless`"
    )


def open_page(url: str) -> None:
    """Opens an address in the person's browser; not without a display, where a text browser would take the
    terminal away.
    """
    if sys.platform not in ("win32", "darwin"):
        displays = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
        if not any(os.environ.get(name) for name in displays):
            return
    webbrowser.open(url)


def _in_background(opener: Callable[[str], object], url: str) -> None:
    """In a daemon thread: some browser commands return only when the window is closed."""

    def run() -> None:
        with contextlib.suppress(Exception):
            opener(url)

    threading.Thread(target=run, name="open-browser", daemon=True).start()
