"""Answers of a backend that is careless or mad.

Careless: it leaves out, repeats and mixes events, but everything was said once. Then nothing of it may be lost.
Mad: any event with any members. Then the client still gets a stream that the SDK's own state machine accepts,
or the one error that says the backend broke its protocol.
"""

from __future__ import annotations

import contextlib
from typing import Any

import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from addon.protocol import errors
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.errors import ProtocolError
from addon.protocol.repair import ResponsesStream
from addon.protocol.sse import Decoder, Frame
from tests.answer_events import ANCHORED, STREAM, Event, Script, as_bytes, deltas_of, frame, parsed, text_of

# The SDK's models warn of members that are not what they declare; that they do not raise is the point.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
SETTINGS = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def sdk_accepts(events: list[Event]) -> None:
    """Runs the events through the state machine of the SDK's stream helper, which raises on what it cannot use."""
    state: Any = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for event in events:
        if event["type"] != "error":
            state.handle_event(construct_type(type_=ResponseStreamEvent, value=event))


def is_in_order(events: list[Event]) -> None:
    """What no client may be asked to put up with, stated apart from the SDK."""
    assert not events or events[0]["type"] == "response.created"
    assert [event["type"] for event in events].count("response.created") <= 1
    numbers = [event["sequence_number"] for event in events]
    assert all(isinstance(number, int) for number in numbers)
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert added == list(range(len(added)))
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert len(done) == len(set(done))
    assert set(done) <= set(added)


# A careless backend

text_pieces = st.lists(st.text(alphabet='aä "\\\n\u2028🙂', max_size=4), max_size=4)


@st.composite
def scripts(draw: st.DrawFn) -> tuple[Script, str, list[str]]:
    """A faithful answer, its text and the arguments of its calls."""
    script, text, arguments = Script().created(), "", []
    for number, kind in enumerate(draw(st.lists(st.sampled_from("mcrs"), max_size=5))):
        pieces = draw(text_pieces)
        if kind == "m":
            script.message(*pieces, id=f"msg_{number}")
            text += "".join(pieces)
        elif kind == "c":
            script.call(*pieces, id=f"fc_{number}", call_id=f"call_{number}")
            arguments.append("".join(pieces))
        elif kind == "r":
            script.reasoning(*pieces, id=f"rs_{number}")
        else:
            script.search(id=f"ws_{number}")
    return script, text, arguments


@st.composite
def careless(draw: st.DrawFn) -> tuple[list[Event], str, list[str]]:
    """A faithful answer with events lost and repeated, such that each text is still said somewhere."""
    script, text, arguments = draw(scripts())
    kind = draw(st.sampled_from(["response.completed", "response.done", "response.incomplete"]))
    script.end(kind, output=draw(st.sampled_from(["all", "absent", None, []])))
    lossy = draw(st.sets(st.sampled_from(LOSSY)))
    events: list[Event] = []
    for event in script.events:
        if event["type"].startswith(tuple(lossy)):
            continue
        event = dict(event)
        for member in draw(st.sets(st.sampled_from(["sequence_number", "logprobs", "item_id"]), max_size=2)):
            event.pop(member, None)
        events.append(event)
        if event["type"] in REPEATABLE and draw(st.booleans()):
            events.append(event)
        if draw(st.integers(0, 9)) == 0:
            events.append({"type": "codex.rate_limits"})
    return events, text, arguments


LOSSY = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part",
    "response.reasoning_summary_part",
    "response.output_text",
    "response.function_call_arguments",
    "response.reasoning_summary_text",
    "response.web_search_call",
]
REPEATABLE = {
    "response.created",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.done",
}


@SETTINGS
@given(careless(), st.booleans(), st.data())
def test_nothing_is_lost_or_said_twice(
    answer: tuple[list[Event], str, list[str]], anchored: bool, data: st.DataObject
) -> None:
    events, text, arguments = answer
    upstream = as_bytes(events)
    stream, decoder = ResponsesStream(ANCHORED if anchored else STREAM), Decoder()
    out = b""
    position = 0
    while position < len(upstream):
        size = data.draw(st.sampled_from([1, 7, 100, 10_000]))
        for one in decoder.feed(upstream[position : position + size]):
            out += stream.feed(one)
        position += size

    received = parsed(out)
    is_in_order(received)
    sdk_accepts(received)
    assert stream.response is not None
    assert text_of(stream.response) == text
    assert deltas_of(received) == text
    calls = [item for item in stream.response["output"] if item["type"] == "function_call"]
    assert [item["arguments"] for item in calls] == arguments
    assert deltas_of(received, "response.function_call_arguments.delta") == "".join(arguments)
    searches = [item for item in stream.response["output"] if item["type"] == "web_search_call"]
    assert not (anchored and searches)
    assert received[-1]["response"] == stream.response


@SETTINGS
@given(careless())
def test_stream_and_object_say_the_same(answer: tuple[list[Event], str, list[str]]) -> None:
    events, text, _ = answer
    whole = ResponsesObject(STREAM)
    for event in events:
        whole.feed(frame(event))
    assert whole.response is not None
    assert text_of(whole.response) == text
    assert whole.finish()


