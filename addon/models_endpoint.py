"""
GET /v1/models and /v1/models/{id}: what the accounts at hand may use.

An SDK gets OpenAI's shape. A Codex program gets the backend's own, entries complete. With no catalogue to show, the
built-in list is shown, and a header says so.
"""

import orjson
from mitmproxy import http

from addon.exchange import new_request_id
from addon.protocol import codex_cli, models, routes
from addon.protocol.routes import Route
from addon.services import Services

BUILT_IN_HEADER = "x-openai-auth-models"


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
        if route is Route.MODEL:
            found = models.find(named, routes.model_name(request.path))
            answer = models.openai_model(found, free=free)
        elif codex_cli.wants_codex_list(request.headers, request.path):
            answer = models.codex_list(listing.models, free=free)
        else:
            answer = models.openai_list(named, free=free)
        headers = {"content-type": "application/json", "x-request-id": new_request_id()}
        if listing.built_in:
            headers[BUILT_IN_HEADER] = "built-in"
        flow.response = http.Response.make(200, orjson.dumps(answer), headers)
