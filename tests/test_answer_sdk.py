"""Repaired streams, read by the real OpenAI SDK: its raw iterator and its stream helper must both get through.

The helper is the strictest reader there is: it wants `response.created` first, an item before its parts, a part before
its deltas, one identity per item from beginning to end, and no item left unfinished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from addon.protocol import errors
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.repair import ResponsesStream
from addon.protocol.sse import Decoder
from tests.answer_events import ANCHORED, OBJECT, STREAM, USAGE, Script, as_bytes, frame

NOW = 1795000000.0


def client(answer: Callable[[httpx.Request], httpx.Response]) -> openai.OpenAI:
    transport = httpx.Client(transport=httpx.MockTransport(answer))
    return openai.OpenAI(api_key="any", base_url="http://proxy/v1", http_client=transport, max_retries=0)


def streaming(body: bytes) -> openai.OpenAI:
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return client(lambda request: httpx.Response(200, headers=headers, content=body))


def proxied(upstream: bytes, asked: Any = STREAM) -> bytes:
    """The bytes that the client gets for these upstream bytes."""
    stream, decoder = ResponsesStream(asked), Decoder()
    out = [stream.feed(one) for one in decoder.feed(upstream) + decoder.close()]
    assert stream.done
    return b"".join([*out, stream.finish()])


def helper(body: bytes) -> tuple[list[Any], Any]:
    """The events and the final response that the SDK's stream helper gives."""
    with streaming(body).responses.stream(model="gpt-6-astra", input="hi") as stream:
        events = list(stream)
        return events, stream.get_final_response()


def raw(body: bytes) -> list[Any]:
    return list(streaming(body).responses.create(model="gpt-6-astra", input="hi", stream=True))


FULL = Script().created().reasoning("think", "ing").message("Hel", "lo").call('{"a":', "1}").end(usage=USAGE)

BROKEN = {
    "nothing broken": FULL.events,
    "empty final output": Script().created().reasoning("t").message("Hello").call("{}").end(output=[]).events,
    "final output null": Script().created().message("Hello").end(output=None).events,
    "final output absent": Script().created().message("Hello").end(output="absent").events,
    "response.done": Script().created().message("Hello").end("response.done").events,
    "no created": FULL.without("response.created"),
    "no lifecycle": FULL.without("response.created", "response.in_progress"),
    "no added": FULL.without("response.output_item.added"),
    "no parts": FULL.without("response.content_part", "response.reasoning_summary_part"),
    "no added, no parts": FULL.without("response.output_item.added", "response.content_part"),
    "deltas only": FULL.without("response.output_item", "response.content_part", "response.output_text.done"),
    "done items only": FULL.without(
        "response.output_item.added",
        "response.content_part",
        "response.output_text",
        "response.function_call",
    ),
    "terminal only": Script().message("Hello").end().events[-1:],
    "codex events first": [{"type": "codex.rate_limits", "rate_limits": {}}, *FULL.events],
}


@pytest.mark.parametrize("events", BROKEN.values(), ids=BROKEN.keys())
def test_both_readers_get_the_whole_text(events: list[dict[str, Any]]) -> None:
    body = proxied(as_bytes(events))

    received, final = helper(body)
    assert final.output_text == "Hello"
    assert "".join(e.delta for e in received if e.type == "response.output_text.delta") == "Hello"
    assert "".join(e.delta for e in raw(body) if e.type == "response.output_text.delta") == "Hello"


def test_hidden_searches_leave_no_gap() -> None:
    script = Script().created().search().message("Hello").search("ws_2").call("{}").end(output=[])
    received, final = helper(proxied(as_bytes(script.events), ANCHORED))

    assert [item.type for item in final.output] == ["message", "function_call"]
    assert {e.output_index for e in received if hasattr(e, "output_index")} == {0, 1}
    assert not [e.type for e in received if "web_search" in e.type]


def test_a_search_the_client_declared_stays() -> None:
    script = Script().created().search().message("Hello").end()
    _, final = helper(proxied(as_bytes(script.events)))
    assert [item.type for item in final.output] == ["web_search_call", "message"]


def test_repeated_added_and_a_changed_response_id_are_smoothed_out() -> None:
    events = Script().created().message("Hello").end(id="resp_other").events
    events.insert(3, events[2])
    _, final = helper(proxied(as_bytes(events)))
    assert (final.id, final.output_text) == ("resp_1", "Hello")


def test_usage_can_be_read_without_a_guard() -> None:
    _, final = helper(proxied(as_bytes(FULL.events)))
    assert final.usage.input_tokens_details.cached_tokens == 0
    assert final.usage.output_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("read", [helper, raw])
def test_a_broken_stream_raises_with_the_text(read: Callable[[bytes], Any]) -> None:
    stream = ResponsesStream(STREAM)
    out = b"".join(stream.feed(frame(event)) for event in Script().created().message("Hel").events[:5])
    out += stream.fail(errors.network("cut"))
    with pytest.raises(openai.APIError, match="closed the connection"):
        read(out)


def test_the_aggregated_object_reads_like_a_native_answer() -> None:
    answer = ResponsesObject(OBJECT)
    for event in Script().created().message("Hello").call("{}").end(output=[], usage=USAGE).events:
        assert answer.feed(frame(event)) == b""
    body = answer.finish()
    headers = {"content-type": "application/json"}
    sdk = client(lambda request: httpx.Response(200, headers=headers, content=body))

    response = sdk.responses.create(model="gpt-6-astra", input="hi")
    assert response.output_text == "Hello"
    assert response.output[1].type == "function_call"
    assert response.usage is not None
    assert response.usage.total_tokens == 20


def test_an_error_body_gives_the_sdk_its_message_and_says_not_to_retry() -> None:
    body = b'{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached"}}'
    failure = errors.from_http(429, {}, body, now=NOW)
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(429, headers=errors.headers(failure, now=NOW), content=errors.body(failure))

    with pytest.raises(openai.RateLimitError, match="usage limit has been reached"):
        client(answer).with_options(max_retries=2).responses.create(model="m", input="hi")
    assert len(asked) == 1