@SETTINGS
@given(scripts(), st.randoms(use_true_random=False))
def test_items_may_be_told_side_by_side(answer: tuple[Script, str, list[str]], random: Any) -> None:
    script, text, arguments = answer
    by_item: dict[int, list[Event]] = {}
    for event in script.events[2:]:
        by_item.setdefault(event["output_index"], []).append(event)
    mixed = []
    while any(by_item.values()):
        mixed.append(by_item[random.choice([index for index, rest in by_item.items() if rest])].pop(0))
    stream = ResponsesStream(STREAM)
    events = [*script.events[:2], *mixed, Script().end(output=[]).events[0]]
    received = parsed(b"".join([stream.feed(frame(event)) for event in events]))

    sdk_accepts(received)
    assert stream.response is not None
    indexes = {
        event["item"]["id"]: event["output_index"]
        for event in received
        if event["type"] == "response.output_item.added"
    }
    assert [item["id"] for item in stream.response["output"]] == sorted(indexes, key=indexes.__getitem__)
    assert sorted(text_of(stream.response)) == sorted(text)
    calls = [item["arguments"] for item in stream.response["output"] if item["type"] == "function_call"]
    assert sorted(calls) == sorted(arguments)


# A mad backend

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ids = st.sampled_from(["a", "b", "", None, 3])
part_types = ["output_text", "refusal", "summary_text", "reasoning_text", "output_audio"]
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(part_types)},
    optional={"text": st.text(max_size=3) | json_values, "refusal": json_values, "annotations": json_values},
)
item_types = [
    "message",
    "function_call",
    "custom_tool_call",
    "reasoning",
    "web_search_call",
    "shell_call",
    "x",
    "",
    4,
]
items = st.fixed_dictionaries(
    {"type": st.sampled_from(item_types)},
    optional={
        "id": ids,
        "call_id": ids,
        "name": st.sampled_from(["f", None]),
        "content": st.lists(parts | json_values, max_size=2) | json_values,
        "summary": st.lists(parts, max_size=2) | json_values,
        "arguments": json_values,
        "input": json_values,
        "status": json_values,
    },
)
responses = st.fixed_dictionaries(
    {},
    optional={
        "id": ids,
        "output": st.lists(items | json_values, max_size=3) | json_values,
        "usage": st.fixed_dictionaries({}, optional={"input_tokens": json_values}) | json_values,
        "model": json_values,
        "created_at": json_values,
    },
)
event_types = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.output_text.annotation.added",
    "response.refusal.delta",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.custom_tool_call_input.delta",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.web_search_call.searching",
    "response.unheard_of",
    "response.metadata",
    "codex.rate_limits",
    "keepalive",
]
indexes = st.integers(0, 2) | json_values
mad_events = st.fixed_dictionaries(
    {"type": st.sampled_from(event_types)},
    optional={
        "output_index": indexes,
        "content_index": indexes,
        "summary_index": indexes,
        "item_id": ids,
        "delta": st.text(max_size=3) | json_values,
        "text": json_values,
        "arguments": json_values,
        "part": parts | json_values,
        "item": items | json_values,
        "annotation": json_values,
        "response": responses | json_values,
        "sequence_number": st.integers(0, 5) | json_values,
    },
)
mad_ends = st.fixed_dictionaries(
    {"type": st.sampled_from(["response.completed", "response.done", "response.incomplete"])},
    optional={"response": responses | json_values},
)


@settings(SETTINGS, max_examples=100)
@given(st.lists(mad_events, max_size=12), mad_ends, st.booleans())
@example(
    [{"type": "response.output_item.added", "item": {"type": "message", "call_id": ""}}],
    {"type": "response.completed"},
    False,
)
def test_any_events_make_a_stream_the_sdk_takes_or_a_protocol_error(
    events: list[Event], end: Event, anchored: bool
) -> None:
    stream = ResponsesStream(ANCHORED if anchored else STREAM)
    out = b""
    try:
        for event in [*events, end]:
            out += stream.feed(frame(event))
    except ProtocolError as error:
        out += stream.fail(error.failure)

    received = parsed(out)
    is_in_order(received)
    sdk_accepts(received)
    last = received[-1]["type"]
    assert last == ("error" if not stream.done else f"response.{(stream.response or {})['status']}")


@settings(SETTINGS, max_examples=100)
@given(st.lists(mad_events, max_size=12), mad_ends)
def test_any_events_make_an_object_or_a_protocol_error(events: list[Event], end: Event) -> None:
    answer = ResponsesObject(STREAM)
    with contextlib.suppress(ProtocolError):
        for event in [*events, end]:
            answer.feed(frame(event))
        assert answer.finish().startswith(b"{")


@SETTINGS
@given(st.binary(max_size=200) | st.text(alphabet='event: data:\r\n{}"x', max_size=80).map(str.encode))
def test_any_bytes_make_frames_that_stream_and_classifier_survive(noise: bytes) -> None:
    decoder, stream = Decoder(), ResponsesStream(STREAM)
    for one in decoder.feed(noise) + decoder.close():
        try:
            parsed(stream.feed(one))
        except ProtocolError as error:
            stream.fail(error.failure)


@SETTINGS
@given(json_values, st.sampled_from([200, 302, 400, 401, 402, 403, 404, 429, 500, 503]))
def test_any_error_is_classified(value: Any, status: int) -> None:
    for body in ({"error": value}, {"detail": value}, value):
        raw = Frame(b"data: " + as_bytes([{"type": "x", "v": body}]) + b"\n\n").raw
        failure = errors.from_http(status, {"Retry-After": "x"}, raw, now=0.0)
        assert 400 <= failure.status < 600
        assert failure.message
    event = value if isinstance(value, dict) else {"error": value}
    assert errors.body(errors.from_event(event, now=0.0))
