"""An OAuth issuer that answers what a test tells it to, over a real socket, and remembers what it was sent.

For tests of the client side of OAuth, where the answers are the subject; `codex_fake` is the issuer that
behaves.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from accounts.oauth import Issuer

NOW = 1_800_000_000.0
TOKEN = "/oauth/token"
REVOKE = "/oauth/revoke"
USERCODE = "/api/accounts/deviceauth/usercode"
POLL = "/api/accounts/deviceauth/token"


def jwt(**payload: Any) -> str:
    """A token with these claims and no valid signature."""
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{body}.c2ln"


def identity(email: str = "me@example.com", plan: str = "plus", account: str = "acc-1") -> str:
    auth = {"chatgpt_account_id": account, "chatgpt_plan_type": plan}
    return jwt(email=email, **{"https://api.openai.com/auth": auth})


def tokens(**changes: Any) -> dict[str, Any]:
    """The members of a good token answer; a change to None removes one."""
    answer = {"access_token": jwt(exp=NOW + 500), "refresh_token": "rt_new", "id_token": identity()}
    return {k: v for k, v in {**answer, **changes}.items() if v is not None}


@dataclass(frozen=True)
class Seen:
    path: str
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class ScriptedIssuer:
    """`answer(path, status, body)` queues one answer; the last one queued for a path stays."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers queued with `hold=True` wait for this."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a held request has come in."""
    answers: dict[str, deque[tuple[int, bytes, dict[str, str], bool]]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    def answer(
        self, path: str, status: int, body: object = b"", *, hold: bool = False, **headers: str
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path].append((status, data, named, hold))

    def paths(self) -> list[str]:
        return [request.path for request in self.seen]

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(Seen(request.path, request.headers, await request.text()))
        queue = self.answers[request.path]
        status, data, headers, hold = queue.popleft() if len(queue) > 1 else queue[0]
        if hold:
            self.arrived.set()
            await self.released.wait()
        return web.Response(status=status, body=data, headers=headers)


@asynccontextmanager
async def scripted_issuer() -> AsyncIterator[tuple[ScriptedIssuer, Issuer]]:
    """A running scripted issuer, and our client of it, whose clock stands at `NOW`."""
    script = ScriptedIssuer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", script.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        script.url = str(server.make_url("")).rstrip("/")
        try:
            yield script, Issuer(http, script.url, user_agent="tester/1", clock=lambda: NOW)
        finally:
            script.released.set()
