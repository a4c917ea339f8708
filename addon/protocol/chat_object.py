"""The answer to a client of the two older APIs that did not ask for a stream: one object.

The object is what a client would add up from the stream: the finished Response goes through the same
`Reader`, and this file collects the pieces.

The rule of this file: a member that has nothing to say is absent, or null where clients read it without a
guard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import orjson

from addon.protocol import errors
from addon.protocol.chat_events import Call, Reader
from addon.protocol.chat_ids import NamedAnswer
from addon.protocol.errors import Failure, ProtocolError
from addon.protocol.sse import Frame
from addon.protocol.usage_map import chat_usage, total


class Pieces:
    """A Sink that keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[tuple[Call, list[str]]] = []

    def text(self, piece: str) -> None:
        self.texts.append(piece)

    def refusal(self, piece: str) -> None:
        self.refusals.append(piece)

    def reasoning(self, piece: str) -> None:
        self.thoughts.append(piece)

    def call(self, call: Call) -> None:
        self.calls.append((call, []))

    def arguments(self, call: Call, piece: str) -> None:
        self.calls[call.index][1].append(piece)


class WholeObject(NamedAnswer, ABC):
    """Frames in, one JSON body at the end (the Output protocol)."""

    stream = False
    _source = b""
    """The terminal event's bytes."""

    def feed(self, frame: Frame) -> bytes:
        """Takes one event; nothing is sent before the end. Raises ProtocolError if it makes no sense."""
        if not self.done and frame.type.startswith("response."):
            self._aggregate.feed(frame)
            if self._aggregate.terminal is not None:
                self._conclude()
                self._source = frame.raw
        return b""

    def finish(self) -> bytes:
        """The body of a whole answer. Raises ProtocolError if no terminal event came."""
        return orjson.dumps(self.completion())

    def completion(self) -> dict[str, Any]:
        """The body as a dict. Raises ProtocolError if no terminal event came."""
        response = self.response
        if response is None:
            raise ProtocolError("The backend closed the stream before the answer was complete.")
        pieces = Pieces()
        reader = Reader(self._asked, pieces, self._aggregate)
        reader.finish()
        named = self._named(response, self._source)
        return {
            "id": named.id,
            "object": self.object_name,
            "created": named.created,
            "model": named.model,
            "choices": [self._choice(pieces, reader, reader.finish_reason(response))],
            "usage": chat_usage(response.get("usage")),
            "service_tier": response.get("service_tier"),
            "system_fingerprint": None,
        }

    def fail(self, failure: Failure) -> bytes:
        """The error body; nothing has been sent before it."""
        return errors.body(failure)

    @abstractmethod
    def _choice(self, pieces: Pieces, reader: Reader, finish_reason: str) -> dict[str, Any]: ...


class ChatObject(WholeObject):
    """A chat completion."""

    prefix = "chatcmpl-"
    object_name = "chat.completion"

    def _choice(self, pieces: Pieces, reader: Reader, finish_reason: str) -> dict[str, Any]:
        refusal = "".join(pieces.refusals) or None
        content: str | None = "".join(pieces.texts)
        if not content and (refusal or pieces.calls):
            content = None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content,
            "refusal": refusal,
            "annotations": reader.citations(),
        }
        if pieces.thoughts:
            message["reasoning_content"] = "".join(pieces.thoughts)
        if self._asked.legacy_functions:
            for call, arguments in pieces.calls:
                message["function_call"] = {"name": call.name, "arguments": "".join(arguments)}
        elif pieces.calls:
            message["tool_calls"] = [_tool_call(call, "".join(texts)) for call, texts in pieces.calls]
        return {"index": self._index, "message": message, "logprobs": None, "finish_reason": finish_reason}


def merge(completions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One object of several, for a client that asked for several choices: all choices, the usage added up."""
    choices = sorted(
        (choice for one in completions for choice in one["choices"]), key=lambda c: int(c["index"])
    )
    return {**completions[0], "choices": choices, "usage": total(one["usage"] for one in completions)}


def _tool_call(call: Call, text: str) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": text}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": text}}
