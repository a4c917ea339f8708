"""
The generating routes: a request that was read becomes a call, and its flow gets an exchange.

Most requests are one call and one exchange. Several choices are several calls whose answers are joined; an answer in
the background goes on without its client.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from mitmproxy import http

from accounts.models import Account
from addon import replays
from addon.call import Call
from addon.continuity import hidden_searches
from addon.detached import Detached
from addon.exchange import Exchange
from addon.fan_out import FanOut
from addon.protocol import codex_request, compaction, images, resend
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.asked import Asked, Shaped
from addon.protocol.chat_object import ChatObject
from addon.protocol.chat_stream import ChatStream
from addon.protocol.choices import Choices, choices
from addon.protocol.completions import CompletionObject, CompletionStream
from addon.protocol.identity import request_headers
from addon.protocol.output import Output
from addon.protocol.plain import Plain
from addon.protocol.repair import ResponsesStream
from addon.protocol.routes import Route
from addon.protocol.verbatim import usage_of
from addon.reading import IMAGES, Reader, Reading
from addon.services import Services
from addon.sessions import Session
from addon.virtual_server import BODY_LIMIT, Answerer, VirtualServers

OUTPUTS: dict[tuple[str, bool], Callable[[Asked], Output]] = {
    ("responses", True): ResponsesStream,
    ("responses", False): ResponsesObject,
    ("chat", True): ChatStream,
    ("chat", False): ChatObject,
    ("completions", True): CompletionStream,
    ("completions", False): CompletionObject,
}
"""How an answer is written, by API and by whether the client wants a stream."""

CLIENT_KEY = "openai_auth_client_key"
"""The flow's metadata member with the id of the client key it came with, if there are any."""


class Generation:
    """Serves the generating routes."""

    def __init__(self, services: Services, servers: VirtualServers) -> None:
        self._services = services
        self._servers = servers
        self._reader = Reader(services)

    async def serve(self, flow: http.HTTPFlow, route: Route, body: dict[str, Any]) -> None:
        """Hand the flow to an exchange. Raises Refused."""
        services = self._services
        reading = await self._reader.read(flow.request, route, body)
        session = await services.sessions.find(reading.session)
        call = self._call(flow, reading, session)
        self._servers.claim(flow, self._exchange(flow.request, reading, call))
        if reading.key_first and call.plain:
            url = services.settings.openai_url + call.plain.path
            replays.show(flow.request, url, dict(call.plain.fields), call.plain.content)
        else:
            identity = services.dispatcher.identity_for(call)
            shown = request_headers(call.turn, identity, lite=call.shaped.lite, kind=call.shaped.kind)
            replays.show(flow.request, services.settings.responses_url, shown, call.body)

    def _call(self, flow: http.HTTPFlow, reading: Reading, session: Session) -> Call:
        """The call of the first choice."""
        shaped, several = reading.shapes[0], len(reading.shapes) > 1
        turn = self._services.sessions.turn(session, shaped.body["input"])
        plain = None
        if reading.key_first or not (several or self._in_background(reading)):
            plain = self._plain(flow.request, reading)
        return Call(
            shaped=shaped,
            session=session,
            turn=turn,
            body=codex_request.encode(shaped, turn),
            ciphertexts=resend.ciphertexts(shaped.body),
            compactions=resend.compactions(shaped.body),
            client_version=reading.fields.get("version"),
            failed=partial(replays.load, flow),
            completed=self._completed(reading, flow.metadata.get(CLIENT_KEY)),
            speaks_codex=reading.speaks_codex,
            plain=plain,
            subscriptions=reading.readable and not (reading.key_first and several),
        )

    def _completed(self, reading: Reading, key_id: str | None) -> Callable[[Account, Output], None]:
        """What is kept of a whole answer."""
        services, past = self._services, reading.past
        stores = reading.stores and services.stored.enabled
        if key_id:
            services.keys.asked(key_id)

        def completed(account: Account, output: Output) -> None:
            services.continuity.remember(reading.client, reading.session, output)
            if key_id:
                services.keys.used(key_id, usage_of(output))
            if stores and output.response:
                record = past.record(
                    output.response,
                    client=reading.client,
                    session=reading.session,
                    account=account.id,
                    hidden=hidden_searches(output),
                )
                services.stored.keep(record, past)

        return completed

    def _exchange(self, request: http.Request, reading: Reading, call: Call) -> Answerer:
        """What answers the request."""
        make = partial(
            Exchange,
            self._services.dispatcher,
            http2=request.is_http2,
            chunked=request.http_version != "HTTP/1.0",
        )
        asked = call.shaped.asked
        if len(reading.shapes) > 1 and not reading.key_first:
            parts = self._choices(reading.route, asked, len(reading.shapes))
            calls = [self._choice(call, shaped) for shaped in reading.shapes]
            exchanges = [make(each, output) for each, output in zip(calls, parts.outputs, strict=True)]
            return FanOut(exchanges, parts.join, stream=asked.stream)
        exchange = make(call, self._output(reading.route, asked, reading))
        if self._in_background(reading) and not reading.key_first:
            past, stored = reading.past, self._services.stored

            def unfinished(response: dict[str, Any]) -> None:
                record = past.record(response, client=reading.client, session=reading.session)
                stored.keep(record, past)

            return Detached(exchange, self._services.detached, reading.client, past.whole, unfinished)
        return exchange

    def _in_background(self, reading: Reading) -> bool:
        kept = reading.stores and self._services.stored.enabled
        return kept and reading.body.get("background") is True

    def _plain(self, request: http.Request, reading: Reading) -> Plain | None:
        """The client's own request, if there is an API key it could go to. Raises Refused."""
        if all(account.type == "oauth" for account in self._services.pool.accounts):
            return None
        content = request.raw_content or b""
        plain = Plain.of(request.path, request.headers.items(multi=True), content, BODY_LIMIT)
        if reading.past.history is None and not reading.past.references:
            return plain
        whole = {name: value for name, value in reading.body.items() if name != "previous_response_id"}
        # What it refers to is known here alone.
        whole["input"] = reading.shapes[0].body["input"]
        return replace(plain, content=orjson.dumps(whole))

    @staticmethod
    def _choice(call: Call, shaped: Shaped) -> Call:
        if shaped is call.shaped:
            return call
        return replace(call, shaped=shaped, body=codex_request.encode(shaped, call.turn))

    @staticmethod
    def _output(route: Route, asked: Asked, reading: Reading) -> Output:
        if route is Route.COMPACT:
            return compaction.CompactedObject(asked, reading.past.whole)
        if route in IMAGES and not asked.stream:
            return images.ImageObject(asked)
        return OUTPUTS[asked.api, asked.stream](asked)

    @staticmethod
    def _choices(route: Route, asked: Asked, count: int) -> Choices:
        return images.Images(asked, count) if route in IMAGES else choices(asked, count)
