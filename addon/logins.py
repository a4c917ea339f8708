"""
Logins that are started from inside mitmproxy.

mitmproxy's commands are plain functions in a running event loop: they cannot wait for a listener or an issuer. So
logins run in an event loop of their own, in a thread, and a command waits a moment for the one thing it has to
show, the address or the code. The tokens come back to mitmproxy's loop.

The rule: a command never keeps the proxy waiting longer than PATIENCE; what comes later is said in the log.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from accounts.login import LoginServer, browser_login, device_login
from accounts.oauth import DeviceCode, Grant, Issuer
from accounts.online import session, user_agent
from accounts.settings import Settings

PATIENCE = 2.0
"""Seconds. A listener is up in milliseconds, a code needs one answer of the issuer."""

type Manner = Literal["browser", "code"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that waits for its person."""

    shown: concurrent.futures.Future[str]
    """What the person has to do: open an address, perhaps type a code."""
    grant: concurrent.futures.Future[Grant]

    def instructions(self) -> str | None:
        """What to show now; None if it is not known yet. Raises AccountsError if the login failed at once."""
        either: set[concurrent.futures.Future[Any]] = {self.shown, self.grant}
        concurrent.futures.wait(either, PATIENCE, return_when=concurrent.futures.FIRST_COMPLETED)
        if self.shown.done():
            return self.shown.result()
        if self.grant.done():
            self.grant.result()
        return None


class Logins:
    """Every login of this proxy. They share one listener, as those of the command line do."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: dict[tuple[str, str | None], tuple[Issuer, LoginServer]] = {}

    def begin(self, manner: Manner) -> Begun:
        """Starts a login."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="logins", daemon=True).start()
        shown: concurrent.futures.Future[str] = concurrent.futures.Future()
        grant = asyncio.run_coroutine_threadsafe(self._log_in(manner, self._settings(), shown), self._loop)
        return Begun(shown, grant)

    def close(self) -> None:
        """Gives up the logins that still wait."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop)
            self._loop = None

    async def _log_in(
        self, manner: Manner, settings: Settings, shown: concurrent.futures.Future[str]
    ) -> Grant:
        issuer, server = await self._parts(settings)
        if manner == "browser":
            return await browser_login(issuer, on_url=shown.set_result, server=server)

        def show(device: DeviceCode) -> None:
            shown.set_result(f"{device.url} code {device.user_code}")

        return await device_login(issuer, on_code=show)

    async def _parts(self, settings: Settings) -> tuple[Issuer, LoginServer]:
        key = (settings.issuer_url, settings.upstream_proxy)
        if key not in self._servers:
            # Open for as long as the proxy runs: nothing is connected while no login is under way.
            http = session(settings)
            issuer = Issuer(
                http,
                settings.issuer_url,
                originator=settings.identity.originator,
                user_agent=user_agent(settings),
            )
            self._servers[key] = (issuer, LoginServer(issuer))
        return self._servers[key]

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _, server in self._servers.values():
            await server.close()
        loop.stop()
