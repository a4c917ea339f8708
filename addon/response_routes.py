"""
The routes of one stored response: retrieve, delete, cancel, list its input.

The rule: an id that this client key did not make is an id that does not exist.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from mitmproxy import http

from addon.exchange import new_request_id
from addon.protocol import errors, input_view, routes
from addon.protocol.errors import Refused
from addon.protocol.routes import Route
from addon.services import Services
from addon.stored import history

ROUTES = frozenset({Route.RESPONSE, Route.RESPONSE_DELETE, Route.RESPONSE_CANCEL, Route.INPUT_ITEMS})


class ResponseRoutes:
    """Serves them from the store, and from what runs in the background."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def serve(self, flow: http.HTTPFlow, route: Route, client: str) -> None:
        """Answer the flow. Raises Refused (400, 404)."""
        id = routes.response_id(flow.request.path)
        match route:
            case Route.RESPONSE:
                answer = await self._retrieve(id, client, flow.request.query)
            case Route.RESPONSE_DELETE:
                answer = await self._delete(id, client)
            case Route.RESPONSE_CANCEL:
                answer = await self._cancel(id, client)
            case _:
                answer = await self._input_items(id, client, flow.request.query)
        headers = {"content-type": "application/json", "x-request-id": new_request_id()}
        flow.response = http.Response.make(200, orjson.dumps(answer), headers)

    async def _retrieve(self, id: str, client: str, query: Mapping[str, str]) -> dict[str, Any]:
        if query.get("stream", "").lower() in ("true", "1"):
            raise errors.refuse(
                400,
                "A stored response cannot be streamed again. Retrieve it without `stream`.",
                code="unsupported_parameter",
                param="stream",
            )
        if running := self._services.detached.find(id, client):
            assert running.response_object
            return running.response_object
        return await self._stored(id, client)

    async def _delete(self, id: str, client: str) -> dict[str, Any]:
        if running := self._services.detached.find(id, client):
            running.cancel()
        if not await self._services.stored.delete(id, client):
            raise _unknown(id)
        return {"id": id, "object": "response", "deleted": True}

    async def _cancel(self, id: str, client: str) -> dict[str, Any]:
        if running := self._services.detached.find(id, client):
            return running.cancel()
        return await self._stored(id, client)

    async def _input_items(self, id: str, client: str, query: Mapping[str, str]) -> dict[str, Any]:
        if running := self._services.detached.find(id, client):
            items = running.input
        elif chain := await self._services.stored.chain(id, client):
            items = [*history(chain[:-1]), *chain[-1].input]
        else:
            raise _unknown(id)
        return input_view.page(input_view.listed(items, id), query)

    async def _stored(self, id: str, client: str) -> dict[str, Any]:
        if found := await self._services.stored.response(id, client):
            return found.response
        raise _unknown(id)


def _unknown(id: str) -> Refused:
    return errors.refuse(404, f"Response with id '{id}' not found.", code="not_found")
