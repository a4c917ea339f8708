"""
The generating routes: a client's body becomes a call, and its flow gets an exchange.

Responses, Chat Completions and legacy Completions differ in how they are read and in how the answer is written.
Between the two they are one thing: a Codex request of a conversation, which may have a past that the client only
names, or cannot send at all (addon/stored.py, addon/continuity.py).

The rule: a client that names its past and one that sends it get the same bytes upstream, and so the same cache.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from mitmproxy import http

from accounts import routing
from accounts.models import Account
from addon import replays
from addon.call import Call
from addon.continuity import hidden_searches
from addon.detached import Detached
from addon.exchange import Exchange
from addon.fan_out import FanOut
from addon.protocol import (
    chat_reasoning,
    chat_request,
    codex_cli,
    codex_request,
    compaction,
    completions,
    images,
)
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.asked import Api, Asked, Shaped
from addon.protocol.chat_object import ChatObject
from addon.protocol.chat_stream import ChatStream
from addon.protocol.choices import choices
from addon.protocol.completions import CompletionObject, CompletionStream
from addon.protocol.failure import Refused
from addon.protocol.output import Output
from addon.protocol.plain import Plain
from addon.protocol.repair import ResponsesStream
from addon.protocol.routes import Route
from addon.protocol.search_replay import Lookup
from addon.protocol.verbatim import usage_of
from addon.services import Services
from addon.stored import Past
from addon.virtual_server import BODY_LIMIT, VirtualServers

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


IMAGES = {Route.IMAGE_GENERATION: images.generation, Route.IMAGE_EDIT: images.edit}
"""How a request for a picture is read."""

CLIENT_KEY = "openai_auth_client_key"
"""The flow's metadata member with the id of the client key it came with, if there are any."""


