"""The surface beside the main job, with nothing replaced but the backend: client keys, choices, images, old clients."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import openai
import pytest

from accounts.store import Store
from tests.codex_fake.answers import PIXEL
from tests.world import World, world

MODEL = "gpt-5.5"
FAN_OUT = {"OPENAI_AUTH_N_POLICY": "fanout"}
PNG = base64.b64decode(PIXEL)


async def until_refused(client: openai.AsyncOpenAI) -> openai.AuthenticationError:
    while True:
        try:
            await client.models.list()
        except openai.AuthenticationError as refusal:
            return refusal


async def test_client_keys_are_live_without_a_restart_and_each_has_its_use(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.client() as anybody:
            await anybody.responses.create(model=MODEL, input="hello")
            async with await Store.open(tmp_path, keyring=False) as store:
                _, one = await store.add_client_key("one")
                await store.add_client_key("two")
            refusal = await until_refused(anybody)
            assert refusal.code == "invalid_api_key"
            assert refusal.type == "invalid_request_error"
            asked = len(here.fake.requests)
            for call in (
                anybody.responses.create(model=MODEL, input="hello"),
                anybody.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}]),
                anybody.responses.retrieve("resp_1"),
            ):
                with pytest.raises(openai.AuthenticationError):
                    await call
            assert len(here.fake.requests) == asked
        async with here.client(api_key=one.reveal()) as client:
            whole = await client.responses.create(model=MODEL, input="hello")
            async with client.responses.stream(model=MODEL, input="hello") as stream:
                streamed = await stream.get_final_response()
            assert whole.usage
            assert streamed.usage
            used = whole.usage.input_tokens + streamed.usage.input_tokens
            async with await Store.open(tmp_path, keyring=False) as store:
                await store.revoke_client_key("one")
            await until_refused(client)
    async with await Store.open(tmp_path, keyring=False) as store:
        uses = {key.label: key.use for key in await store.client_keys()}
    assert uses["one"].requests == 2
    assert uses["one"].input_tokens == used
    assert uses["one"].output_tokens == whole.usage.output_tokens + streamed.usage.output_tokens
    assert uses["one"].last_used_at
    assert uses["two"].requests == 0
    assert one.reveal() not in here.proxy.log


async def test_stored_answers_are_private_to_their_key(tmp_path: Path) -> None:
    async with await Store.open(tmp_path, keyring=False) as store:
        _, one = await store.add_client_key("one")
        _, two = await store.add_client_key("two")
    async with (
        world(tmp_path) as here,
        here.client(api_key=one.reveal()) as first,
        here.client(api_key=two.reveal()) as second,
    ):
        answer = await first.responses.create(model=MODEL, input="hello")
        assert (await first.responses.retrieve(answer.id)).id == answer.id
        with pytest.raises(openai.NotFoundError):
            await second.responses.retrieve(answer.id)


@pytest.mark.parametrize("direct", [True, False], ids=["base URL", "HTTPS_PROXY"])
async def test_n_choices_streamed_and_whole(tmp_path: Path, direct: bool) -> None:
    messages = [{"role": "user", "content": "say:one two three"}]
    async with world(tmp_path, environ=FAN_OUT) as here, here.client(direct=direct) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=messages, n=3)
        assert [(c.index, c.message.content, c.finish_reason) for c in whole.choices] == [
            (index, "one two three", "stop") for index in range(3)
        ]
        single = await client.chat.completions.create(model=MODEL, messages=messages)
        assert whole.usage
        assert single.usage
        assert whole.usage.prompt_tokens == 3 * single.usage.prompt_tokens
        async with client.chat.completions.stream(
            model=MODEL, messages=messages, n=2, stream_options={"include_usage": True}
        ) as stream:
            ids = {event.chunk.id async for event in stream if event.type == "chunk"}
            final = await stream.get_final_completion()
        assert len(ids) == 1
        assert [choice.message.content for choice in final.choices] == ["one two three"] * 2
        assert final.usage
        assert final.usage.prompt_tokens == 2 * single.usage.prompt_tokens
        threads = {request.json["prompt_cache_key"] for request in here.fake.seen()}
        assert len(threads) == 1  # one conversation, one cache
        assert not here.fake.violations


async def test_a_choice_for_each_prompt(tmp_path: Path) -> None:
    async with world(tmp_path, environ=FAN_OUT) as here, here.client() as client:
        answer = await client.completions.create(model=MODEL, prompt=["say:one", "say:two"], n=2)
        assert [(c.index, c.text) for c in answer.choices] == [(0, "one"), (1, "one"), (2, "two"), (3, "two")]


async def test_choices_are_refused_unless_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "x"}], n=2
            )
        assert refusal.value.param == "n"
        assert not here.fake.seen()


async def test_a_limit_moves_every_choice_to_the_next_account(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hello"}]
    async with world(tmp_path, environ=FAN_OUT) as here, here.client() as client:
        here.main.limit()
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=messages, n=2)
        assert raw.headers["x-openai-auth-account"] == "work"
        assert len(raw.parse().choices) == 2
        here.work.limit()
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model=MODEL, messages=messages, n=2)


async def test_a_choice_that_breaks_off_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "say:one two three four"}]
    async with world(tmp_path, environ=FAN_OUT) as here, here.client() as client:
        here.main.fail_in_stream("server_is_overloaded", after_deltas=2)
        stream = await client.chat.completions.create(model=MODEL, messages=messages, n=2, stream=True)
        with pytest.raises(openai.APIError, match="overloaded"):
            async for _ in stream:
                pass


async def test_a_client_that_leaves_ends_every_choice(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "say:one two three four"}]
    async with world(tmp_path, environ=FAN_OUT) as here, here.client() as client:
        here.main.stall(after=12, times=2)
        stream = await client.chat.completions.create(model=MODEL, messages=messages, n=2, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await here.fake.until(lambda: here.fake.aborted == 2)


async def test_images_are_made_and_edited(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        made = await client.images.generate(model="gpt-image-1", prompt="image: a cat", size="1024x1024")
        assert made.data
        assert made.data[0].b64_json == PIXEL
        assert made.usage
        assert made.usage.total_tokens > 0
        sent = here.fake.seen()[-1].json
        assert sent["tools"] == [{"type": "image_generation", "model": "gpt-image-1", "size": "1024x1024"}]
        assert sent["tool_choice"] == {"type": "image_generation"}
        edited = await client.images.edit(
            model="gpt-image-1", image=[("a.png", PNG), ("b.png", PNG)], prompt="image: a dog", n=2
        )
        assert edited.data
        assert [datum.b64_json for datum in edited.data] == [PIXEL, PIXEL]
        parts = here.fake.seen()[-1].json["input"][0]["content"]
        assert [part["type"] for part in parts] == ["input_text", "input_image", "input_image"]
        assert parts[1]["image_url"] == f"data:image/png;base64,{PIXEL}"
        assert not here.fake.violations


async def test_images_that_cannot_be_had_are_clear_errors(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client(max_retries=2) as client:
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.images.generate(model="gpt-image-1", prompt="image: a cat", response_format="url")
        assert refusal.value.param == "response_format"
        assert not here.fake.seen()
        with pytest.raises(openai.BadRequestError, match=r"no image\. It said: You said: a cat"):
            await client.images.generate(model="gpt-image-1", prompt="a cat")
        here.main.plan = here.work.plan = "free"
        with pytest.raises(openai.BadRequestError, match="not available on your plan"):
            await client.images.generate(model="gpt-image-1", prompt="image: a cat")
        with pytest.raises(openai.BadRequestError, match="ChatGPT subscription"):
            await client.images.create_variation(image=PNG)
        assert len(here.fake.seen()) == 2  # nothing was asked twice


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_its_connection(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        body = json.dumps({"model": MODEL, "input": "hello", "stream": True}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", here.proxy.port)
        head = (
            f"POST /v1/responses HTTP/1.0\r\nAuthorization: Bearer any\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        head_of_answer, _, events = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head_of_answer.lower()
        assert events.startswith(b"event: response.created\n")
        assert b"response.completed" in events[-6000:]


async def test_what_is_not_served_says_so_and_the_proxy_says_what_it_is(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await refuses_embeddings(here, direct=True)
        await refuses_embeddings(here, direct=False)
        async with here.http() as client:
            assert (await client.post("traces/ingest", json={"data": []})).status_code == 204
        reader, writer = await asyncio.open_connection("127.0.0.1", here.proxy.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b"openai-auth-proxy" in await reader.read()
        writer.close()
        assert not here.fake.requests


async def refuses_embeddings(here: World, *, direct: bool) -> None:
    async with here.client(direct=direct, max_retries=2) as client:
        with pytest.raises(openai.BadRequestError, match="POST /v1/embeddings is not available") as refusal:
            await client.embeddings.create(model="m", input="x")
        assert refusal.value.code == "unsupported_endpoint"
        assert refusal.value.response.headers["x-should-retry"] == "false"
