"""Accounts that are API keys: the client's own request at the real API, and its answer as it came."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from accounts.models import Login, Secret
from accounts.store import Store
from addon.protocol.asked import Asked
from addon.protocol.chat_object import ChatObject
from addon.protocol.plain import Plain
from addon.protocol.repair import ResponsesStream
from addon.protocol.verbatim import Verbatim, usage_of
from tests.codex_fake.server import CodexFake
from tests.openai_stand_in import (
    CHAT_USAGE,
    USAGE,
    OpenAIStandIn,
    Scripted,
    response_object,
    responses_stream,
)
from tests.world import World

KEY = "sk-proj-Ab3dE5gH1jK2mN4pQ6rS8tU0"
OTHER = "sk-proj-Zz9yX8wV7uT6sR5qP4oN3mL2"
MODEL = "gpt-5.5"


# The pure parts


def test_a_plain_request_leaves_the_clients_own_secrets_behind() -> None:
    fields = [
        ("Authorization", "Bearer mine"),
        ("Cookie", "a=b"),
        ("X-API-Key", "mine"),
        ("api-key", "mine"),
        ("ChatGPT-Account-ID", "mine"),
        ("X-Auth-Token", "mine"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("OpenAI-Organization", "org-mine"),
        ("OpenAI-Project", "proj-mine"),
        ("Host", "127.0.0.1"),
        ("Content-Length", "2"),
        ("Accept-Encoding", "br"),
        ("Content-Type", "application/json"),
        ("X-Own", "1"),
    ]
    plain = Plain.of("/v1/responses?a=b", fields, b"{}", 100)
    assert plain.path == "/responses?a=b"
    assert plain.headers(KEY) == {
        "Content-Type": "application/json",
        "X-Own": "1",
        "authorization": f"Bearer {KEY}",
        "accept-encoding": "identity",
    }


def test_a_plain_body_is_sent_inflated() -> None:
    plain = Plain.of("/responses", [("content-encoding", "gzip")], gzip.compress(b"{ }"), 100)
    assert (plain.path, plain.fields, plain.content) == ("/responses", (), b"{ }")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_verbatim_stream_is_only_looked_at(size: int) -> None:
    output = Verbatim(ResponsesStream(Asked("responses", True, MODEL)))
    data = b"".join(responses_stream(response_object(MODEL)))
    for start in range(0, len(data), size):
        output.saw(data[start : start + size])
    assert not output.done
    output.saw(b"")
    assert output.done
    assert output.response
    assert output.response["id"] == "resp_real"
    assert [item["type"] for item in output.items] == ["message"]
    assert usage_of(output) == USAGE


def test_a_verbatim_object_is_only_looked_at() -> None:
    output = Verbatim(ChatObject(Asked("chat", False, MODEL)))
    for data in (b'{"usage": ', b'{"prompt_tokens": 3}}', b""):
        output.saw(data)
    assert usage_of(output) == {"prompt_tokens": 3}
    assert output.response is None


@pytest.mark.parametrize("data", [b"not json", b"[]", b"{}", b"data: {}\n\n", b"\xff", b""])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_says_nothing_is_no_trouble(data: bytes, stream: bool) -> None:
    output = Verbatim(
        ResponsesStream(Asked("responses", True, MODEL))
        if stream
        else ChatObject(Asked("chat", False, MODEL))
    )
    output.saw(data)
    if data:
        output.saw(b"")
    assert usage_of(output) is None


# The whole


@contextlib.asynccontextmanager
async def paid_world(
    home: Path, *keys: str, subscriptions: bool = True, main: bool = False, **environ: str
) -> AsyncIterator[tuple[World, OpenAIStandIn]]:
    """A world with API keys (named paid, paid2 …) in the last places, or the first of them in the first."""
    async with OpenAIStandIn() as real, CodexFake() as fake:
        here = World(home, fake)
        if subscriptions:
            await here.know(here.main)
            await here.know(here.work, "work")
        async with await Store.open(home, keyring=False) as store:
            for number, key in enumerate(keys or (KEY,), 1):
                await store.add(Login("api_key", Secret(key)), f"paid{number if number > 1 else ''}")
            if main:
                await store.switch("paid")
        async with here.start_proxy(OPENAI_AUTH_OPENAI_URL=real.url, **environ) as proxy:
            here.proxy = proxy
            yield here, real


def limit_all(here: World) -> None:
    here.main.limit()
    here.work.limit()


async def test_a_chat_tool_loop_that_falls_back_to_a_key_is_sent_as_the_client_has_it(tmp_path: Path) -> None:
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    messages: list[Any] = [{"role": "user", "content": "look it up"}]
    async with paid_world(tmp_path) as (here, real), here.client() as client:

        async def ask() -> Any:
            return await client.chat.completions.with_raw_response.create(
                model=MODEL, messages=messages, tools=[tool], tool_choice="required"
            )

        asked = (await ask()).parse().choices[0].message
        limit_all(here)
        messages += [asked.model_dump(exclude_none=True)]
        messages += [{"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "found"}]
        answer = await ask()
        assert answer.headers["x-openai-auth-account"] == "paid"
        assert real.requests[-1].json["messages"] == messages


async def test_the_last_resort_gets_the_request_as_the_client_sent_it(tmp_path: Path) -> None:
    async with paid_world(tmp_path) as (here, real), here.client() as client:
        answer = await client.responses.with_raw_response.create(model=MODEL, input="hello", temperature=0.5)
        assert answer.headers["x-openai-auth-account"] == "main"
        assert not real.requests
        limit_all(here)
        answer = await client.responses.with_raw_response.create(model=MODEL, input="hello", temperature=0.5)
        assert answer.headers["x-openai-auth-account"] == "paid"
        assert answer.headers["x-openai-auth-attempts"] == "main=429, work=429, paid=200"
        assert answer.headers["x-request-id"] == "req_real"
        assert answer.parse().output_text == "from the real API"
        (seen,) = real.requests
        assert (seen.method, seen.path) == ("POST", "/v1/responses")
        assert seen.json == {"model": MODEL, "input": "hello", "temperature": 0.5}
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.headers["content-type"] == "application/json"
        assert "originator" not in seen.headers


@pytest.mark.parametrize("direct", [True, False], ids=["base URL", "HTTPS_PROXY"])
async def test_a_stream_comes_through_byte_for_byte(tmp_path: Path, direct: bool) -> None:
    async with paid_world(tmp_path, subscriptions=False) as (here, real):
        url = f"{here.proxy.base_url}/responses" if direct else "responses"
        async with here.http() as client:
            if direct:
                client._mounts.clear()
            body = b'{ "model": "gpt-5.5",  "input": "hello", "stream": true }'
            answer = await client.post(url, content=body, headers={"content-type": "application/json"})
        assert answer.content == b"".join(responses_stream(response_object(MODEL)))
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-ratelimit-limit"] == "9"
        assert real.requests[0].body == body


async def test_chunks_of_the_real_api_are_not_held(tmp_path: Path) -> None:
    async with paid_world(tmp_path, subscriptions=False) as (here, real), here.http() as client:
        gate = real.hold()
        body = {"model": MODEL, "input": "hello", "stream": True}
        async with client.stream("POST", "responses", json=body) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == b"data: one\n\n"
            gate.release()
            assert await anext(pieces) == b"data: two\n\n"


async def test_a_client_that_leaves_ends_the_request(tmp_path: Path) -> None:
    async with paid_world(tmp_path, subscriptions=False) as (here, real), here.http() as client:
        real.hold()
        body = {"model": MODEL, "input": "hello", "stream": True}
        async with client.stream("POST", "responses", json=body) as answer:
            await anext(answer.aiter_raw())
        await real.board.until(lambda: real.board.aborted == 1)


async def test_chat_and_its_stream_are_the_real_apis_own(tmp_path: Path) -> None:
    async with paid_world(tmp_path, subscriptions=False) as (here, real), here.client() as client:
        messages = [{"role": "user", "content": "hello"}]
        answer = await client.chat.completions.create(model=MODEL, messages=messages, n=2, seed=7)
        assert answer.id == "chatcmpl-real"
        # What a subscription cannot do is the real API's to judge: n, parameters that would be dropped.
        assert real.requests[0].json == {"model": MODEL, "messages": messages, "n": 2, "seed": 7}
        stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == "from the real API"


async def test_a_key_that_is_main_is_asked_first(tmp_path: Path) -> None:
    async with paid_world(tmp_path, main=True) as (here, real), here.client() as client:
        answer = await client.responses.create(model=MODEL, input="hello")
        assert answer.output_text == "from the real API"
        real.fail(429, "rate_limit_exceeded")
        raw = await client.responses.with_raw_response.create(model=MODEL, input="hello")
        assert raw.headers["x-openai-auth-attempts"] == "paid=429, work=200"
        assert raw.parse().output_text == "You said: hello"
        assert not here.fake.violations


async def test_a_refused_key_gives_way_to_the_next_and_counts_as_a_dead_login(tmp_path: Path) -> None:
    async with paid_world(tmp_path, KEY, OTHER, subscriptions=False) as (here, real), here.client() as client:
        real.fail(401, "invalid_api_key")
        raw = await client.responses.with_raw_response.create(model=MODEL, input="hello")
        assert raw.headers["x-openai-auth-attempts"] == "paid=401, paid2=200"
        assert [seen.headers["authorization"] for seen in real.requests] == [
            f"Bearer {KEY}",
            f"Bearer {OTHER}",
        ]
        real.script += [Scripted(401, [b"{}"]), Scripted(401, [b"{}"])]
        with pytest.raises(openai.AuthenticationError):
            await client.responses.create(model=MODEL, input="hello")


@pytest.mark.parametrize(
    ("status", "error"), [(400, openai.BadRequestError), (500, openai.InternalServerError)]
)
async def test_its_other_refusals_are_the_clients(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    async with paid_world(tmp_path, KEY, OTHER, subscriptions=False) as (here, real), here.client() as client:
        real.fail(status, "some_reason")
        with pytest.raises(error, match="It failed: some_reason"):
            await client.responses.create(model=MODEL, input="hello")
        assert len(real.requests) == 1


async def test_an_answer_that_breaks_off_raises(tmp_path: Path) -> None:
    async with paid_world(tmp_path, subscriptions=False) as (here, real), here.client() as client:
        real.script.append(Scripted(chunks=[b"data: {}\n\n"], content_type="text/event-stream", cut=True))
        with pytest.raises(openai.APIError):
            async for _ in await client.responses.create(model=MODEL, input="hello", stream=True):
                pass


async def test_what_another_account_encrypted_is_left_out(tmp_path: Path) -> None:
    async with paid_world(tmp_path) as (here, real), here.client() as client:
        first = await client.responses.create(
            model=MODEL, input="hello", store=False, include=["reasoning.encrypted_content"]
        )
        limit_all(here)
        history = [{"role": "user", "content": "hello"}, *(item.model_dump() for item in first.output)]
        await client.responses.create(
            model=MODEL, input=[*history, {"role": "user", "content": "more"}], store=False
        )
        sent = real.requests[0].json["input"]
        assert "encrypted_content" not in json.dumps(sent)
        assert sent[0] == {"role": "user", "content": "hello"}


async def test_a_chain_that_only_we_know_is_sent_whole(tmp_path: Path) -> None:
    async with paid_world(tmp_path) as (here, real), here.client() as client:
        first = await client.responses.create(model=MODEL, input="hello")
        limit_all(here)
        second = await client.responses.create(model=MODEL, input="and now?", previous_response_id=first.id)
        assert second.output_text == "from the real API"
        sent = real.requests[0].json
        assert "previous_response_id" not in sent
        texts = [
            part["text"] for item in sent["input"] if item["type"] == "message" for part in item["content"]
        ]
        assert texts == ["hello", "You said: hello", "and now?"]
        # The answer is known here too, so that the chain goes on, wherever it is served.
        third = await client.responses.create(model=MODEL, input="so?", previous_response_id=second.id)
        assert third.id == "resp_real"


async def test_the_key_goes_to_the_real_api_only_and_stands_nowhere_else(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    async with paid_world(tmp_path, subscriptions=False) as (here, real):
        async with here.client() as client:
            await client.responses.create(model=MODEL, input="hello")
            assert (await client.models.list()).data
        async with (
            here.start_proxy("-w", str(flows), OPENAI_AUTH_OPENAI_URL=real.url) as other,
            here.client(proxy=other) as client,
        ):
            await client.responses.create(model=MODEL, input="hello")
    assert not here.fake.requests
    assert KEY not in here.proxy.log
    assert KEY.encode() not in flows.read_bytes()


async def test_usage_of_a_verbatim_answer_counts_for_the_client_key(tmp_path: Path) -> None:
    async with await Store.open(tmp_path, keyring=False) as store:
        _, secret = await store.add_client_key("laptop")
    async with (
        paid_world(tmp_path, subscriptions=False) as (here, _),
        here.client(api_key=secret.reveal()) as client,
    ):
        await client.responses.create(model=MODEL, input="hello")
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}], stream=True
        )
        async for _ in stream:
            pass
    async with await Store.open(tmp_path, keyring=False) as store:
        (key,) = await store.client_keys()
    assert CHAT_USAGE["prompt_tokens"] == USAGE["input_tokens"] == 100
    assert (key.use.requests, key.use.input_tokens, key.use.cached_tokens, key.use.output_tokens) == (
        2,
        200,
        80,
        14,
    )
