"""Event streams for tests: the backend's answers, written down as short as a test can be read.

`Script` numbers its events as the backend does and knows the full life of each kind of item; what a broken backend
leaves out, a test leaves out by `without`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from addon.protocol.asked import Asked
from addon.protocol.repair import ResponsesStream
from addon.protocol.sse import Decoder, Frame, encode

Event = dict[str, Any]

STREAM = Asked(api="responses", stream=True, model="gpt-6-astra")
OBJECT = Asked(api="responses", stream=False, model="gpt-6-astra")
ANCHORED = Asked(api="responses", stream=True, model="gpt-6-astra", anchored=True)


class Script:
    """Writes one answer, event by event, as a faithful backend would."""

    def __init__(self, response_id: str = "resp_1") -> None:
        self.events: list[Event] = []
        self.output: list[Event] = []
        self.base = {
            "id": response_id,
            "object": "response",
            "created_at": 1795000000,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-6-astra",
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }

    def add(self, type: str, **members: Any) -> Script:
        self.events.append({"type": type, "sequence_number": len(self.events), **members})
        return self

    def created(self) -> Script:
        return self.add("response.created", response=self.base).add(
            "response.in_progress", response=self.base
        )

    def message(self, *deltas: str, id: str = "msg_1") -> Script:
        index, text = len(self.output), "".join(deltas)
        where = {"item_id": id, "output_index": index, "content_index": 0}
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        item = {"id": id, "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
        self.add("response.output_item.added", output_index=index, item=item)
        self.add("response.content_part.added", **where, part=part)
        for delta in deltas:
            self.add("response.output_text.delta", **where, delta=delta, logprobs=[], obfuscation="xyz")
        self.add("response.output_text.done", **where, text=text, logprobs=[])
        self.add("response.content_part.done", **where, part={**part, "text": text})
        return self.done({**item, "status": "completed", "content": [{**part, "text": text}]})

    def call(self, *deltas: str, name: str = "look", call_id: str = "call_1", id: str = "fc_1") -> Script:
        index, arguments = len(self.output), "".join(deltas)
        where = {"item_id": id, "output_index": index}
        item = {"id": id, "type": "function_call", "status": "in_progress", "arguments": ""}
        item |= {"call_id": call_id, "name": name}
        self.add("response.output_item.added", output_index=index, item=item)
        for delta in deltas:
            self.add("response.function_call_arguments.delta", **where, delta=delta)
        self.add("response.function_call_arguments.done", **where, name=name, arguments=arguments)
        return self.done({**item, "status": "completed", "arguments": arguments})

    def reasoning(self, *deltas: str, id: str = "rs_1", encrypted: str = "cipher") -> Script:
        index, text = len(self.output), "".join(deltas)
        where = {"item_id": id, "output_index": index, "summary_index": 0}
        item = {"id": id, "type": "reasoning", "summary": [], "encrypted_content": encrypted}
        self.add("response.output_item.added", output_index=index, item=item)
        self.add("response.reasoning_summary_part.added", **where, part={"type": "summary_text", "text": ""})
        for delta in deltas:
            self.add("response.reasoning_summary_text.delta", **where, delta=delta)
        self.add("response.reasoning_summary_text.done", **where, text=text)
        self.add("response.reasoning_summary_part.done", **where, part={"type": "summary_text", "text": text})
        return self.done({**item, "summary": [{"type": "summary_text", "text": text}]})

    def search(self, id: str = "ws_1") -> Script:
        index = len(self.output)
        where = {"item_id": id, "output_index": index}
        item = {"id": id, "type": "web_search_call", "status": "in_progress"}
        self.add("response.output_item.added", output_index=index, item=item)
        for step in ("in_progress", "searching", "completed"):
            self.add(f"response.web_search_call.{step}", **where)
        return self.done({**item, "status": "completed", "action": {"type": "search", "query": "q"}})

    def done(self, item: Event) -> Script:
        self.add("response.output_item.done", output_index=len(self.output), item=item)
        self.output.append(item)
        return self

    def end(self, type: str = "response.completed", output: Any = "all", **members: Any) -> Script:
        response = {**self.base, "status": "completed", **members}
        if output == "all":
            response["output"] = self.output
        elif output != "absent":
            response["output"] = output
        return self.add(type, response=response)

    def without(self, *types: str) -> list[Event]:
        """The events but those whose type begins with one of these."""
        return [event for event in self.events if not event["type"].startswith(types)]


USAGE = {"input_tokens": 12, "output_tokens": 8, "total_tokens": 20}


def frame(event: Event) -> Frame:
    return Frame(encode(event))


def as_bytes(events: Iterable[Event]) -> bytes:
    return b"".join(map(encode, events))


def repaired(events: Iterable[Event], asked: Asked = STREAM) -> tuple[list[Event], ResponsesStream]:
    """What the client of a stream receives for these events, and the stream."""
    stream = ResponsesStream(asked)
    out = b"".join([stream.feed(frame(event)) for event in events])
    return parsed(out), stream


def parsed(stream: bytes) -> list[Event]:
    """The events of a stream, read as strictly as a client can: event line, one line of JSON, equal types."""
    decoder = Decoder()
    events = []
    for one in decoder.feed(stream) + decoder.close():
        if one.data:
            event = orjson.loads(one.data)
            assert one.raw.startswith(b"event: " + event["type"].encode() + b"\n")
            events.append(event)
    return events


def text_of(response: Event) -> str:
    """What the SDKs call `output_text`."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )


def deltas_of(events: Iterable[Event], type: str = "response.output_text.delta") -> str:
    return "".join(event["delta"] for event in events if event["type"] == type)


def types(events: Iterable[Event]) -> list[str]:
    """The types, without the prefix they share."""
    return [event["type"].removeprefix("response.") for event in events]
