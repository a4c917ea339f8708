"""Stored responses, chains, compaction and background with nothing replaced but the backend."""

import sqlite3
from pathlib import Path
from typing import Any

import openai
import pytest

from accounts.database import FILE
from tests.codex_fake.accounts import Seen
from tests.world import World, world

MODEL = "gpt-5.5"
TOOL: Any = {
    "type": "function",
    "name": "look",
    "strict": False,
    "parameters": {"type": "object", "properties": {}},
}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": TOOL["parameters"]}}


def threads(requests: list[Seen]) -> set[str]:
    """The threads that these requests belong to."""
    return {request.headers["session-id"] for request in requests}


def cached(answer: Any) -> int:
    """Tokens of the answer's input that the backend had in its cache."""
    return int(answer.usage.input_tokens_details.cached_tokens)


async def test_a_response_is_stored_and_belongs_to_its_client(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client, here.client(api_key="another") as other:
        answer = await client.responses.create(model=MODEL, input="hello", metadata={"mine": "yes"})
        again = await client.responses.retrieve(answer.id)
        assert again.model_dump() == answer.model_dump()
        items = await client.responses.input_items.list(answer.id)
        assert [item.content[0].text for item in items.data] == ["hello"]
        assert (await client.responses.cancel(answer.id)).status == "completed"

        for ask in (
            lambda: other.responses.retrieve(answer.id),
            lambda: other.responses.delete(answer.id),
            lambda: other.responses.cancel(answer.id),
            lambda: other.responses.input_items.list(answer.id),
            lambda: client.responses.retrieve("resp_unknown"),
        ):
            with pytest.raises(openai.NotFoundError) as missing:
                await ask()
            assert missing.value.code == "not_found"
        with pytest.raises(openai.BadRequestError) as refusal:
            await other.responses.create(model=MODEL, input="more", previous_response_id=answer.id)
        assert refusal.value.code == "previous_response_not_found"
        assert refusal.value.param == "previous_response_id"
        with pytest.raises(openai.BadRequestError, match="cannot be streamed"):
            await client.responses.retrieve(answer.id, stream=True)

        assert await client.responses.delete(answer.id) is None
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
        unstored = await client.responses.create(model=MODEL, input="hello", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(unstored.id)
        assert not here.fake.violations


async def test_a_chain_goes_on_over_restarts_with_its_thread_account_and_cache(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.client() as client:
            here.main.limit(reset_in=3600)
            first = await client.responses.create(
                model=MODEL, input="one", tools=[TOOL], instructions="Be brief."
            )
            here.main.heal()
        await here.proxy.stop()
        async with here.start_proxy() as proxy, here.client(proxy=proxy) as client:
            second = await client.responses.create(
                model=MODEL,
                input="two",
                previous_response_id=first.id,
                tools=[TOOL],
                instructions="Be brief.",
            )
            assert second.previous_response_id == first.id
            assert cached(second) == first.usage.input_tokens
            bare = await client.responses.create(model=MODEL, input="three", previous_response_id=second.id)
            assert bare.output_text == "You said: three"
            listed = await client.responses.input_items.list(bare.id, order="asc", limit=4)
            assert [item.type for item in listed.data] == ["message", "reasoning", "message", "message"]
            rest = await client.responses.input_items.list(bare.id, order="asc", after=listed.last_id)
            assert [item.type for item in rest.data] == ["reasoning", "message", "message"]
        served = here.fake.seen()[1:]
        assert [(request.account, request.status) for request in served] == [("acct-work", 200)] * 3
        assert len(threads(served)) == 1
        assert [request.json["instructions"] for request in served][:2] == ["Be brief.", "Be brief."]
        assert served[2].json["instructions"] == "You are a helpful assistant."  # not inherited
        texts = [
            part["text"]
            for item in served[2].json["input"]
            for part in item.get("content", ())
            if "text" in part
        ]
        assert texts == ["one", "You said: one", "two", "You said: two", "three"]


async def test_every_way_to_continue_makes_the_same_bytes_and_finds_the_cache(tmp_path: Path) -> None:
    """A search that the client never saw is in each of them, at its place."""
    async with world(tmp_path) as here, here.http() as http:

        async def ask(session: str, **body: Any) -> Any:
            headers = {"session-id": session}
            answer = await http.post(
                "/responses", json={"model": MODEL, "tools": [TOOL], **body}, headers=headers
            )
            assert answer.status_code == 200, answer.text
            return answer.json()

        def user(text: str) -> Any:
            return {"role": "user", "content": text}

        def tail(output: list[Any]) -> list[Any]:
            return [{"type": "item_reference", "id": item["id"]} for item in output]

        ways: dict[str, Any] = {
            "sent": lambda answer: {"input": [user("search:news"), *answer["output"], user("and?")]},
            "named": lambda answer: {"input": [user("and?")], "previous_response_id": answer["id"]},
            "references": lambda answer: {
                "input": [user("search:news"), *tail(answer["output"]), user("and?")]
            },
        }
        inputs = []
        for way, continued in ways.items():
            first = await ask(way, input=[user("search:news")])
            assert [item["type"] for item in first["output"]] == ["reasoning", "message"]
            second = await ask(way, **continued(first))
            assert second["usage"]["input_tokens_details"]["cached_tokens"] == first["usage"]["input_tokens"]
            sent = here.fake.seen()[-1].json["input"]
            kinds = ["message", "reasoning", "web_search_call", "message", "message"]
            assert [item["type"] for item in sent] == kinds
            # Each way has an answer of its own, whose ciphertext differs.
            inputs.append(str(sent).replace(sent[1]["encrypted_content"], "ciphertext"))
        assert len(set(inputs)) == 1
        assert not here.fake.violations


async def test_a_reference_to_what_is_unknown_is_refused_unless_it_is_a_thought(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        lost: Any = {"type": "item_reference", "id": "rs_unknown"}
        hello: Any = {"role": "user", "content": "hello"}
        assert (await client.responses.create(model=MODEL, input=[lost, hello])).output_text
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.responses.create(
                model=MODEL, input=[{"type": "item_reference", "id": "msg_unknown"}, hello]
            )
        assert refusal.value.code == "item_not_found"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_tool_loop_keeps_its_thoughts_and_its_cache(tmp_path: Path, stream: bool) -> None:
    async with world(tmp_path) as here, here.client() as client:
        options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        messages: list[Any] = [{"role": "user", "content": "call:look {}"}]
        first = await complete(client, messages, options)
        called = first["call"]
        messages += [
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": called, "type": "function", "function": {"name": "look", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": called, "content": "nothing"},
        ]
        second = await complete(client, messages, options)
        assert second["text"] == "look returned nothing"
        assert second["cached"] == first["prompt"]
        messages += [{"role": "assistant", "content": second["text"]}, {"role": "user", "content": "thanks"}]
        third = await complete(client, messages, options)
        assert third["cached"] == second["prompt"]
        kinds = [item["type"] for item in here.fake.seen()[1].json["input"]]
        assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
        assert len(threads(here.fake.seen())) == 1
        assert not here.fake.violations


async def complete(client: openai.AsyncOpenAI, messages: list[Any], options: Any) -> dict[str, Any]:
    """One chat completion, however it comes: its text, call id and usage."""
    answer = await client.chat.completions.create(
        model=MODEL, messages=messages, tools=[CHAT_TOOL], **options
    )
    text, call, usage = "", None, None
    if options:
        async for chunk in answer:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for delta in choice.delta.tool_calls or ():
                    call = delta.id or call
    else:
        usage, message = answer.usage, answer.choices[0].message
        text = message.content or ""
        call = message.tool_calls[0].id if message.tool_calls else None
    assert usage is not None
    return {
        "text": text,
        "call": call,
        "prompt": usage.prompt_tokens,
        "cached": usage.prompt_tokens_details.cached_tokens,
    }


async def test_a_responses_client_that_drops_reasoning_gets_it_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        asked: Any = {"role": "user", "content": "call:look {}"}
        first = await client.responses.create(model=MODEL, input=[asked], tools=[TOOL], store=False)
        called = first.output[-1]
        history: list[Any] = [
            asked,
            called.model_dump(),
            {"type": "function_call_output", "call_id": called.call_id, "output": "nothing"},
        ]
        second = await client.responses.create(model=MODEL, input=history, tools=[TOOL], store=False)
        assert cached(second) == first.usage.input_tokens
        assert here.fake.seen()[-1].json["input"][1]["type"] == "reasoning"
        await client.responses.create(
            model=MODEL, input=history, tools=[TOOL, {**TOOL, "name": "another"}], store=False
        )
        assert here.fake.seen()[-1].json["input"][1]["type"] == "reasoning"


async def test_a_chain_that_falls_to_another_account_goes_on_without_the_thoughts(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        first = await client.responses.create(model=MODEL, input="call:look {}", tools=[TOOL])
        here.main.limit()
        output: Any = {
            "type": "function_call_output",
            "call_id": first.output[-1].call_id,
            "output": "nothing",
        }
        second = await client.responses.create(
            model=MODEL, input=[output], previous_response_id=first.id, tools=[TOOL]
        )
        assert second.output_text == "look returned nothing"
        sent = here.work.requests[-1].json["input"]
        assert [item["type"] for item in sent] == ["message", "function_call", "function_call_output"]


async def test_an_answer_and_its_chain_do_not_wait_for_the_store(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        first = await client.responses.create(model=MODEL, input="one")
        lock = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        try:
            lock.execute("BEGIN IMMEDIATE")
            second = await client.responses.create(model=MODEL, input="two", previous_response_id=first.id)
            third = await client.responses.create(model=MODEL, input="three", previous_response_id=second.id)
            assert (await client.responses.retrieve(third.id)).output_text == "You said: three"
        finally:
            lock.close()
        assert len(here.fake.seen()[-1].json["input"]) == 7


async def test_the_settings_bound_what_is_kept(tmp_path: Path) -> None:
    async with world(tmp_path, environ={"OPENAI_AUTH_STORE_MAX_COUNT": "2"}) as here, here.client() as client:
        ids = [(await client.responses.create(model=MODEL, input=f"{n}")).id for n in range(3)]
        await client.responses.delete(ids[2])  # waits for what is being written
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(ids[0])
        assert (await client.responses.retrieve(ids[1])).id == ids[1]


async def test_nothing_is_kept_when_the_setting_is_off(tmp_path: Path) -> None:
    off = {"OPENAI_AUTH_STORE_RESPONSES": "false"}
    async with world(tmp_path, environ=off) as here, here.client() as client:
        answer = await client.responses.create(model=MODEL, input="hello", background=True)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(model=MODEL, input="more", previous_response_id=answer.id)
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("SELECT count(*) FROM responses").fetchone() == (0,)


async def test_a_compacted_conversation_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        first = await client.responses.create(model=MODEL, input="one")
        compacted = await client.responses.compact(model=MODEL, input="two", previous_response_id=first.id)
        assert compacted.object == "response.compaction"
        assert [item.type for item in compacted.output] == ["message", "message", "compaction"]
        assert compacted.usage.total_tokens > 0
        asked = here.fake.seen()[-1]
        assert asked.path.endswith("/codex/responses")
        assert asked.json["input"][-1] == {"type": "compaction_trigger"}
        assert asked.headers["x-codex-beta-features"] == "remote_compaction_v2"

        history: list[Any] = [item.model_dump(exclude_none=True, warnings=False) for item in compacted.output]
        later = await client.responses.create(
            model=MODEL, input=[*history, {"role": "user", "content": "three"}]
        )
        assert later.output_text == "You said: three"
        sent = here.fake.seen()[-1].json["input"]
        assert [item["type"] for item in sent] == ["message", "message", "compaction", "message"]
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(compacted.id)
        here.main.script([{"type": "response.completed", "response": {"id": "resp_x", "output": []}}])
        with pytest.raises(openai.InternalServerError, match="without a compaction"):
            await client.responses.compact(model=MODEL, input="two")


async def test_a_background_response_is_there_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        answer = await client.responses.create(model=MODEL, input="hello", background=True)
        assert (answer.status, answer.background) == ("completed", True)
        assert (await client.responses.retrieve(answer.id)).output_text == "You said: hello"
        stream = await client.responses.create(model=MODEL, input="hello", background=True, stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        assert (await client.responses.retrieve(events[-1].response.id)).status == "completed"


async def test_a_background_response_survives_its_client_and_can_be_cancelled(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client, here.client(api_key="another") as other:
        id, gate = await left_alone(here, client)
        answer = await client.responses.retrieve(id)
        assert answer.status == "in_progress"
        asked = await client.responses.input_items.list(id)
        assert [item.content[0].text for item in asked.data] == ["one two three four"]
        gate.release()
        while answer.status == "in_progress":
            answer = await client.responses.retrieve(id)
        assert answer.output_text == "You said: one two three four"
        assert here.fake.aborted == 0

        id, _ = await left_alone(here, client)
        with pytest.raises(openai.NotFoundError):
            await other.responses.cancel(id)
        cancelled = await client.responses.cancel(id)
        assert (cancelled.status, cancelled.output[-1].status) == ("cancelled", "incomplete")
        assert "You said: one two three four".startswith(cancelled.output_text or "nothing")
        await here.fake.until(lambda: here.fake.aborted == 1)
        assert await client.responses.retrieve(id) == cancelled
        assert (await client.responses.cancel(id)).status == "cancelled"

        id, _ = await left_alone(here, client)
        await client.responses.delete(id)
        await here.fake.until(lambda: here.fake.aborted == 2)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(id)


@pytest.mark.parametrize("how", ["cut", "failed"])
async def test_a_background_response_that_breaks_off_is_there_and_says_why(tmp_path: Path, how: str) -> None:
    async with world(tmp_path) as here, here.client() as client:
        if how == "cut":
            here.main.cut(after=12)
        else:
            here.main.fail_in_stream("server_is_overloaded", after_deltas=3)
        stream = await client.responses.create(
            model=MODEL, input="one two three four", background=True, stream=True
        )
        created = await anext(aiter(stream))
        await stream.close()
        answer = await client.responses.retrieve(created.response.id)
        while answer.status == "in_progress":
            answer = await client.responses.retrieve(created.response.id)
        assert answer.status == "failed"
        assert answer.error
        assert answer.error.message
        assert await client.responses.cancel(answer.id) == answer


async def test_a_client_that_listens_is_told_of_the_cancel(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.stall(after=12)
        stream = await client.responses.create(model=MODEL, input="one two", background=True, stream=True)
        events = aiter(stream)
        created = await anext(events)
        await client.responses.cancel(created.response.id)
        with pytest.raises(openai.APIError, match="was cancelled"):
            async for _ in events:
                pass


async def left_alone(here: World, client: openai.AsyncOpenAI) -> tuple[str, Any]:
    """A background response in the middle of which the client left: its id, and what it waits for."""
    gate = here.main.stall(after=12)
    stream = await client.responses.create(
        model=MODEL, input="one two three four", background=True, stream=True
    )
    created = await anext(aiter(stream))
    await gate.reached()
    await stream.close()
    return created.response.id, gate
