"""
Which flows are ours, and what becomes of them.

A flow is ours when it goes to api.openai.com, through the proxy or sent straight to our port, and its route is one
that we serve. Its request is replaced by the one that goes upstream, so mitmweb shows that; the token is added
below, on the upstream connection, and never stands on a flow. Everything else goes on as it came.

The rule: a request that we serve is refused without an `Authorization` header, before anything else happens. A web
page in the user's browser cannot send one, and so cannot spend quota.
"""

import logging
import time
from typing import Any
from urllib.parse import urlsplit

import orjson
from mitmproxy import http

from accounts.client_keys import NotServed
from addon import passthrough
from addon.exchange import new_request_id
from addon.generation import CLIENT_KEY, Generation
from addon.models_endpoint import ModelsEndpoint
from addon.options import loopback
from addon.protocol import compression, errors, images, routes
from addon.protocol.errors import Refused
from addon.protocol.real_key import bearer
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

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if flow.is_replay or flow.error:
            return
        direct = sent_to_us(flow)
        if not direct and flow.request.pretty_host.lower() != HOST:
            return
        if route := routes.match(flow.request.method, flow.request.path):
            flow.metadata[CLAIMED] = route.value
            flow.request.stream = False  # whatever `stream_large_bodies` says: the body is rewritten whole
        elif trouble := self._services.no_settings:
            flow.metadata[CLAIMED] = passthrough.ANSWERED
            flow.request.stream = False
            refuse(flow, errors.refuse(503, trouble, code="proxy_error", type="server_error").failure)
        else:
            passthrough.take(flow, self._services.settings.unsupported, direct=direct)

    async def request(self, flow: http.HTTPFlow) -> None:
        if CLAIMED not in flow.metadata or flow.response:
            return
        try:
            await self._serve(flow)
        except Refused as refused:
            refuse(flow, refused.failure)
        except Exception:
            logger.exception("A request could not be prepared.")
            trouble = "The proxy failed to handle this request; its log says why."
            refuse(flow, errors.refuse(500, trouble, code="proxy_error", type="server_error").failure)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if flow.response and CLAIMED in flow.metadata and flow.response.status_code != 101:
            # JSON answers are small and stay on the flow for the reader in mitmweb; streams are not held.
            flow.response.stream = "content-length" not in flow.response.headers
        elif passthrough.PASSED in flow.metadata:
            passthrough.answered(flow)

    async def _serve(self, flow: http.HTTPFlow) -> None:
        refuse_pages(flow.request)
        require_key(flow.request)
        if flow.metadata[CLAIMED] == Route.RESPONSES_SOCKET:
            raise errors.refuse(
                426, "WebSocket is not served here; use POST /v1/responses.", code="upgrade_required"
            )
        if flow.metadata.get("openai_auth_too_large"):
            raise compression.too_large(BODY_LIMIT)
        route = Route(flow.metadata[CLAIMED])
        await self._services.ready()
        self._admit(flow)
        if route in (Route.MODELS, Route.MODEL):
            await self._models.serve(flow, route)
            return
        if route in ROUTES:
            await self._responses.serve(flow, route, client_of(flow.request.headers["authorization"]))
            return
        await self._generation.serve(flow, route, parse(flow.request))

    def _admit(self, flow: http.HTTPFlow) -> None:
        """Raises Refused for a client without a key of the list, if there is a list."""
        try:
            key = self._services.keys.admit(bearer(flow.request.headers["authorization"]) or "")
        except NotServed as refusal:
            raise errors.refuse(401, str(refusal), code="invalid_api_key") from None
        if key:
            flow.metadata[CLIENT_KEY] = key


def sent_to_us(flow: http.HTTPFlow) -> bool:
    """Whether the client took us for the server: a base URL, not a proxy setting."""
    client, request = flow.client_conn, flow.request
    if client.tls_established or client.sni or request.scheme != "http":
        return False
    if ORIGIN_FORM in flow.metadata:
        return True
    # A request line with a whole URL is for a proxy, and may name it: then it is for us all the same.
    host, port = request.host.strip("[]"), request.port
    if port != client.sockname[1]:
        return False
    try:
        return host in ("localhost", client.sockname[0]) or loopback(host)
    except ValueError:  # a name
        return False


def refuse_pages(request: http.Request) -> None:
    """Raises Refused for a page of some web site: by a name that it pointed at us it could send any header."""
    origin = urlsplit(request.headers.get("origin", ""))
    if origin.scheme not in ("http", "https"):  # no browser, or a program's own page
        return
    host = origin.hostname or ""
    try:
        own = host in ("localhost", HOST) or loopback(host)
    except ValueError:  # a name
        own = False
    if not own:
        raise errors.refuse(
            403,
            f"Web pages are not served here, and this request comes from {origin.netloc}.",
            code="foreign_origin",
        )


def require_key(request: http.Request) -> None:
    """Raises Refused for a request without any bearer token."""
    if bearer(request.headers.get("authorization")) is None:
        raise errors.refuse(
            401,
            "This proxy wants an Authorization header with a bearer token. Set OPENAI_API_KEY to any value, "
            "such as `any`: your ChatGPT login is added by the proxy.",
            code="missing_authorization",
        )


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


def refuse(flow: http.HTTPFlow, failure: errors.Failure) -> None:
    """Answer a flow with a failure in OpenAI's form."""
    headers = errors.headers(failure, now=time.time()) | {"x-request-id": new_request_id()}
    flow.response = http.Response.make(failure.status, errors.body(failure), headers)
