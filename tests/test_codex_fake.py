"""What the stand-in backend answers, and what goes wrong on order, over real sockets.

The other tests lean on this server, so its switches are themselves under test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.codex_fake import FakeProcess
from tests.codex_fake.client import Client, events, items_of, replayed, running, said, text_of

Json = dict[str, Any]
TOOL: Json = {"type": "function", "name": "add", "strict": False, "parameters": {"type": "object"}}
USER: Json = {"type": "message", "role": "user", "content": "hi"}


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as one:
        yield one


# What is answered


async def test_the_stream_is_as_rude_as_the_real_one(client: Client) -> None:
    async with client.http.post(client.fake.responses_url, json=said("hi"), headers=client.headers) as answer:
        stream = events(await answer.read())
        assert "content-type" not in answer.headers
        assert {"set-cookie", "x-request-id", "x-codex-turn-state", "x-models-etag"} <= {
            name.lower() for name in answer.headers
        }
        assert answer.headers["x-codex-primary-window-minutes"] == "300"
    assert [event["type"] for event in stream[:3]] == [
        "codex.rate_limits",
        "codex.response.metadata",
        "response.created",
    ]
    assert (stream[-1]["type"], stream[-1]["response"]["output"]) == ("response.completed", [])


async def test_any_chunking_carries_the_same_events(client: Client) -> None:
    whole = [event["type"] for event in await client.stream(said("hi"))]
    client.fake.manners.chunk, client.fake.manners.crlf = 1, True
    assert [event["type"] for event in await client.stream(said("hi"))] == whole


async def test_a_tool_round_trip(client: Client) -> None:
    first = items_of(await client.stream(said('call:add {"a": 1}', tools=[TOOL])))
    call = replayed(first[-1])
    assert (call["name"], call["arguments"]) == ("add", '{"a": 1}')
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "3"}
    second = await client.stream(said("", input=[USER, call, output], tools=[TOOL]))
    assert text_of(second) == "add returned 3"


async def test_an_answer_to_a_schema_fits_it(client: Client) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "tags": {"type": "array"}}}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    assert json.loads(text_of(await client.stream(said("hi", text={"format": form}))))["n"] == 1


async def test_the_prompt_cache_lives_by_session_bytes_and_time(client: Client) -> None:
    async def cached(body: Json) -> int:
        usage = (await client.stream(body))[-1]["response"]["usage"]
        return int(usage["input_tokens_details"]["cached_tokens"])

    longer = said("", input=[USER, {**USER, "role": "assistant", "content": "hello"}, USER])
    assert await cached(said("", input=[USER])) == 0
    assert await cached(longer) > 0
    assert await cached({**longer, "instructions": "Other."}) == 0
    client.fake.clock.advance(301)
    assert await cached(longer) == 0
    client.headers["session-id"] = "thread-2"
    assert await cached(longer) == 0


async def test_a_limit_refuses_until_its_reset_in_every_form(client: Client) -> None:
    until = client.account.limit(reset_in=60)
    status, body = await client.post(said("hi"))
    assert (status, body["error"]["type"]) == (429, "usage_limit_reached")
    assert body["error"]["resets_at"] == int(until)
    client.account.limit(reset_in=60, form="404")
    assert (await client.post(said("hi")))[0] == 404
    client.account.limit(reset_in=60, form="wrapped")
    last = (await client.stream(said("hi")))[-1]
    assert (last["status"], last["error"]["type"]) == (429, "usage_limit_reached")
    client.fake.clock.advance(61)
    assert text_of(await client.stream(said("hi"))) == "You said: hi"


# What goes wrong on order


async def test_a_failure_inside_the_stream_comes_where_it_was_asked_for(client: Client) -> None:
    client.account.fail_in_stream("server_is_overloaded")
    early = await client.stream(said("hi"))
    assert not items_of(early)
    assert early[-1]["response"]["error"]["code"] == "server_is_overloaded"
    client.account.fail_in_stream("rate_limit_exceeded", after_deltas=2, form="error")
    late = await client.stream(said("hi"))
    assert (text_of(late), late[-1]["type"]) == ("You said:", "error")


async def test_a_hold_lets_events_out_one_by_one(client: Client) -> None:
    hold = client.account.hold()
    async with client.http.post(client.fake.responses_url, json=said("hi"), headers=client.headers) as answer:
        await hold.step(3)
        received = await answer.content.readuntil(b"\n\n") + await answer.content.readuntil(b"\n\n")
        received += await answer.content.readuntil(b"\n\n")
        assert events(received)[-1]["type"] == "response.created"
        hold.release()
        assert events(await answer.read())[-1]["type"] == "response.completed"


async def test_a_client_that_hangs_up_is_counted(client: Client) -> None:
    gate = client.account.stall(after=5)
    async with client.http.post(client.fake.responses_url, json=said("hi"), headers=client.headers) as answer:
        await gate.reached()
        assert client.fake.open_streams == 1
        answer.close()
    await client.fake.until(lambda: client.fake.aborted == 1 and client.fake.open_streams == 0)


async def test_a_client_that_leaves_before_the_headers_is_counted(client: Client) -> None:
    gate = client.account.stall()
    waiting = asyncio.create_task(client.stream(said("hi")))
    await gate.reached()
    waiting.cancel()
    await client.fake.until(lambda: client.fake.aborted == 1)


async def test_what_comes_once_goes_before_what_stays_and_limits_hold_under_a_slow_pace(
    client: Client,
) -> None:
    client.account.slow(0.0)
    client.account.refuse("server_error")
    assert (await client.post(said("hi")))[0] == 500
    client.account.limit()
    assert (await client.post(said("hi")))[0] == 429


async def test_other_limits_have_headers_of_their_own(client: Client) -> None:
    client.account.set_extra_limit("codex_bengalfox", (12.5, 300, None))
    async with client.http.post(client.fake.responses_url, json=said("hi"), headers=client.headers) as answer:
        assert answer.headers["x-codex-bengalfox-primary-used-percent"] == "12.5"


async def test_what_a_proxy_must_not_pass_on_is_noted(client: Client) -> None:
    client.headers |= {"x-stainless-lang": "python", "x-codex-turn-state": "ts-acct-work-1"}
    await client.stream(said("hi"))
    assert len(client.fake.violations) == 2


async def test_a_fast_fake_sends_the_ordered_shape_without_looking_at_the_body(client: Client) -> None:
    client.fake.fast = True
    assert text_of(await client.stream({"anything": "stream:3x4"})) == "x" * 12
    assert client.account.requests == []


async def test_a_cut_connection_breaks_the_body(client: Client) -> None:
    client.account.cut(after=4)
    with pytest.raises(aiohttp.ClientError):
        await client.stream(said("hi"))
    client.account.cut()
    with pytest.raises(aiohttp.ClientError):
        await client.stream(said("hi"))
    client.account.cut(clean=True)
    assert "completed" not in (await client.stream(said("hi")))[-1]["type"]


async def test_a_huge_answer_is_made_as_it_is_read(client: Client) -> None:
    size = 0
    body = said("stream:64x65536")
    async with client.http.post(client.fake.responses_url, json=body, headers=client.headers) as answer:
        async for piece in answer.content.iter_any():
            size += len(piece)
    assert size > 64 * 65536


# The other routes


async def test_the_catalogue_is_filtered_by_version_and_plan_and_has_an_etag(client: Client) -> None:
    async def models(version: str, **headers: str) -> tuple[int, list[str], str]:
        url = f"{client.fake.backend_url}/codex/models?client_version={version}"
        async with client.http.get(url, headers={**client.headers, **headers}) as answer:
            listed = (await answer.json())["models"] if answer.status == 200 else []
            return answer.status, [model["slug"] for model in listed], answer.headers["etag"]

    _, gated, etag = await models("0.144.0")
    _, whole, _ = await models("0.0.0")
    assert "gpt-5.6-sol" in gated
    assert "gpt-6-sol" not in gated
    assert "gpt-6-sol" in whole
    assert (await models("0.0.0", **{"if-none-match": etag}))[0] == 304
    client.account.plan = "free"
    assert "gpt-6-sol" not in (await models("0.0.0"))[1]


async def test_a_reset_credit_is_spent_once_per_request_id(client: Client) -> None:
    base = f"{client.fake.backend_url}/wham/rate-limit-reset-credits"

    async def consume(request_id: str) -> str:
        sent = {"redeem_request_id": request_id}
        async with client.http.post(f"{base}/consume", json=sent, headers=client.headers) as answer:
            return str((await answer.json())["code"])

    assert await consume("r0") == "no_credit"
    client.account.give_reset_credits(2)
    assert await consume("r0") == "nothing_to_reset"
    client.account.limit()
    client.account.lose_answer(on="consume")
    with pytest.raises(aiohttp.ClientError):
        await consume("r1")
    assert await consume("r1") == "already_redeemed"
    async with client.http.get(base, headers=client.headers) as answer:
        assert (await answer.json())["available_count"] == 1
    async with client.http.get(f"{client.fake.backend_url}/wham/usage", headers=client.headers) as answer:
        usage = await answer.json()
        assert usage["rate_limit"]["primary_window"]["used_percent"] == 0
        assert usage["rate_limit"]["primary_window"]["limit_window_seconds"] == 18_000


# In another process


async def test_the_fake_in_a_process_of_its_own_is_driven_over_http() -> None:
    with await asyncio.to_thread(FakeProcess, "--account", "acct-main:pro") as process:
        token = process.call("accounts/acct-main/auth_json")["tokens"]["access_token"]
        process.call("accounts/acct-main/refuse", args=["cloudflare"])
        async with aiohttp.ClientSession(
            headers={"authorization": f"Bearer {token}", "version": "0.169.0"}
        ) as http:
            async with http.post(process.responses_url, json=said("hi")) as answer:
                assert (answer.status, answer.headers["cf-mitigated"]) == (403, "challenge")
            async with http.post(process.responses_url, json=said("hi")) as answer:
                assert text_of(events(await answer.read())) == "You said: hi"
        assert process.get()["order"] == [["acct-main", "responses", 403], ["acct-main", "responses", 200]]