class Generation:
    """Serves the generating routes."""

    def __init__(self, services: Services, servers: VirtualServers) -> None:
        self._services = services
        self._servers = servers

    async def serve(self, flow: http.HTTPFlow, route: Route, body: dict[str, Any]) -> None:
        """Shape the request, and hand the flow to an exchange. Raises Refused."""
        services, request = self._services, flow.request
        headers = request.headers
        client, codex = client_of(request), codex_cli.speaks_codex(headers)
        named = route in (Route.RESPONSES, Route.COMPACT)
        past = await services.stored.past(body, client) if named else Past()
        key = codex_request.session_key(headers, body, client=client, chain=past.session)
        by_key = self._key_comes_first(key, body)
        readable = True
        try:
            shapes = self._shapes(flow, route, body, past, key)
        except Refused:
            if not by_key:
                raise
            shapes, readable = [unread(route, body)], False  # the real API may well take it
        several, shaped = len(shapes) > 1, shapes[0]
        session = await services.sessions.find(key)
        turn = services.sessions.turn(session, shaped.body["input"])
        stores = route is Route.RESPONSES and services.stored.enabled and body.get("store") is not False
        in_background = stores and body.get("background") is True
        key_id = flow.metadata.get(CLIENT_KEY)
        if key_id:
            services.keys.asked(key_id)

        def completed(account: Account, output: Output) -> None:
            services.continuity.remember(key, output)
            if key_id:
                services.keys.used(key_id, usage_of(output))
            if stores and output.response:
                hidden = hidden_searches(output)
                record = past.record(
                    output.response, client=client, session=key, account=account.id, hidden=hidden
                )
                services.stored.keep(record, past.uses)

        call = Call(
            shaped=shaped,
            session=session,
            turn=turn,
            body=codex_request.encode(shaped, turn),
            ciphertexts=codex_request.ciphertexts(shaped.body),
            client_version=headers.get("version"),
            failed=partial(replays.load, flow),
            completed=completed,
            speaks_codex=codex,
            plain=self._plain(request, body, past, shaped)
            if by_key or not (several or in_background)
            else None,
            subscriptions=readable and not (by_key and several),
        )
        if several and not by_key:
            self._servers.claim(flow, self._fan_out(request, route, call, shapes))
        elif in_background and not by_key:

            def cancelled(response: dict[str, Any]) -> None:
                services.stored.keep(past.record(response, client=client, session=key), past.uses)

            exchange = self._exchange(request, call, self._output(route, shaped.asked, past))
            self._servers.claim(flow, Detached(exchange, services.detached, client, cancelled))
        else:
            exchange = self._exchange(request, call, self._output(route, shaped.asked, past))
            self._servers.claim(flow, exchange)
        self._show(request, call, by_key=by_key)

    def _exchange(self, request: http.Request, call: Call, output: Output) -> Exchange:
        chunked = request.http_version != "HTTP/1.0"
        return Exchange(self._services.dispatcher, call, output, http2=request.is_http2, chunked=chunked)

    def _fan_out(self, request: http.Request, route: Route, call: Call, shapes: list[Shaped]) -> FanOut:
        """One exchange for each choice; those of the same prompt send the same bytes."""
        asked = call.shaped.asked
        several = images.Images(asked, len(shapes)) if route in IMAGES else choices(asked, len(shapes))
        calls = [
            call
            if shaped is call.shaped
            else replace(call, shaped=shaped, body=codex_request.encode(shaped, call.turn))
            for shaped in shapes
        ]
        exchanges = [
            self._exchange(request, one, output) for one, output in zip(calls, several.outputs, strict=True)
        ]
        return FanOut(exchanges, several.join, stream=asked.stream)

    def _show(self, request: http.Request, call: Call, *, by_key: bool) -> None:
        """Let the flow show what is sent first."""
        services = self._services
        if by_key and call.plain:
            url = services.settings.openai_url + call.plain.path
            replays.show(request, url, dict(call.plain.fields), call.plain.content)
            return
        identity = services.dispatcher.identity_for(call)
        shown = codex_request.headers(call.turn, identity, lite=call.shaped.lite)
        replays.show(request, services.settings.responses_url, shown, call.body)

    def _key_comes_first(self, session: str, body: dict[str, Any]) -> bool:
        """Whether an API key is asked first, and the real API so has the first word about the request."""
        model = body.get("model")
        first = routing.Request(session=session, model=model if isinstance(model, str) else None)
        candidates = self._services.pool.decide(first).candidates
        return bool(candidates) and candidates[0].account.type == "api_key"

    def _plain(self, request: http.Request, body: dict[str, Any], past: Past, shaped: Shaped) -> Plain | None:
        """The client's own request, if there is an API key it could go to. Raises Refused."""
        if all(account.type == "oauth" for account in self._services.pool.accounts):
            return None
        content = request.raw_content or b""
        plain = Plain.of(request.path, request.headers.items(multi=True), content, BODY_LIMIT)
        if past.history is None and not past.references:
            return plain
        whole = {name: value for name, value in body.items() if name != "previous_response_id"}
        # What it refers to is known here alone.
        return replace(plain, content=orjson.dumps(whole | {"input": shaped.body["input"]}))

    @staticmethod
    def _output(route: Route, asked: Asked, past: Past) -> Output:
        if route is Route.COMPACT:
            return compaction.CompactedObject(asked, past.whole)
        if route in IMAGES and not asked.stream:
            return images.ImageObject(asked)
        return OUTPUTS[asked.api, asked.stream](asked)

    def _shapes(
        self, flow: http.HTTPFlow, route: Route, body: dict[str, Any], past: Past, session: str
    ) -> list[Shaped]:
        """The Codex requests that make the answer: one for each choice. Raises Refused."""
        headers = flow.request.headers
        lite = headers.get(LITE_HEADER, "").lower() == "true"
        fans_out = self._services.settings.n_policy == "fanout"
        prompts = completions.bodies(body) if route is Route.COMPLETIONS and fans_out else [body]
        shapes = [
            self._named(self._shape(route, self._aliased(each), past, session, lite=lite), body)
            for each in prompts
        ]
        if not codex_cli.speaks_codex(headers):  # a Codex program sends back what it was given
            thoughts = self._services.continuity.thoughts(session)
            shapes = [with_thoughts(shaped, thoughts) for shaped in shapes]
        return [shaped for shaped in shapes for _ in range(shaped.asked.n)]

    def _aliased(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the model that the settings put in the place of the client's."""
        model = body.get("model")
        alias = self._services.settings.model_aliases.get(model) if isinstance(model, str) else None
        return {**body, "model": alias} if alias else body

    @staticmethod
    def _named(shaped: Shaped, body: dict[str, Any]) -> Shaped:
        """Answers name the model as the client does."""
        return replace(shaped, asked=replace(shaped.asked, model=body.get("model")))

    def _shape(self, route: Route, body: dict[str, Any], past: Past, session: str, *, lite: bool) -> Shaped:
        """The Codex request of a client's body, read as its route's API."""
        settings = self._services.settings
        options = codex_request.Options(
            web_search=settings.web_search,
            instructions=settings.instructions,
            efforts=self._services.catalogue.efforts,
        )
        remembered = self._services.continuity.searches(session)

        def hidden(key: str) -> list[dict[str, Any]]:
            return past.hidden.get(key) or remembered(key)

        if route in (Route.RESPONSES, Route.COMPACT):
            if route is Route.COMPACT:
                body = compaction.request(body, past.items)
            return codex_request.shape(
                body,
                options,
                lite_header=lite,
                history=past.history,
                resolve=past.references.get,
                hidden=hidden,
            )
        if route in IMAGES:
            picture = IMAGES[route](body, settings.image_model)
            shaped = codex_request.shape(picture.body, replace(options, web_search=False))
            return replace(shaped, asked=replace(shaped.asked, n=picture.count))
        chat = chat_request.ChatOptions(
            n_policy=settings.n_policy,
            stop_policy=settings.stop_policy,
            expose_reasoning=settings.expose_reasoning,
            strict_params=settings.strict_params,
        )
        if route is Route.COMPLETIONS:
            return completions.shape(body, options, chat)
        return chat_request.shape(body, options, chat, hidden=hidden)


def client_of(request: http.Request) -> str:
    """Who asks: a digest of the client's key."""
    key = request.headers["authorization"].partition(" ")[2].strip()
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def unread(route: Route, body: dict[str, Any]) -> Shaped:
    """A request that only the real API can make sense of: what is known of it all the same."""
    apis: dict[Route, Api] = {Route.CHAT: "chat", Route.COMPLETIONS: "completions"}
    model = body.get("model")
    asked = Asked(
        apis.get(route, "responses"), body.get("stream") is True, model if isinstance(model, str) else None
    )
    return Shaped({"model": asked.model or "", "input": []}, asked)


def with_thoughts(shaped: Shaped, lookup: Lookup) -> Shaped:
    """The request with the reasoning that its client did not send back, in front of the calls it led to."""
    items: list[dict[str, Any]] = shaped.body["input"]
    whole = chat_reasoning.insert(items, lookup)
    if len(whole) == len(items):
        return shaped
    return replace(shaped, body={**shaped.body, "input": whole})
