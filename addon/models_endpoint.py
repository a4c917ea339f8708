"""
GET /v1/models and /v1/models/{id}: what the accounts at hand may use, and what the client's own key may.

An SDK gets OpenAI's shape. A Codex program gets the backend's own, entries complete. With no catalogue to show, the
built-in list is shown, and a header says so. A client whose key looks real, and whose other requests go to the real
API, finds the models of that API behind ours.

The rules: what the real API says, or fails to say, takes nothing from our own list; nobody else gets the client's key.
"""

import asyncio
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from mitmproxy import http

from accounts.setting_types import on_this_machine
from addon.exchange import new_request_id
from addon.protocol import codex_cli, models, routes, unserved
from addon.protocol.errors import Refused
from addon.protocol.real_key import bearer
from addon.protocol.routes import Route
from addon.services import Services
from addon.upstream.http_sse import UpstreamError
from certs.authority import HOST

BUILT_IN_HEADER = "x-openai-auth-models"
TIMEOUT = 5.0
"""Seconds for the real API's answer."""
_SENT = ("authorization", "openai-organization", "openai-project", "user-agent")
"""What the real API gets of the client's headers."""


class ModelsEndpoint:
    """Answers for the catalogue."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def serve(self, flow: http.HTTPFlow, route: Route) -> None:
        """Answer with the list, or with the model that the path names. Raises Refused (404)."""
        listing = await self._services.catalogue.listing()
        settings, request = self._services.settings, flow.request
        free = settings.cost_zeroing.enabled
        named = models.with_aliases(listing.models, settings.model_aliases)
        status = 200
        answer: dict[str, Any]
        if route is Route.MODEL:
            name = routes.model_name(request.path)
            try:
                answer = models.openai_model(models.find(named, name), free=free)
            except Refused:
                if (real := await self._real(request, f"/models/{quote(name, safe='/:')}")) is None:
                    raise
                status, answer = real
        elif codex_cli.wants_codex_list(request.headers, request.path):
            answer = models.codex_list(listing.models, free=free)
        else:
            answer = models.openai_list(named, free=free)
            if real := await self._real(request, "/models"):
                answer = models.joined(answer, real[1])
        headers = {"content-type": "application/json", "x-request-id": new_request_id()}
        if listing.built_in:
            headers[BUILT_IN_HEADER] = "built-in"
        flow.response = http.Response.make(status, orjson.dumps(answer), headers)

    async def _real(self, request: http.Request, path: str) -> tuple[int, dict[str, Any]] | None:
        """Status and JSON object of the real API's answer; None if it is not to be asked, or gives none."""
        settings = self._services.settings
        token = bearer(request.headers["authorization"])
        host = urlsplit(settings.openai_url).hostname or ""
        if not (host == HOST or on_this_machine(host)):
            return None
        if not unserved.passes(token, direct=True, policy=settings.unsupported):
            return None
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        try:
            async with asyncio.timeout(TIMEOUT):
                reply = await self._services.dispatcher.upstream.send(
                    "GET", settings.openai_url + path, headers, None
                )
                try:
                    body = await reply.body()
                finally:
                    reply.close()
            answer = orjson.loads(body)
        except (UpstreamError, TimeoutError, orjson.JSONDecodeError):
            return None
        return (reply.status, answer) if isinstance(answer, dict) else None
