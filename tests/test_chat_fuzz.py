"""Chat answers under any order of events, and under events that make no sense.

Two kinds of stream are drawn. *Sound* answers know what they say; their items interleave, and deltas,
announcements or done events may be missing, as has been seen of the backend. *Broken* streams are made of any
events with any members.
"""

from __future__ import annotations

import random
from contextlib import suppress
from itertools import pairwise
from typing import Any

import openai
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from addon.protocol.asked import Asked
from addon.protocol.chat_object import ChatObject
from addon.protocol.chat_stream import ChatStream
from addon.protocol.completions import CompletionObject, CompletionStream
from addon.protocol.errors import ProtocolError, network
from addon.protocol.sse import Decoder, encode
from tests.chat_answers import (
    RESPONSE,
    call,
    completed,
    created,
    custom,
    ended,
    event,
    message,
    reasoning,
)
from tests.openai_sdk import client

fuzz = settings(derandomize=True, deadline=None, max_examples=100)

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
ASKED = st.builds(
    Asked,
    api=st.just("chat"),
    stream=st.just(True),
    model=st.sampled_from(["gpt-x", None]),
    include_usage=st.booleans(),
    legacy_functions=st.booleans(),
    custom_tools=st.sampled_from([frozenset(), frozenset({"sql"})]),
    expose_reasoning=st.booleans(),
)


# Sound answers


