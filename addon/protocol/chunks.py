"""What the streams of the two older APIs have in common: chunks without `event:` lines, ended by `[DONE]`.

A chunk is mostly the same bytes again and again, so its two ends are made once and only the piece between
them is serialised.

The rule of this file: an answer that broke off ends with an error and without `[DONE]`, so that nobody takes
half an answer for a whole one; the usage chunk has no choices and comes only when asked for.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import orjson

from addon.protocol import errors
from addon.protocol.asked import Asked
from addon.protocol.chat_events import Call, Reader
from addon.protocol.chat_ids import AnswerName, NamedAnswer
from addon.protocol.errors import Failure
from addon.protocol.sse import Frame
from addon.protocol.usage_map import chat_usage

DONE = b"data: [DONE]\n\n"


class ChunkStream(NamedAnswer, ABC):
    """Frames in, chunks out (the Output protocol); the Sink of its own Reader."""

    stream = True

    def __init__(
        self,
        asked: Asked,
        *,
        index: int = 0,
        known: AnswerName | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(asked, index=index, known=known, clock=clock)
        self._reader = Reader(asked, self, self._aggregate)
        self._out: list[bytes] = []
        self._head = b""
        self._tail = b""

    @property
    def usage(self) -> dict[str, Any] | None:
        """The answer's token counts in chat's words; None before the end or if the backend named none."""
        return chat_usage((self.response or {}).get("usage"))

    def feed(self, frame: Frame) -> bytes:
        """The chunks for one event. Raises ProtocolError if the answer cannot be made sense of."""
        if self.done or not frame.type.startswith("response."):
            return b""
        if not self._head:
            self._open(frame)
        self._reader.feed(frame)
        if self._aggregate.terminal is not None:
            self._conclude()
            self._reader.finish()
        return self._take()

    def finish(self) -> bytes:
        """The end of a whole answer: finish reason, usage if asked for, `[DONE]`."""
        if not self.done:
            return self.fail(errors.network("cut"))
        return self.close_choice() + self.usage_chunk(self.usage) + DONE

    def close_choice(self) -> bytes:
        """The last chunks of this choice alone."""
        self._close(self.response or {})
        return self._take()

    def usage_chunk(self, usage: dict[str, Any] | None) -> bytes:
        """The chunk that carries only the usage; nothing if it was not asked for or is not known."""
        if not self._asked.include_usage or usage is None:
            return b""
        return b"data: " + orjson.dumps({**self._frame(), "choices": [], "usage": usage}) + b"\n\n"

    def fail(self, failure: Failure) -> bytes:
        """The end of an answer that broke off: what text was held back, and an error no SDK overlooks."""
        self._reader.flush()
        return self._take() + b"data: " + errors.body(failure) + b"\n\n"

    @abstractmethod
    def text(self, piece: str, /) -> None: ...

    @abstractmethod
    def refusal(self, piece: str, /) -> None: ...

    @abstractmethod
    def reasoning(self, piece: str, /) -> None: ...

    @abstractmethod
    def call(self, call: Call, /) -> None: ...

    @abstractmethod
    def arguments(self, call: Call, piece: str, /) -> None: ...

    @abstractmethod
    def _ends(self) -> tuple[bytes, bytes]:
        """What stands in the choice before and after the piece that changes."""

    @abstractmethod
    def _close(self, response: dict[str, Any]) -> None:
        """Writes the last chunks of the choice."""

    @abstractmethod
    def _begin(self) -> None:
        """Writes what comes before the first piece."""

    def _open(self, frame: Frame) -> None:
        """Fixes what every chunk repeats."""
        if self._name is None:
            self._named(frame.json().get("response"), frame.raw)
        before, after = self._ends()
        usage = b',"usage":null' if self._asked.include_usage else b""
        self._head = b"data: " + orjson.dumps(self._frame())[:-1] + b',"choices":[' + before
        self._tail = after + b"]" + usage + b"}\n\n"
        self._begin()

    def _last(self, choice: dict[str, Any], more: dict[str, Any]) -> None:
        """Writes the chunk with the finish reason."""
        usage = {"usage": None} if self._asked.include_usage else {}
        chunk = {**self._frame(), "choices": [choice], **usage, **more}
        self._out += (b"data: ", orjson.dumps(chunk), b"\n\n")

    def _frame(self) -> dict[str, Any]:
        named = self._name or AnswerName(self.prefix, int(self._clock()), self._asked.model or "")
        return {"id": named.id, "object": self.object_name, "created": named.created, "model": named.model}

    def _take(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out
