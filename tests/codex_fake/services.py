"""The other routes of the backend: models, usage, reset credits, account check, images, transcription."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from . import catalogue, replies
from .accounts import FakeAccount, Seen
from .answers import PIXEL
from .replies import Refused, Reply, missing

if TYPE_CHECKING:
    from .backend import Backend

Json = dict[str, Any]

BASE = "/backend-api"


class Services:
    """Routes that answer with one JSON object."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def add_to(self, app: web.Application) -> None:
        add = app.router
        add.add_get(f"{BASE}/codex/models", self.models, allow_head=False)
        add.add_get(f"{BASE}/wham/usage", self.usage, allow_head=False)
        add.add_get(f"{BASE}/wham/accounts/check", self.check, allow_head=False)
        add.add_get(f"{BASE}/wham/rate-limit-reset-credits", self.credits, allow_head=False)
        add.add_post(f"{BASE}/wham/rate-limit-reset-credits/consume", self.consume)
        add.add_post(f"{BASE}/codex/images/generations", self.images)
        add.add_post(f"{BASE}/codex/images/edits", self.images)
        add.add_post(f"{BASE}/transcribe", self.transcribe)

    async def _begin(
        self, request: web.Request, route: str, carry_out: Callable[[FakeAccount, Json], object] | None = None
    ) -> tuple[Seen, FakeAccount | None, web.StreamResponse | None]:
        """Record, authenticate, and look whether something is scripted."""
        seen = self._backend.record(request, route, await request.read())
        if request.content_type == "application/json" and seen.body:
            seen.json = orjson.loads(seen.body)
        try:
            account = self._backend.authenticate(request)
        except Refused as refused:
            return seen, None, self._backend.answer(request, seen, refused.reply)
        self._backend.remember(account, seen)
        bound = None if carry_out is None else partial(carry_out, account, seen.json)
        return seen, account, await self._backend.scripted(request, seen, account, bound)

    async def models(self, request: web.Request) -> web.StreamResponse:
        seen, account, early = await self._begin(request, "models")
        if account is None or early is not None:
            return early or web.Response(status=500)
        client_version = request.query.get("client_version")
        if client_version is None:
            return self._backend.answer(request, seen, replies.detail("missing client_version"))
        tag = catalogue.etag(account.models, account.plan)
        if request.headers.get("if-none-match") == tag:
            seen.status = 304
            return web.Response(status=304, headers={"etag": tag})
        listed = catalogue.listed(account.models, account.plan, client_version)
        return self._backend.answer(request, seen, Reply(200, listed, {"etag": tag}))

    async def usage(self, request: web.Request) -> web.StreamResponse:
        seen, account, early = await self._begin(request, "usage")
        if account is None or early is not None:
            return early or web.Response(status=500)
        reached = account.limited() is not None
        count = len(account.available_credits())
        body = account.quota.usage(self._backend.clock.now(), reached=reached)
        body["rate_limit_reset_credits"] = {
            "available_count": count,
            "applicable_available_count": count if reached else 0,
        }
        body |= {"user_id": account.user_id, "account_id": account.account_id, "email": account.email}
        return self._backend.answer(request, seen, Reply(200, body))

    async def check(self, request: web.Request) -> web.StreamResponse:
        seen, account, early = await self._begin(request, "accounts")
        if account is None or early is not None:
            return early or web.Response(status=500)
        entry = {
            "id": account.account_id,
            "plan_type": account.plan,
            "name": None,
            "structure": "personal",
            "profile_picture_url": None,
            "workspace_backend_origin": account.backend_origin,
            "account_routing_override": "NO_CONSTRAINT",
        }
        body = {
            "accounts": [entry],
            "account_ordering": [account.account_id],
            "default_account_id": account.account_id,
        }
        return self._backend.answer(request, seen, Reply(200, body))

    async def credits(self, request: web.Request) -> web.StreamResponse:
        seen, account, early = await self._begin(request, "credits")
        if account is None or early is not None:
            return early or web.Response(status=500)
        body = {
            "credits": account.reset_credits,
            "available_count": len(account.available_credits()),
            "total_earned_count": len(account.reset_credits),
        }
        return self._backend.answer(request, seen, Reply(200, body))

    async def consume(self, request: web.Request) -> web.StreamResponse:
        """A scripted failure here is an uncertain outcome: with `options["spent"]`-less scripts nothing is
        spent."""
        seen, account, early = await self._begin(request, "consume", _redeem)
        if account is None or early is not None:
            return early or web.Response(status=500)
        request_id = seen.json.get("redeem_request_id")
        if not isinstance(request_id, str) or not request_id:
            return self._backend.answer(request, seen, missing("redeem_request_id"))
        return self._backend.answer(
            request, seen, Reply(200, account.redeem(request_id, seen.json.get("credit_id")))
        )

    async def images(self, request: web.Request) -> web.StreamResponse:
        seen, account, early = await self._begin(request, "images")
        if account is None or early is not None:
            return early or web.Response(status=500)
        needed = ("prompt", "model", "images") if request.path.endswith("edits") else ("prompt", "model")
        for name in needed:
            if not seen.json.get(name):
                return self._backend.answer(request, seen, missing(name))
        if account.plan == "free":
            return self._backend.answer(request, seen, replies.usage_not_included(account.plan))
        data = [{"b64_json": PIXEL}] * int(seen.json.get("n") or 1)
        body = {"created": int(self._backend.clock.now()), "data": data}
        return self._backend.answer(request, seen, Reply(200, body))

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        seen, account, early = await self._begin(request, "transcribe")
        if account is None or early is not None:
            return early or web.Response(status=500)
        return self._backend.answer(request, seen, Reply(200, {"text": f"{len(seen.body)} bytes of speech."}))


def _redeem(account: FakeAccount, sent: Json) -> Json:
    return account.redeem(str(sent["redeem_request_id"]), sent.get("credit_id"))
