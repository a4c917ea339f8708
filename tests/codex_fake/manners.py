"""How the stream leaves: the rudeness of the real backend as switches, and the encoding of events.

The defaults are what was seen on the real service: no content type, an empty `output` in the terminal event,
`codex.*` events before the first one. Everything here changes form only; what is said is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from .quota import Quota

Json = dict[str, Any]

TERMINAL = frozenset(
    {"response.completed", "response.done", "response.incomplete", "response.failed", "error"}
)


@dataclass(slots=True)
class Manners:
    """Switches; `chunk` is the number of bytes per write (None = one event per write)."""

    content_type: str | None = None
    event_lines: bool = True
    crlf: bool = False
    bom: bool = False
    chunk: int | None = None
    comments: bool = False  # a `: keep-alive` line before each event
    codex_events: Literal["none", "first", "mixed"] = "first"
    output: Literal["empty", "null", "missing", "full"] = "empty"
    sequence_numbers: bool = True
    terminal: Literal["response.completed", "response.done"] = "response.completed"
    done_marker: bool = False
    headers: bool = True  # quota headers, cookies and the like on every answer

    def dress(
        self, events: Iterable[Json], quota: Quota, now: float, reached: bool, etag: str
    ) -> Iterator[Json]:
        """The events as they leave: `codex.*` events mixed in, the terminal event as bare as configured."""
        metadata = {"type": "codex.response.metadata", "headers": {"x-models-etag": etag}}
        if self.codex_events != "none":
            yield quota.event(now, reached=reached)
            yield metadata
        for event in events:
            yield self._bare(event)
            if self.codex_events == "mixed" and event["type"] in (
                "response.created",
                "response.output_item.added",
            ):
                yield metadata

    def _bare(self, event: Json) -> Json:
        response = event.get("response")
        if event["type"] in ("response.completed", "response.incomplete") and response is not None:
            kept = {name: value for name, value in response.items() if name != "output"}
            if self.output != "missing":
                kept["output"] = {"empty": [], "null": None, "full": response.get("output")}[self.output]
            kind = self.terminal if event["type"] == "response.completed" else event["type"]
            event = {**event, "type": kind, "response": kept}
        if not self.sequence_numbers:
            event = {name: value for name, value in event.items() if name != "sequence_number"}
        return event

    def encode(self, event: Json) -> bytes:
        """One SSE frame."""
        data = orjson.dumps(event)
        name = f"event: {event['type']}\n".encode() if self.event_lines and "type" in event else b""
        comment = b": keep-alive\n\n" if self.comments else b""
        frame = b"%s%sdata: %s\n\n" % (comment, name, data)
        return frame.replace(b"\n", b"\r\n") if self.crlf else frame

    def split(self, frame: bytes) -> Iterator[bytes]:
        """A frame in the pieces it is written in."""
        if self.chunk is None:
            yield frame
            return
        for start in range(0, len(frame), self.chunk):
            yield frame[start : start + self.chunk]
