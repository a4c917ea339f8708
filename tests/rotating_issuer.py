"""A token endpoint over real HTTP that rotates refresh tokens and detects reuse, as the real issuer does.

`gate` holds every answer back until it is set; `failures` are answered first, in order; `asked` is set when a
request has arrived. Refresh tokens are `rt|<account>|<n>`, access tokens unsigned JWTs.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, Self

import aiohttp
from aiohttp import web

from accounts.oauth import Issuer

START = 1_800_000_000.0
"""The tests' "now", in epoch seconds."""
LIFE = 10 * 24 * 3600
"""Seconds a token lives."""


def jwt(account: str, expires_at: float, serial: int = 0, plan: str = "plus", **more: object) -> str:
    """An unsigned token as far as `claims` can tell."""
    payload: dict[str, object] = {
        "exp": expires_at,
        "serial": serial,
        "email": f"{account}@example.com",
        "https://api.openai.com/auth": {"chatgpt_account_id": account, "chatgpt_plan_type": plan},
        **more,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, payload)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in [*parts, b"signature"])


class RotatingIssuer:
    """`async with RotatingIssuer() as issuer`; `issuer.client` is an `Issuer` that talks to it."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self.serials: dict[str, int] = {}
        self.requests: list[dict[str, Any]] = []
        self.reused: list[str] = []
        self.failures: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.keep_refresh_token = False
        self.life: float = LIFE
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/oauth/token", self._token)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._http = aiohttp.ClientSession()
        self.client = Issuer(self._http, self.url, clock=lambda: self.now)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.asked.set()
        token = body["refresh_token"]
        _, account, serial = token.split("|")
        # Judged on arrival: what is asked twice is reuse even while the first answer is on its way.
        fresh = int(serial) == self.serials.get(account, 0)
        if self.failures:
            status, answer, headers = self.failures.pop(0)
            await self.gate.wait()
            return web.json_response(answer, status=status, headers=headers)
        if not fresh:
            self.reused.append(token)
            return web.json_response({"error": {"code": "refresh_token_reused"}}, status=401)
        if not self.keep_refresh_token:
            self.serials[account] = int(serial) + 1
        await self.gate.wait()
        token = jwt(account, self.now + self.life, len(self.requests))
        answer = {"access_token": token, "expires_in": self.life}
        if not self.keep_refresh_token:
            answer["refresh_token"] = f"rt|{account}|{self.serials[account]}"
        return web.json_response(answer)
