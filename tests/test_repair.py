"""The repaired stream: what came right leaves as it came, and what is missing is told in the right place."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from addon.protocol import errors
from addon.protocol.errors import ProtocolError
from addon.protocol.repair import ResponsesStream, proves_success
from addon.protocol.sse import Decoder, Frame
from tests.answer_events import (
    STREAM,
    USAGE,
    Event,
    Script,
    as_bytes,
    deltas_of,
    frame,
    parsed,
    repaired,
    text_of,
    types,
)

FULL = Script().created().reasoning("th", "ink").message("Hel", "lo").call('{"a"', ":1}").end(usage=USAGE)


# Unchanged


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_a_faithful_stream_leaves_as_the_bytes_that_came(size: int) -> None:
    upstream = as_bytes(FULL.events)
    stream, decoder = ResponsesStream(STREAM), Decoder()
    out = b""
    for position in range(0, len(upstream), size):
        for one in decoder.feed(upstream[position : position + size]):
            out += stream.feed(one)
    untouched = as_bytes(FULL.events[:-1])
    assert out[: len(untouched)] == untouched
    assert parsed(out)[-1]["type"] == "response.completed"


def test_the_spelling_of_a_frame_is_not_ours_to_change() -> None:
    event = FULL.events[3]
    raw = (
        b"event: response.reasoning_summary_part.added\ndata:  "
        + orjson.dumps(event).replace(b",", b" , ")
        + b"\n\n"
    )
    stream = ResponsesStream(STREAM)
    for earlier in FULL.events[:3]:
        stream.feed(frame(earlier))
    assert stream.feed(Frame(raw)) == raw


def test_deltas_of_a_run_are_not_parsed() -> None:
    stream = ResponsesStream(STREAM)
    events = Script().created().message("one", " two", ' "thr\\ee"\n\u2028', "🙂").end(output=[]).events
    frames = [frame(event) for event in events]
    out = b"".join([stream.feed(one) for one in frames])

    deltas = [one for one in frames if one.type == "response.output_text.delta"]
    assert [one._json is None for one in deltas] == [False, True, True, True]
    assert deltas_of(parsed(out)) == 'one two "thr\\ee"\n\u2028🙂'
    assert stream.response is not None
    assert text_of(stream.response) == 'one two "thr\\ee"\n\u2028🙂'


def test_text_of_an_unparsed_run_fills_an_empty_done_item() -> None:
    events = Script().created().message("a", "ä\\", "🙂").end(output=[])
    kept = events.without("response.output_text.done", "response.content_part.done")
    for event in kept:
        if event["type"] == "response.output_item.done":
            event["item"] = {**event["item"], "content": []}
    received, stream = repaired(kept)
    assert stream.response is not None
    assert text_of(stream.response) == deltas_of(received) == "aä\\🙂"


@pytest.mark.parametrize("missing", ["logprobs", "sequence_number"])
def test_one_careless_delta_in_a_run_is_noticed(missing: str) -> None:
    events = Script().created().message("a", "b", "c", "d").end().events
    events[6] = {name: value for name, value in events[6].items() if name != missing}
    received, _ = repaired(events)
    assert deltas_of(received) == "abcd"
    assert all(missing in event for event in received if event["type"] == "response.output_text.delta")
    assert [event["sequence_number"] for event in received] == list(range(len(received)))


def test_words_in_a_text_are_not_taken_for_members() -> None:
    text = [
        '{"output_index":7,"content_index":9,"delta":"x"}',
        '"sequence_number":',
        '"type":"response.completed"',
    ]
    received, stream = repaired(Script().created().message("a", *text, "b").end(output=[]).events)
    assert deltas_of(received) == "a" + "".join(text) + "b"
    assert stream.response is not None
    assert text_of(stream.response) == deltas_of(received)


# Order and identity


@pytest.mark.parametrize(
    "missing",
    [
        ("response.output_item.added",),
        ("response.content_part", "response.reasoning_summary_part"),
        ("response.output_item.added", "response.content_part", "response.reasoning_summary_part"),
        (
            "response.output_text.delta",
            "response.function_call_arguments.delta",
            "response.reasoning_summary_text",
        ),
        ("response.output_text.done", "response.function_call_arguments.done", "response.content_part.done"),
        ("response.created",),
        (
            "response.output_item.added",
            "response.content_part",
            "response.output_text",
            "response.function_call",
        ),
    ],
)
def test_what_is_left_out_is_told_where_it_belongs(missing: tuple[str, ...]) -> None:
    received, _ = repaired(FULL.without(*missing))
    assert deltas_of(received) == "Hello"
    assert deltas_of(received, "response.function_call_arguments.delta") == '{"a":1}'
    of_message = [
        event for event in received if event.get("item_id") == "msg_1" or _item_id(event) == "msg_1"
    ]
    order = list(dict.fromkeys(types(of_message)))
    assert order == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]


def _item_id(event: Event) -> str | None:
    item = event.get("item")
    return item["id"] if isinstance(item, dict) else None


def test_text_that_comes_only_at_the_end_is_told_as_events() -> None:
    received, _ = repaired([Script().message("Hello").end(usage=USAGE).events[-1]])
    assert types(received) == [
        "created",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in received] == list(range(8))


def test_deltas_of_a_call_wait_for_its_name_and_id() -> None:
    received, _ = repaired(FULL.without("response.output_item.added"))
    calls = [event for event in received if "function_call" in event["type"] or _item_id(event) == "fc_1"]
    assert types(calls) == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert (calls[0]["item"]["name"], calls[0]["item"]["arguments"]) == ("look", "")


def test_a_second_announcement_and_a_second_end_are_swallowed() -> None:
    events = [event for event in FULL.events for _ in range(2 if "output_item" in event["type"] else 1)]
    received, _ = repaired(events)
    assert types(received) == types(FULL.events)


def test_a_changed_id_is_kept_from_the_client() -> None:
    events = Script().created().message("Hello").end(id="resp_2").events
    for event in events:
        if event["type"] == "response.output_item.done":
            event["item"] = {**event["item"], "id": "msg_other"}
    received, stream = repaired(events)
    assert [event["response"]["id"] for event in received if "response" in event] == ["resp_1"] * 3
    assert [_item_id(event) for event in received if "item" in event] == ["msg_1", "msg_1"]
    assert stream.response is not None
    assert stream.response["output"][0]["id"] == "msg_1"


def test_a_call_id_out_of_nowhere_does_not_change_the_item() -> None:
    events = Script().created().message("Hello").end(output=[]).events
    for event in events:
        if event["type"] == "response.output_item.done":
            event["item"] = {**event["item"], "call_id": "call_1"}
    received, _ = repaired(events)
    assert [event["item"].get("call_id") for event in received if "item" in event] == [None, None]


def test_a_part_announced_without_its_text_gets_one() -> None:
    events = Script().created().message("Hello").end().events
    events[3]["part"] = {"type": "output_text"}
    received, _ = repaired(events)
    assert received[3]["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def test_the_rest_of_a_text_is_told_before_its_end() -> None:
    events = Script().created().message("Hel", "lo").end().events
    del events[5]
    received, _ = repaired(events)
    assert deltas_of(received) == "Hello"


def test_nothing_follows_the_terminal_event() -> None:
    _, stream = repaired(FULL.events)
    assert stream.feed(frame(FULL.events[5])) == b""
    assert stream.finish() == b""
    assert stream.fail(errors.network("cut")) == b""


# The terminal event


@pytest.mark.parametrize("output", ["absent", None, []])
def test_an_empty_output_is_rebuilt(output: Any) -> None:
    script = Script().created().reasoning("t").message("Hello").call("{}").end("response.done", output=output)
    received, stream = repaired(script.events)
    assert received[-1]["type"] == "response.completed"
    assert received[-1]["response"]["output"] == script.output
    assert stream.response == received[-1]["response"]


def test_an_incomplete_answer_ends_as_such() -> None:
    end = Script().end("response.incomplete", output=[], status="incomplete").events
    received, stream = repaired([*Script().created().message("Hel", "lo").events[:6], *end])
    assert types(received)[-2:] == ["output_item.done", "incomplete"]
    assert stream.done
    assert text_of(received[-1]["response"]) == "Hello"


def test_a_complete_answer_with_half_a_call_is_a_protocol_error() -> None:
    stream = ResponsesStream(STREAM)
    for event in Script().created().call('{"a"', ":1}").events[:4]:
        stream.feed(frame(event))
    with pytest.raises(ProtocolError, match="unfinished"):
        stream.feed(frame(Script().end(output=[]).events[0]))
    assert not stream.done


# Form


def test_missing_event_lines_numbers_and_logprobs_are_added() -> None:
    stream = ResponsesStream(STREAM)
    out = b""
    for event in FULL.events:
        bare = {name: value for name, value in event.items() if name not in ("sequence_number", "logprobs")}
        out += stream.feed(Frame(b"data: " + orjson.dumps(bare) + b"\n\n"))
    received = parsed(out)
    assert types(received) == types(FULL.events)
    assert [event["sequence_number"] for event in received] == list(range(len(received)))
    texts = [event for event in received if event["type"].startswith("response.output_text.")]
    assert all(event["logprobs"] == [] for event in texts)


def test_numbers_go_on_where_the_backends_stop() -> None:
    events = Script().created().message("a", "b", "c").end().events
    for offset, event in enumerate(events):
        event["sequence_number"] = 10 + 2 * offset
    received, _ = repaired([*events[:7], *events[8:]])
    numbers = [event["sequence_number"] for event in received]
    assert numbers[:7] == [10, 12, 14, 16, 18, 20, 22]
    assert numbers == sorted(set(numbers))


def test_comments_pass_and_other_frames_without_data_do_not() -> None:
    stream = ResponsesStream(STREAM)
    assert stream.feed(Frame(b": keep-alive\n\n")) == b": keep-alive\n\n"
    assert stream.feed(Frame(b"event: response.created\n\n")) == b""
    assert stream.feed(Frame(b"retry: 3\n\n")) == b""


@pytest.mark.parametrize("data", [b"[DONE]", b"nonsense", b"[1]", b'{"type":7}', b'{"x":1}'])
def test_data_that_is_no_event_is_swallowed(data: bytes) -> None:
    assert ResponsesStream(STREAM).feed(Frame(b"data: " + data + b"\n\n")) == b""


# Failure


def test_a_failure_in_the_middle_is_told_twice() -> None:
    stream = ResponsesStream(STREAM)
    for event in FULL.events[:-3]:
        stream.feed(frame(event))
    failed, error = parsed(stream.fail(errors.network("cut")))
    assert failed["type"] == "response.failed"
    assert failed["response"]["id"] == "resp_1"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "upstream_cut"
    assert [item["type"] for item in failed["response"]["output"]] == [
        "reasoning",
        "message",
        "function_call",
    ]
    message = failed["response"]["error"]["message"]
    assert error == {
        "type": "error",
        "sequence_number": failed["sequence_number"] + 1,
        "code": "upstream_cut",
        "message": message,
        "param": None,
        "error": {"type": "server_error", "code": "upstream_cut", "message": message, "param": None},
    }
    assert failed["sequence_number"] > FULL.events[-4]["sequence_number"]


def test_a_failure_carries_what_there_was_of_an_item() -> None:
    stream = ResponsesStream(STREAM)
    for event in FULL.events:
        stream.feed(frame(event))
        if event["type"] == "response.output_text.delta":
            break
    failed, _ = parsed(stream.fail(errors.network("cut")))
    message = failed["response"]["output"][-1]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", event["delta"])


def test_a_failure_before_anything_else_begins_with_created() -> None:
    events = parsed(ResponsesStream(STREAM).fail(errors.network("timeout")))
    assert types(events) == ["created", "failed", "error"]
    assert events[0]["response"]["id"] == events[1]["response"]["id"]


def test_failure_events_are_not_for_the_stream() -> None:
    event = {"type": "error", "error": {"type": "usage_limit_reached", "message": "m"}}
    with pytest.raises(ProtocolError) as error:
        ResponsesStream(STREAM).feed(frame(event))
    assert error.value.failure.status == 429


@pytest.mark.parametrize(
    ("type", "proof"),
    [
        ("response.output_item.added", True),
        ("response.output_text.delta", True),
        ("response.function_call_arguments.delta", True),
        ("response.completed", True),
        ("response.done", True),
        ("response.incomplete", True),
        ("response.created", False),
        ("response.in_progress", False),
        ("codex.rate_limits", False),
        ("response.failed", False),
        ("error", False),
        ("", False),
    ],
)
def test_what_proves_success(type: str, proof: bool) -> None:
    assert proves_success(type) is proof