@st.composite
def item(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A finished item, and the events (without their index) that stream it."""
    number = draw(st.integers(0, 10**9))
    pieces = draw(st.lists(TEXTS, max_size=4))
    text = "".join(pieces)
    match draw(st.sampled_from(["message", "refusal", "reasoning", "call", "custom"])):
        case "message":
            made, kind, place = message(text, f"msg_{number}"), "output_text", {"content_index": 0}
            whole = {"text": text}
        case "refusal":
            made, kind, place = (
                message(item_id=f"msg_{number}", refusal=text),
                "refusal",
                {"content_index": 0},
            )
            whole = {"refusal": text}
        case "reasoning":
            made = reasoning(*([text] if text else []), item_id=f"rs_{number}")
            kind, place, whole = "reasoning_summary_text", {"summary_index": 0}, {"text": text}
        case "call":
            made, kind, place = call("look", text, f"call_{number}"), "function_call_arguments", {}
            whole = {"arguments": text}
        case _:
            made, kind, place = custom("sql", text, f"call_{number}"), "custom_tool_call_input", {}
            whole = {"input": text}
    streamed = [event(f"response.{kind}.delta", **place, item_id=made["id"], delta=piece) for piece in pieces]
    streamed.append(event(f"response.{kind}.done", **place, item_id=made["id"], **whole))
    # An answer may come without deltas, with a beginning of them, or without announcements.
    kept = streamed[: draw(st.integers(0, len(streamed)))]
    if draw(st.booleans()):
        skeleton = {**made, "content": [], "summary": [], "arguments": "", "input": ""}
        kept.insert(0, event("response.output_item.added", item={n: skeleton[n] for n in made}))
    return made, [*kept, event("response.output_item.done", item=made)]


@st.composite
def sound(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The items of an answer, and its events."""
    drawn = draw(st.lists(item(), max_size=4, unique_by=lambda one: one[0]["id"]))
    items = [made for made, _ in drawn]
    lines = [[{**e, "output_index": at} for e in events] for at, (_, events) in enumerate(drawn)]
    mixed = []
    order = random.Random(draw(st.integers(0, 9)))
    interleave = draw(st.booleans())
    while any(lines):
        line = order.choice([line for line in lines if line]) if interleave else next(filter(None, lines))
        mixed.append(line.pop(0))
    output = draw(st.sampled_from([[], items]))
    return items, [created(), *mixed, completed(output=output)]


def run(output: Any, raw: bytes, cuts: list[int] | None = None) -> bytes:
    decoder = Decoder()
    places = sorted({0, len(raw), *(cuts or ())})
    pieces = [raw[a:b] for a, b in pairwise(places)]
    found = b"".join(output.feed(frame) for piece in pieces for frame in decoder.feed(piece))
    found += b"".join(output.feed(frame) for frame in decoder.close())
    return found + output.finish()  # type: ignore[no-any-return]


def added_up(data: bytes) -> Any:
    """The message the SDK makes of a stream."""
    with client(data).chat.completions.stream(model="m", messages=[]) as stream:
        for _ in stream:
            pass
        if not any(call.type == "custom" for call in _calls(stream)):
            return stream.get_final_completion().choices[0]
        # The helper cannot finish a stream with a custom call, not even OpenAI's own; it can add it up.
        return stream.current_completion_snapshot.choices[0]


def _calls(stream: Any) -> Any:
    return stream.current_completion_snapshot.choices[0].message.tool_calls or ()


def letters(text: str | None) -> list[str]:
    """What is said, whatever the order: items that interleave are told as they come, with more gaps."""
    return sorted((text or "").replace("\n", ""))


def said(items: list[dict[str, Any]], kind: str, part_kind: str, member: str) -> list[str]:
    found = []
    for one in items:
        if one["type"] == kind:
            parts = one.get("content") or one.get("summary") or []
            found.append("".join(part[member] for part in parts if part["type"] == part_kind))
    return [text for text in found if text]


@fuzz
@given(sound(), ASKED)
def test_the_sdk_adds_the_stream_up_to_the_object(answer: Any, asked: Asked) -> None:
    _, events = answer
    raw = b"".join(map(encode, events))
    final = added_up(run(ChatStream(asked), raw))
    expected = orjson.loads(run(ChatObject(asked), raw))["choices"][0]
    made, other = final.message.to_dict(), expected["message"]
    assert final.finish_reason == expected["finish_reason"]
    for name in ("content", "refusal", "reasoning_content"):
        assert letters(made.get(name)) == letters(other.get(name))


@fuzz
@given(sound(), ASKED)
def test_no_text_of_the_answer_is_lost(answer: Any, asked: Asked) -> None:
    items, events = answer
    message = orjson.loads(run(ChatObject(asked), b"".join(map(encode, events))))["choices"][0]["message"]
    assert (message["content"] or "") == "\n\n".join(said(items, "message", "output_text", "text"))
    assert (message["refusal"] or "") == "".join(said(items, "message", "refusal", "refusal"))
    if asked.expose_reasoning:
        thoughts = "\n\n".join(said(items, "reasoning", "summary_text", "text"))
        assert message.get("reasoning_content", "") == thoughts
    calls = [one for one in items if one["type"] in ("function_call", "custom_tool_call")]
    if not asked.legacy_functions:
        assert len(message.get("tool_calls", [])) == len(calls)


@fuzz
@given(sound(), ASKED, st.lists(st.integers(0, 5000), max_size=6))
def test_the_same_chunks_come_out_wherever_the_stream_is_cut(
    answer: Any, asked: Asked, cuts: list[int]
) -> None:
    _, events = answer
    raw = b"".join(map(encode, events))
    cuts = [cut % (len(raw) + 1) for cut in cuts]
    assert run(ChatStream(asked), raw, cuts) == run(ChatStream(asked), raw)


@fuzz
@given(sound(), st.lists(st.text("ab\n", min_size=1, max_size=3), min_size=1, max_size=2))
def test_stop_sequences_never_show(answer: Any, stops: list[str]) -> None:
    _, events = answer
    asked = Asked("chat", True, "gpt-x", stop=tuple(stops))
    message = orjson.loads(run(ChatObject(asked), b"".join(map(encode, events))))["choices"][0]["message"]
    assert not any(stop in (message["content"] or "") for stop in stops)


# Broken streams

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.just(2**60) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
TYPES = st.sampled_from(
    [
        f"response.{name}"
        for name in [
            "created",
            "in_progress",
            "completed",
            "done",
            "incomplete",
            "output_item.added",
            "output_item.done",
            "content_part.added",
            "content_part.done",
            "output_text.delta",
            "output_text.done",
            "output_text.annotation.added",
            "refusal.delta",
            "refusal.done",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.added",
            "reasoning_text.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "web_search_call.searching",
            "unheard_of",
        ]
    ]
    + ["codex.rate_limits", ""]
)
IDS = st.sampled_from(["a", "b", None, 5])
PARTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["output_text", "refusal", "summary_text", "reasoning_text"]) | JSON,
            "text": TEXTS | JSON,
            "refusal": TEXTS | JSON,
            "annotations": st.lists(
                st.fixed_dictionaries(
                    {"type": st.just("url_citation")},
                    optional={"start_index": JSON, "end_index": JSON, "url": JSON, "title": JSON},
                ),
                max_size=2,
            )
            | JSON,
        },
    ),
    max_size=2,
)
ITEMS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["message", "reasoning", "function_call", "custom_tool_call", "web_search_call"]
        )
        | JSON
    },
    optional={
        "id": IDS,
        "call_id": IDS,
        "name": st.sampled_from(["look", "sql", "", None]),
        "arguments": TEXTS | JSON,
        "input": TEXTS | JSON,
        "content": PARTS | JSON,
        "summary": PARTS | JSON,
    },
)
NUMBERS = st.integers(0, 2) | JSON
RESPONSES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["resp_1", "", None, 7]),
        "created_at": JSON,
        "model": JSON,
        "output": st.lists(ITEMS | JSON, max_size=3) | JSON,
        "usage": st.dictionaries(
            st.sampled_from(["input_tokens", "output_tokens", "total_tokens", "input_tokens_details"]), JSON
        )
        | JSON,
        "service_tier": JSON,
        "status": JSON,
        "incomplete_details": JSON,
    },
)
EVENTS = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "output_index": NUMBERS,
        "content_index": NUMBERS,
        "summary_index": NUMBERS,
        "item_id": IDS,
        "call_id": IDS,
        "delta": TEXTS | JSON,
        "text": TEXTS | JSON,
        "arguments": TEXTS | JSON,
        "input": TEXTS | JSON,
        "item": ITEMS | JSON,
        "part": JSON,
        "annotation": JSON,
        "response": RESPONSES | JSON,
    },
)
BROKEN = st.lists(
    EVENTS.map(encode) | st.sampled_from([b"data: {\n\n", b"data: [1]\n\n", b": x\n\n", b"data: [DONE]\n\n"]),
    max_size=10,
).map(b"".join)


