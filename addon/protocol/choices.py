"""Several answers of the backend as one answer of an older API: `n` choices, or a choice for each prompt.

Each choice is written by an output of its own that knows its place; what stands once in the client's answer (the id,
the usage, the end) is written here. The backend knows no `n`, so n choices are n generations.

The rule: every choice bears the same name, and the end comes after the last of them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from addon.protocol.asked import Asked
from addon.protocol.chat_ids import AnswerName
from addon.protocol.chat_object import ChatObject, WholeObject, merge
from addon.protocol.chat_stream import ChatStream
from addon.protocol.chunks import DONE, ChunkStream
from addon.protocol.completions import CompletionObject, CompletionStream
from addon.protocol.failure import Failure
from addon.protocol.output import Output
from addon.protocol.sse import Frame
from addon.protocol.usage_map import total


class Choices(Protocol):
    """The outputs of several answers, and what makes one of them."""

    @property
    def outputs(self) -> Sequence[Output]:
        """One for each answer."""

    def join(self) -> bytes:
        """When all are whole: the trailer of a stream, or the whole JSON body. Raises Refused."""


class Choice:
    """One choice of a stream: it ends without ending the stream."""

    stream = True

    def __init__(self, chunks: ChunkStream) -> None:
        self.chunks = chunks

    @property
    def done(self) -> bool:
        return self.chunks.done

    @property
    def response(self) -> dict[str, Any] | None:
        return self.chunks.response

    @property
    def items(self) -> list[dict[str, Any]]:
        return self.chunks.items

    @property
    def hidden(self) -> list[tuple[list[dict[str, Any]], dict[str, Any] | None]]:
        return self.chunks.hidden

    def feed(self, frame: Frame) -> bytes:
        return self.chunks.feed(frame)

    def finish(self) -> bytes:
        return self.chunks.close_choice()

    def fail(self, failure: Failure) -> bytes:
        return self.chunks.fail(failure)


class StreamedChoices:
    """The choices of a client that asked for a stream; their chunks come in any order."""

    def __init__(self, asked: Asked, count: int) -> None:
        kind = CompletionStream if asked.api == "completions" else ChatStream
        known = _shared_name(asked, kind.prefix)
        self._outputs = [Choice(kind(asked, index=index, known=known)) for index in range(count)]

    @property
    def outputs(self) -> Sequence[Output]:
        return self._outputs

    def join(self) -> bytes:
        streams = [choice.chunks for choice in self._outputs]
        return streams[0].usage_chunk(total(stream.usage for stream in streams)) + DONE


class WholeChoices:
    """The choices of a client that asked for an object."""

    def __init__(self, asked: Asked, count: int) -> None:
        kind: type[WholeObject] = CompletionObject if asked.api == "completions" else ChatObject
        known = _shared_name(asked, kind.prefix)
        self._outputs = [kind(asked, index=index, known=known) for index in range(count)]

    @property
    def outputs(self) -> Sequence[Output]:
        return self._outputs

    def join(self) -> bytes:
        return orjson.dumps(merge([output.completion() for output in self._outputs]))


def choices(asked: Asked, count: int) -> Choices:
    """`count` choices in the form the client wants."""
    return (StreamedChoices if asked.stream else WholeChoices)(asked, count)


def _shared_name(asked: Asked, prefix: str) -> AnswerName:
    return AnswerName(prefix + uuid.uuid4().hex, int(time.time()), asked.model or "")
