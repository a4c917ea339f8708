"""
Which flows are ours, and what becomes of them.

A flow is ours when it goes to api.openai.com, through the proxy or sent straight to our port, and its route is one
that we serve. Its request is replaced by the one that goes upstream, so mitmweb shows that; the token is added
below, on the upstream connection, and never stands on a flow. Everything else goes on as it came.

The rule: a request that we serve is admitted (addon/admission.py) before anything else happens.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from mitmproxy import http

from addon import passthrough
from addon.admission import admit
from addon.exchange import new_request_id
from addon.generation import Generation
from addon.models_endpoint import ModelsEndpoint
from addon.options import loopback
from addon.protocol import compression, errors, images, routes
from addon.protocol.errors import Refused
from addon.protocol.routes import Route
from addon.reading import client_of
from addon.response_routes import ROUTES, ResponseRoutes
from addon.services import Services
from addon.virtual_server import BODY_LIMIT, CLAIMED, ORIGIN_FORM, VirtualServers
from certs.authority import HOST

logger = logging.getLogger(__name__)


class Intercept:
    """The addon between mitmproxy's hooks and the exchanges."""

    name = "openai_auth_intercept"  # mitmproxy and mitmweb have an addon called `intercept`

    def __init__(self, services: Services, servers: VirtualServers) -> None:
        self._services = services
        self._generation = Generation(services, servers)
        self._models = ModelsEndpoint(services)
        self._responses = ResponseRoutes(services)

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.error:
            return
        with refusing(flow):
            if not flow.is_replay:
                self._claim(flow)
            if CLAIMED in flow.metadata and not flow.response:
                await admit(flow, self._services)

    async def request(self, flow: http.HTTPFlow) -> None:
        if CLAIMED in flow.metadata and not flow.response:
            with refusing(flow):
                await self._serve(flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response and CLAIMED in flow.metadata and flow.response.status_code != 101:
            # JSON answers are small and stay on the flow for the reader in mitmweb; streams are not held.
            flow.response.stream = "content-length" not in flow.response.headers
        elif passthrough.PASSED in flow.metadata:
            passthrough.answered(flow)

    def _claim(self, flow: http.HTTPFlow) -> None:
        """Mark a flow that is ours. Raises Refused."""
        direct = sent_to_us(flow)
        if not direct and flow.request.pretty_host.lower() != HOST:
            return
        if flow.response:  # refused by another addon, such as mitmproxy's `proxyauth`
            passthrough.answer(flow, flow.response)
        elif route := routes.match(flow.request.method, flow.request.path):
            flow.metadata[CLAIMED] = route.value
            flow.request.stream = False  # whatever `stream_large_bodies` says: the body is rewritten whole
        elif trouble := self._services.no_settings:
            raise errors.refuse(503, trouble, code="proxy_error", type="server_error")
        else:
            passthrough.take(flow, self._services.settings.unsupported, direct=direct)

    async def _serve(self, flow: http.HTTPFlow) -> None:
        if flow.metadata[CLAIMED] == Route.RESPONSES_SOCKET:
            raise errors.refuse(
                426, "WebSocket is not served here; use POST /v1/responses.", code="upgrade_required"
            )
        if flow.metadata.get("openai_auth_too_large"):
            raise compression.too_large(BODY_LIMIT)
        route = Route(flow.metadata[CLAIMED])
        if route in (Route.MODELS, Route.MODEL):
            await self._models.serve(flow, route)
            return
        if route in ROUTES:
            await self._responses.serve(flow, route, client_of(flow.request.headers["authorization"]))
            return
        await self._generation.serve(flow, route, parse(flow.request))


def sent_to_us(flow: http.HTTPFlow) -> bool:
    """Whether the client took us for the server: a base URL, not a proxy setting."""
    client, request = flow.client_conn, flow.request
    if client.tls_established or client.sni or request.scheme != "http":
        return False
    if ORIGIN_FORM in flow.metadata:
        return True
    # A request line with a whole URL is for a proxy, and may name it: then it is for us all the same.
    host = request.host.strip("[]")
    return request.port == client.sockname[1] and (host == client.sockname[0] or loopback(host))


def parse(request: http.Request) -> dict[str, Any]:
    """The JSON object of a request's body, inflated; an upload as its JSON. Raises Refused: 400, 413 or 415."""
    content = compression.decode(
        request.raw_content or b"", request.headers.get("content-encoding", "identity"), BODY_LIMIT
    )
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        return images.form(content, kind)
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise errors.refuse(
            400, f"The request body is not valid JSON: {error}.", code="invalid_json"
        ) from None
    if not isinstance(body, dict):
        raise errors.refuse(400, "The request body has to be a JSON object.", code="invalid_json")
    return body


@contextmanager
def refusing(flow: http.HTTPFlow) -> Iterator[None]:
    """A flow that cannot be served gets the reason for its answer."""
    try:
        yield
    except Refused as refused:
        refuse(flow, refused.failure)
    except Exception:
        logger.exception("A request could not be prepared.")
        trouble = "The proxy failed to handle this request; its log says why."
        refuse(flow, errors.refuse(500, trouble, code="proxy_error", type="server_error").failure)


def refuse(flow: http.HTTPFlow, failure: errors.Failure) -> None:
    """Answer a flow with a failure in OpenAI's form."""
    headers = errors.headers(failure, now=time.time()) | {"x-request-id": new_request_id()}
    passthrough.answer(flow, http.Response.make(failure.status, errors.body(failure), headers))