def survives(output: Any, raw: bytes) -> bytes:
    """The bytes of a stream that may break at any event, ended as the exchange would."""
    found = b""
    try:
        for frame in Decoder().feed(raw):
            found += output.feed(frame)
        return found + output.finish()  # type: ignore[no-any-return]
    except ProtocolError as error:
        return found + output.fail(error.failure)  # type: ignore[no-any-return]


def accepts(data: bytes) -> None:
    """Fails if the SDK raises anything but what it raises on purpose."""
    with suppress(openai.APIError, openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
        added_up(data)


@settings(fuzz, max_examples=200)
@given(BROKEN, ASKED)
def test_no_stream_breaks_us_or_the_sdk(raw: bytes, asked: Asked) -> None:
    data = survives(ChatStream(asked), created_first(raw))
    assert ended(data)
    accepts(data)


@fuzz
@given(BROKEN, ASKED)
def test_no_stream_breaks_the_other_outputs(raw: bytes, asked: Asked) -> None:
    for output in (ChatObject(asked), CompletionObject(asked)):
        assert orjson.loads(survives(output, raw))
    assert ended(survives(CompletionStream(asked), raw))


@fuzz
@given(BROKEN, ASKED)
def test_a_failure_can_end_any_stream(raw: bytes, asked: Asked) -> None:
    output = ChatStream(asked)
    with suppress(ProtocolError):
        for frame in Decoder().feed(raw):
            output.feed(frame)
    assert "error" in ended(output.fail(network("cut")))[-1]


@fuzz
@given(st.data(), ASKED)
def test_sound_events_in_any_order_break_nothing(data: st.DataObject, asked: Asked) -> None:
    _, events = data.draw(sound())
    shuffled = data.draw(st.permutations(events))
    doubled = data.draw(st.lists(st.sampled_from(events), max_size=3))
    accepts(survives(ChatStream(asked), b"".join(map(encode, [*shuffled, *doubled]))))


def created_first(raw: bytes) -> bytes:
    """Half of the streams begin as they should."""
    return encode(event("response.created", response=RESPONSE)) + raw if len(raw) % 2 else raw
