"""A small real server for `/wham/…`: answers what a test scripted, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from accounts.models import Access, Account, LoginRequired, PollHold, Secret
from accounts.wham import Wham

NOW = 1_781_600_000.0
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class WhamServer:
    """`answers` by path: a JSON value (the last one of a list repeats), a status, or a handler."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.asked]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.json() if text else None
        self.asked.append(Asked(request.method, request.path, headers, body))
        answers = self.answers[request.path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            response: web.StreamResponse = await answer(request)
            return response
        if isinstance(answer, int):
            return web.Response(status=answer, text="<html>no</html>")
        return web.json_response(answer)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address, without a slash at the end."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Wham]:
        async with self.serving() as url, aiohttp.ClientSession() as http:
            yield Wham(http, lambda: url, user_agent=lambda: "openai-auth-proxy/test")


@dataclass
class Tokens:
    """Tokens that say whose they are and how often they were renewed."""

    renewals: dict[str, int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    identity: dict[str, str] = field(default_factory=dict)

    async def access(self, account: Account) -> Access:
        if account.id in self.dead:
            raise LoginRequired(f"{account.name}: log in again")
        count = self.renewals.get(account.id, 0)
        return Access(
            Secret(f"{account.id}-{count}"), self.identity.get(account.id, account.account_id), count
        )

    async def renew(self, account: Account, rejected: Access) -> Access:
        self.renewals[account.id] = self.renewals.get(account.id, 0) + 1
        return await self.access(account)


def usage_answer(used: float = 100, reset_in: float | None = 3600, credits: object = None) -> dict[str, Any]:
    window = {
        "used_percent": used,
        "limit_window_seconds": 18_000,
        "reset_at": None if reset_in is None else NOW + reset_in,
    }
    return {
        "plan_type": "plus",
        "rate_limit": {"primary_window": window, "secondary_window": None},
        "rate_limit_reset_credits": credits,
    }


class Holds(dict[str, PollHold]):
    """Whom to leave alone, in memory."""

    async def poll_holds(self) -> dict[str, PollHold]:
        return dict(self)

    async def hold_poll(self, id: str, hold: PollHold | None) -> None:
        self.pop(id, None)
        if hold:
            self[id] = hold
