"""An answer of the real API, which goes to the client as it came.

It is only looked at, for what is noted about an answer: its usage, its items, the Response object for the store. What
cannot be understood is not noted.

The rule: looking never fails, holds nothing back and changes nothing.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from addon.protocol.failure import Failure, ProtocolError
from addon.protocol.output import Output
from addon.protocol.sse import Decoder, Frame

NOTED: Final = 16 * 2**20
"""Bytes of a whole answer that are kept for a look at its end; images are larger, and their usage is not counted."""
_TERMINAL: Final = frozenset({"response.completed", "response.incomplete"})


class Verbatim:
    """An Output that lets bytes through; `instead` writes the failure of an answer that breaks off."""

    def __init__(self, instead: Output) -> None:
        self.stream = instead.stream
        self.done = False
        self.response: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = None
        self.items: list[dict[str, Any]] = []
        self.hidden: list[tuple[list[dict[str, Any]], dict[str, Any] | None]] = []
        self._instead = instead
        self._decoder: Decoder | None = Decoder() if instead.stream else None
        self._whole = bytearray()

    def saw(self, data: bytes) -> None:
        """These bytes are on their way to the client; b"" is the end."""
        if self._decoder:
            try:
                for frame in self._decoder.feed(data) if data else self._decoder.close():
                    self.feed(frame)
            except ProtocolError:
                self._decoder = None
        elif not self.stream and len(self._whole) + len(data) <= NOTED:
            self._whole += data
        if not data:
            self.done = True
            if self._whole:
                self._note(_object(bytes(self._whole)))
                self._whole.clear()

    def feed(self, frame: Frame) -> bytes:
        """The frame as it came."""
        if frame.type in _TERMINAL:
            self._note(frame.json().get("response"))
        elif b'"usage"' in frame.data and not frame.type:
            self._note_usage(frame.json())
        return frame.raw

    def finish(self) -> bytes:
        """Nothing: the end came with the rest."""
        return b""

    def fail(self, failure: Failure) -> bytes:
        """The end of an answer that broke off, as it would be of any other."""
        return self._instead.fail(failure)

    def _note(self, answer: object) -> None:
        if not isinstance(answer, dict):
            return
        self._note_usage(answer)
        output = answer.get("output")
        if answer.get("object") == "response" and isinstance(output, list):
            self.response = answer
            self.items = [item for item in output if isinstance(item, dict)]

    def _note_usage(self, answer: dict[str, Any]) -> None:
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self.usage = usage


def usage_of(output: Output) -> dict[str, Any] | None:
    """The `usage` of a whole answer, in the words of its API; None if it names none."""
    if isinstance(output, Verbatim):
        return output.usage
    usage = (output.response or {}).get("usage")
    return usage if isinstance(usage, dict) else None


def _object(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
