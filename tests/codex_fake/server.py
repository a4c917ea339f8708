"""`CodexFake`: the server that stands for chatgpt.com's Codex backend and for auth.openai.com, on one port.

    async with CodexFake() as fake:
        main = fake.account("acct-main", plan="plus")
        main.write_auth_json(path)                # import this
        ... OPENAI_AUTH_BACKEND_URL=fake.backend_url, OPENAI_AUTH_ISSUER_URL=fake.issuer_url ...
        main.limit(reset_in=3600)                 # 429 from now on
        main.fail_in_stream("server_is_overloaded", after_deltas=2)
        hold = main.hold(); await hold.step()     # one event at a time
        await fake.until(lambda: fake.aborted)    # the client hung up
        main.requests[-1].json                    # what arrived

Requests are checked strictly and refused with the real texts; see `rules`. Answers are rude; see `manners`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Self

from aiohttp import web

from .accounts import FakeAccount, Seen
from .backend import Backend, drop_content_type
from .cache import PromptCache
from .clock import Clock
from .control import Control
from .gates import Board
from .generation import Generation
from .issuer import Issuer
from .issuer_pages import IssuerPages
from .manners import Manners
from .services import Services

MAX_BODY = 256 * 1024 * 1024  # bytes of a request body


class CodexFake:
    """See the module's docstring. `fast=True` skips checks and records and sends ready-made bytes
    (benchmarks)."""

    def __init__(self, *, fast: bool = False) -> None:
        self.fast = fast
        self.recording = True  # off: requests are checked but not kept (long simulations)
        self.clock = Clock()
        self.accounts: dict[str, FakeAccount] = {}
        self.issuer = Issuer(self.clock, self.accounts)
        self.manners = Manners()
        self.cache = PromptCache()
        self.board = Board()
        self.requests: list[Seen] = []
        self.violations: list[str] = []  # what the backend lets pass and a proxy must not do
        self.stopping = False
        self._origin = ""
        self._runner: web.AppRunner | None = None

    # Life

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, ssl_context: ssl.SSLContext | None = None
    ) -> Self:
        """Listen; with `ssl_context` (see `tls.server_context`) backend and issuer speak https."""
        app = web.Application(client_max_size=MAX_BODY)
        app.on_response_prepare.append(drop_content_type)
        backend = Backend(self)
        Generation(backend).add_to(app)
        Services(backend).add_to(app)
        IssuerPages(self.issuer).add_to(app)
        Control(self).add_to(app)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            shutdown_timeout=0.1,
            keepalive_timeout=600,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=ssl_context, backlog=1024)
        await site.start()
        bound = self._runner.addresses[0]
        self._origin = f"{'https' if ssl_context else 'http'}://{host}:{bound[1]}"
        return self

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        self.stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        return self if self._runner is not None else await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Addresses

    @property
    def url(self) -> str:
        """The backend's base, `…/backend-api` (what OPENAI_AUTH_BACKEND_URL wants)."""
        return f"{self._origin}/backend-api"

    backend_url = url

    @property
    def responses_url(self) -> str:
        return f"{self.url}/codex/responses"

    @property
    def issuer_url(self) -> str:
        return self._origin

    @property
    def control_url(self) -> str:
        """Everything below it is this fake's remote control (`control`)."""
        return f"{self._origin}/_fake"

    # Accounts

    def account(
        self, name: str, *, plan: str = "plus", email: str | None = None, account_id: str | None = None
    ) -> FakeAccount:
        """The account of this name, made on first use; its ChatGPT account id is its name unless given."""
        if name not in self.accounts:
            self.accounts[name] = FakeAccount(self.issuer, name, plan, email, account_id)
        return self.accounts[name]

    # What happened

    @property
    def open_streams(self) -> int:
        return self.board.open_streams

    @property
    def aborted(self) -> int:
        """Streams that the client left before their end."""
        return self.board.aborted

    @property
    def served(self) -> int:
        """Generations that were answered 200."""
        return self.board.served

    @property
    def connections(self) -> int:
        """TCP connections open now."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    def seen(self, route: str = "responses") -> list[Seen]:
        """The requests of one route, over all accounts, in order."""
        return [request for request in self.requests if request.route == route]

    async def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until `condition()` holds; it is asked after each change of the counters. Raises
        TimeoutError."""
        async with asyncio.timeout(timeout):
            await self.board.until(condition)
