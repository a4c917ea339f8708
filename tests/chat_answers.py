"""Shared by the tests of chat answers: Responses events in, chunks out."""

from __future__ import annotations

from typing import Any

import orjson

from addon.protocol.asked import Asked
from addon.protocol.chat_object import ChatObject
from addon.protocol.chat_stream import ChatStream
from addon.protocol.sse import Decoder, Frame, encode

Event = dict[str, Any]

RESPONSE: Event = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000,
    "model": "gpt-upstream",
    "status": "in_progress",
    "output": [],
}
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 15,
}


def event(kind: str, **members: Any) -> Event:
    return {"type": kind, **members}


def created(**members: Any) -> Event:
    return event("response.created", response={**RESPONSE, **members})


def completed(kind: str = "response.completed", **members: Any) -> Event:
    status = "incomplete" if kind == "response.incomplete" else "completed"
    return event(kind, response={**RESPONSE, "status": status, "usage": USAGE, **members})


def message(text: str = "", item_id: str = "msg_1", *, refusal: str = "", annotations: Any = ()) -> Event:
    parts: list[Event] = []
    if text:
        parts.append({"type": "output_text", "text": text, "annotations": list(annotations)})
    if refusal:
        parts.append({"type": "refusal", "refusal": refusal})
    return {"type": "message", "id": item_id, "role": "assistant", "content": parts}


def call(name: str = "look", arguments: str = "", call_id: str = "call_1") -> Event:
    item = {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": name}
    return {**item, "arguments": arguments}


def custom(name: str = "sql", text: str = "", call_id: str = "call_1") -> Event:
    return {
        "type": "custom_tool_call",
        "id": f"ctc_{call_id}",
        "call_id": call_id,
        "name": name,
        "input": text,
    }


def reasoning(*summary: str, item_id: str = "rs_1") -> Event:
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return {"type": "reasoning", "id": item_id, "summary": parts, "encrypted_content": "secret"}


def added(index: int, item: Event) -> Event:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, item: Event) -> Event:
    return event("response.output_item.done", output_index=index, item=item)


def text_delta(delta: str, index: int = 0, part: int = 0) -> Event:
    return event("response.output_text.delta", output_index=index, content_index=part, delta=delta)


def summary_delta(delta: str, index: int = 0, part: int = 0) -> Event:
    kind = "response.reasoning_summary_text.delta"
    return event(kind, output_index=index, summary_index=part, delta=delta)


def arguments_delta(delta: str, index: int = 0) -> Event:
    return event("response.function_call_arguments.delta", output_index=index, delta=delta)


def frames(events: list[Event]) -> list[Frame]:
    return Decoder().feed(b"".join(map(encode, events)))


def ended(data: bytes) -> list[Any]:
    """The data of each chunk, parsed; the marker at the end as text. Fails on anything that is no data line."""
    lines = data.split(b"\n\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"data: ") for line in lines)
    return ["[DONE]" if line == b"data: [DONE]" else orjson.loads(line[6:]) for line in lines]


def asked(**members: Any) -> Asked:
    return Asked("chat", True, "gpt-x", **members)


def stream(events: list[Event], asked_for: Asked | None = None) -> list[Any]:
    """The chunks of a whole answer."""
    output = ChatStream(asked_for or asked(), clock=lambda: 7.0)
    return ended(b"".join(output.feed(frame) for frame in frames(events)) + output.finish())


def deltas(events: list[Event], asked_for: Asked | None = None) -> list[Any]:
    """The deltas of a whole answer, without the first (the role) and the empty one beside the finish reason."""
    found = [c["choices"][0]["delta"] for c in stream(events, asked_for) if c != "[DONE]" and c["choices"]]
    assert found[0] == {"role": "assistant", "content": ""}
    assert found[-1] == {}
    return found[1:-1]


def completion(events: list[Event], asked_for: Asked | None = None) -> Any:
    """The object of a whole answer."""
    output = ChatObject(asked_for or asked(), clock=lambda: 7.0)
    for frame in frames(events):
        assert output.feed(frame) == b""
    return orjson.loads(output.finish())


HELLO = [
    created(),
    added(0, message()),
    text_delta("Hel"),
    text_delta("lo"),
    done(0, message("Hello")),
    completed(),
]
"""A text in two pieces."""
