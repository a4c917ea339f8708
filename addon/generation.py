"""
The generating routes: a client's body becomes a call, and its flow gets an exchange.

Responses, Chat Completions and legacy Completions differ in how they are read and in how the answer is written.
Between the two they are one thing: a Codex request of a conversation.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from mitmproxy import http

from addon import replays
from addon.dispatch import Call
from addon.exchange import Exchange
from addon.protocol import chat_request, codex_request, completions
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.asked import Asked, Shaped
from addon.protocol.chat_object import ChatObject
from addon.protocol.chat_stream import ChatStream
from addon.protocol.completions import CompletionObject, CompletionStream
from addon.protocol.output import Output
from addon.protocol.repair import ResponsesStream
from addon.protocol.routes import Route
from addon.services import Services
from addon.virtual_server import VirtualServers

LITE_HEADER = "x-openai-internal-codex-responses-lite"

OUTPUTS: dict[tuple[str, bool], Callable[[Asked], Output]] = {
    ("responses", True): ResponsesStream,
    ("responses", False): ResponsesObject,
    ("chat", True): ChatStream,
    ("chat", False): ChatObject,
    ("completions", True): CompletionStream,
    ("completions", False): CompletionObject,
}
"""How an answer is written, by API and by whether the client wants a stream."""


class Generation:
    """Serves the generating routes."""

    def __init__(self, services: Services, servers: VirtualServers) -> None:
        self._services = services
        self._servers = servers

    async def serve(self, flow: http.HTTPFlow, route: Route, body: dict[str, Any]) -> None:
        """Shape the request, and hand the flow to an exchange. Raises Refused."""
        services, headers = self._services, flow.request.headers
        shaped = self._shape(route, body, lite=headers.get(LITE_HEADER, "").lower() == "true")
        client = hashlib.sha256(headers["authorization"].encode()).hexdigest()
        session = await services.sessions.find(codex_request.session_key(headers, body, client=client))
        turn = services.sessions.turn(session, shaped.body["input"])
        call = Call(
            shaped=shaped,
            session=session,
            turn=turn,
            body=codex_request.encode(shaped, turn),
            ciphertexts=codex_request.ciphertexts(shaped.body),
            client_version=headers.get("version"),
            failed=partial(replays.load, flow),
        )
        output = OUTPUTS[shaped.asked.api, shaped.asked.stream](shaped.asked)
        self._servers.claim(flow, Exchange(services.dispatcher, call, output, http2=flow.request.is_http2))
        shown = codex_request.headers(turn, services.identity(), lite=shaped.lite)
        replays.show(flow.request, services.settings.responses_url, shown, call.body)

    def _shape(self, route: Route, body: dict[str, Any], *, lite: bool) -> Shaped:
        """The Codex request of a client's body, read as its route's API."""
        settings = self._services.settings
        options = codex_request.Options(web_search=settings.web_search, instructions=settings.instructions)
        if route is Route.RESPONSES:
            return codex_request.shape(body, options, lite_header=lite)
        if route is Route.COMPLETIONS:
            return completions.shape(body, options)
        chat = chat_request.ChatOptions(
            n_policy=settings.n_policy,
            stop_policy=settings.stop_policy,
            expose_reasoning=settings.expose_reasoning,
            strict_params=settings.strict_params,
        )
        return chat_request.shape(body, options, chat)
