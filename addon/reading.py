"""
What a client asks for: its body, read as its route's API, with the past that it only names.

Responses, Chat Completions, legacy Completions, images and compaction differ in how they are read and in how the answer
is written. Between the two they are one thing: a Codex request of a conversation.

The rule: a client that names its past and one that sends it get the same bytes upstream, and so the same cache.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mitmproxy import http

from accounts import routing
from addon.protocol import (
    chat_reasoning,
    chat_request,
    codex_cli,
    codex_request,
    compaction,
    completions,
    images,
)
from addon.protocol.asked import Api, Asked, Shaped
from addon.protocol.failure import Refused
from addon.protocol.identity import session_key
from addon.protocol.routes import Route
from addon.protocol.search_replay import Lookup
from addon.services import Services
from addon.stored import Past

LITE_HEADER = "x-openai-internal-codex-responses-lite"

IMAGES = {Route.IMAGE_GENERATION: images.generation, Route.IMAGE_EDIT: images.edit}
"""How a request for a picture is read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A client's request, understood."""

    route: Route
    fields: dict[str, str]
    """The client's headers, in lower case."""
    body: dict[str, Any]
    client: str
    """Who asks: a digest of the client's key."""
    speaks_codex: bool
    past: Past
    session: str
    """Key of the conversation."""
    key_first: bool
    """An API key is asked first: the real API has the first word about the request."""
    shapes: list[Shaped]
    """The Codex requests that make the answer: one for each choice."""
    readable: bool = True
    """False for a request that only the real API can make sense of."""

    @property
    def stores(self) -> bool:
        """Whether the client lets its answer be kept."""
        return self.route is Route.RESPONSES and self.body.get("store") is not False


class Reader:
    """Reads requests with what the services know: settings, stored answers, hidden items, models."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def read(self, request: http.Request, route: Route, body: dict[str, Any]) -> Reading:
        """Understand a request. Raises Refused."""
        services = self._services
        fields = {name.lower(): value for name, value in request.headers.items()}
        client, codex = client_of(fields["authorization"]), codex_cli.speaks_codex(fields)
        past = (
            await services.stored.past(body, client) if route in (Route.RESPONSES, Route.COMPACT) else Past()
        )
        session = session_key(fields, body, client=client, chain=past.session)
        key_first = self._key_comes_first(session, body)
        readable = True
        try:
            lite = fields.get(LITE_HEADER, "").lower() == "true"
            shapes = self._shapes(route, body, past, session, lite=lite)
        except Refused:
            if not key_first:
                raise
            shapes, readable = [unread(route, body)], False  # the real API may well take it
        if not codex:  # a Codex program sends back what it was given
            thoughts = services.continuity.thoughts(client)
            shapes = [with_thoughts(shaped, thoughts) for shaped in shapes]
        return Reading(
            route=route,
            fields=fields,
            body=body,
            client=client,
            speaks_codex=codex,
            past=past,
            session=session,
            key_first=key_first,
            shapes=shapes,
            readable=readable,
        )

    def _key_comes_first(self, session: str, body: dict[str, Any]) -> bool:
        pool = self._services.pool
        if all(account.type == "oauth" for account in pool.accounts):
            return False
        model = body.get("model")
        first = routing.Request(session=session, model=model if isinstance(model, str) else None)
        candidates = pool.decide(first).candidates
        return bool(candidates) and candidates[0].account.type == "api_key"

    def _shapes(
        self, route: Route, body: dict[str, Any], past: Past, session: str, *, lite: bool
    ) -> list[Shaped]:
        several = route is Route.COMPLETIONS and self._chat.n_policy == "fanout"
        prompts = completions.bodies(body, self._chat) if several else [body]
        shapes = [self._shape(route, self._aliased(each), past, session, lite=lite) for each in prompts]
        if self._services.settings.model_aliases:  # answers name the model as the client does
            asked_for = body.get("model")
            shapes = [replace(each, asked=replace(each.asked, model=asked_for)) for each in shapes]
        return [shaped for shaped in shapes for _ in range(shaped.asked.n)]

    def _aliased(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the model that the settings put in the place of the client's."""
        model = body.get("model")
        alias = self._services.settings.model_aliases.get(model) if isinstance(model, str) else None
        return {**body, "model": alias} if alias else body

    def _shape(self, route: Route, body: dict[str, Any], past: Past, session: str, *, lite: bool) -> Shaped:
        """The Codex request of a body, read as its route's API."""
        settings = self._services.settings
        options = codex_request.Options(
            web_search=settings.web_search,
            instructions=settings.instructions,
            efforts=self._services.catalogue.efforts,
        )
        if route in IMAGES:
            picture = IMAGES[route](body, settings.image_model)
            shaped = codex_request.shape(picture.body, replace(options, web_search=False))
            return replace(shaped, asked=replace(shaped.asked, n=picture.count))
        hidden = self._hidden(past, session)
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
        if route is Route.COMPLETIONS:
            return completions.shape(body, options, self._chat)
        return chat_request.shape(body, options, self._chat, hidden=hidden)

    @property
    def _chat(self) -> chat_request.ChatOptions:
        settings = self._services.settings
        return chat_request.ChatOptions(
            n_policy=settings.n_policy,
            stop_policy=settings.stop_policy,
            expose_reasoning=settings.expose_reasoning,
            speaker_names=settings.speaker_names,
            strict_params=settings.strict_params,
        )

    def _hidden(self, past: Past, session: str) -> Lookup | None:
        """Finds the searches that the client never saw; None if there are none."""
        remembered = self._services.continuity.searches(session)
        if not past.hidden:
            return remembered
        return lambda key: past.hidden.get(key) or (remembered(key) if remembered else [])


def client_of(authorization: str) -> str:
    """Who asks: a digest of the client's key."""
    key = authorization.partition(" ")[2].strip()
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def unread(route: Route, body: dict[str, Any]) -> Shaped:
    """A request that only the real API can make sense of: what is known of it all the same."""
    apis: dict[Route, Api] = {Route.CHAT: "chat", Route.COMPLETIONS: "completions"}
    model = body.get("model")
    asked = Asked(
        apis.get(route, "responses"), body.get("stream") is True, model if isinstance(model, str) else None
    )
    return Shaped({"model": asked.model or "", "input": []}, asked)


def with_thoughts(shaped: Shaped, lookup: Callable[[str], list[chat_reasoning.Claimed]]) -> Shaped:
    """The request with the reasoning that its client did not send back, where it led to calls."""
    items: list[dict[str, Any]] = shaped.body["input"]
    whole = chat_reasoning.insert(items, lookup)
    if len(whole) == len(items):
        return shaped
    return replace(shaped, body={**shaped.body, "input": whole})
