"""What a client with a real key finds behind our own models: the real API's, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from mitmproxy.test import tflow, tutils

from accounts.settings import Settings
from addon.models_endpoint import ModelsEndpoint
from addon.protocol import routes
from addon.protocol.errors import Refused
from addon.protocol.models import Model
from addon.upstream.catalogue import Listing
from addon.upstream.http_sse import Reply, Upstream
from tests.codex_fake.gates import Gate
from tests.openai_stand_in import OpenAIStandIn, Scripted

REAL = "Bearer sk-proj-Ab3dE5gH1jK2mN4pQ6rS8tU0"


class Catalogue:
    async def listing(self) -> Listing:
        return Listing((Model("gpt-5.5", {"slug": "gpt-5.5"}),), built_in=False)


class Endpoint:
    """The endpoint before a stand-in for the real API."""

    def __init__(self, real: OpenAIStandIn, upstream: Upstream) -> None:
        self.real = real
        self._dispatcher = SimpleNamespace(upstream=upstream)

    async def get(self, path: str, *, key: str = REAL, **settings: Any) -> tuple[int, Any]:
        """Status and body of the answer."""
        services: Any = SimpleNamespace(
            settings=Settings(**{"openaiUrl": self.real.url} | settings),
            catalogue=Catalogue(),
            dispatcher=self._dispatcher,
        )
        headers = [(b"authorization", key.encode()), (b"cookie", b"a=b"), (b"OpenAI-Project", b"proj_1")]
        flow = tflow.tflow(req=tutils.treq(path=path.encode(), headers=headers))
        route = routes.match("GET", path)
        assert route
        await ModelsEndpoint(services).serve(flow, route)
        assert flow.response
        return flow.response.status_code, flow.response.json()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with OpenAIStandIn() as real, Upstream() as upstream:
        yield Endpoint(real, upstream)


def says(body: Any, status: int = 200) -> Scripted:
    return Scripted(status, [json.dumps(body).encode()])


def model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "system"}


async def test_the_real_apis_models_stand_behind_ours(endpoint: Endpoint) -> None:
    endpoint.real.script.append(says({"object": "list", "data": [model("gpt-4o"), model("gpt-5.5")]}))
    status, answer = await endpoint.get("/v1/models")
    assert status == 200
    assert [(each["id"], each["owned_by"]) for each in answer["data"]] == [
        ("gpt-5.5", "openai"),
        ("gpt-4o", "system"),
    ]
    (asked,) = endpoint.real.requests
    assert (asked.method, asked.path) == ("GET", "/v1/models")
    assert (asked.headers["authorization"], asked.headers["openai-project"]) == (REAL, "proj_1")
    assert "cookie" not in asked.headers


@pytest.mark.parametrize(
    "said",
    [
        says({"error": {"message": "no"}}, 401),
        says({"data": 7}),
        says({"data": [7, {"id": 7}]}),
        says([]),
        Scripted(200, [b"<html>"]),
        Scripted(200, [b'{"data"'], cut=True),
    ],
)
async def test_what_the_real_api_fails_to_say_takes_nothing_from_ours(
    endpoint: Endpoint, said: Scripted
) -> None:
    endpoint.real.script.append(said)
    status, answer = await endpoint.get("/v1/models")
    assert (status, [each["id"] for each in answer["data"]]) == (200, ["gpt-5.5"])


@pytest.mark.parametrize(
    ("key", "unsupported"), [("Bearer any", "auto"), ("Bearer sk-proxy", "pass"), (REAL, "error")]
)
async def test_nobody_else_is_asked_about(endpoint: Endpoint, key: str, unsupported: str) -> None:
    _, answer = await endpoint.get("/v1/models", key=key, unsupported=unsupported)
    assert [each["id"] for each in answer["data"]] == ["gpt-5.5"]
    with pytest.raises(Refused):
        await endpoint.get("/v1/models/gpt-4o", key=key, unsupported=unsupported)
    assert not endpoint.real.requests


async def test_a_gateway_never_gets_the_clients_own_key(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = AsyncMock(side_effect=TimeoutError)
    monkeypatch.setattr(Upstream, "send", send)
    await endpoint.get("/v1/models", openaiUrl="https://api.openai.com.gateway.example/v1")
    send.assert_not_called()
    await endpoint.get("/v1/models", openaiUrl="https://api.openai.com/v1")
    send.assert_called_once()


async def test_a_codex_program_gets_the_backends_list_alone(endpoint: Endpoint) -> None:
    _, answer = await endpoint.get("/v1/models?client_version=0.169.0")
    assert [each["slug"] for each in answer["models"]] == ["gpt-5.5"]
    assert not endpoint.real.requests


async def test_a_model_unknown_here_is_the_real_apis_to_know(endpoint: Endpoint) -> None:
    endpoint.real.script += [says(model("org/ft:a?b")), says({"error": {"code": "model_not_found"}}, 404)]
    assert await endpoint.get("/v1/models/org/ft:a%3Fb") == (200, model("org/ft:a?b"))
    assert (await endpoint.get("/v1/models/none"))[0] == 404
    assert [asked.path for asked in endpoint.real.requests] == [
        "/v1/models/org/ft:a%3Fb",
        "/v1/models/none",
    ]
    assert (await endpoint.get("/v1/models/gpt-5.5"))[1]["owned_by"] == "openai"
    assert len(endpoint.real.requests) == 2


async def test_an_answer_that_does_not_end_keeps_no_connection(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, reading, read = Gate(), asyncio.Queue[Reply](), Reply.body

    async def body(self: Reply) -> bytes:
        reading.put_nowait(self)
        return await read(self)

    monkeypatch.setattr(Reply, "body", body)
    endpoint.real.script.append(Scripted(200, [b"{", b"}"], gate=gate))
    asked = asyncio.create_task(endpoint.get("/v1/models"))
    await gate.reached()
    reply = await reading.get()
    asked.cancel()
    await asyncio.wait([asked])
    assert reply._response.closed


async def test_a_real_api_that_cannot_be_reached_is_no_trouble(endpoint: Endpoint) -> None:
    endpoint.real.port = 1
    status, answer = await endpoint.get("/v1/models")
    assert (status, len(answer["data"])) == (200, 1)
    with pytest.raises(Refused):
        await endpoint.get("/v1/models/gpt-4o")
