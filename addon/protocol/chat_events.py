"""Responses events, read as what a chat client can be shown.

The Responses API streams items with parts inside; chat has one message with text, a refusal, thoughts and
tool calls. `Reader` turns the first into the second and tells a `Sink`, piece by piece: the stream writes each
piece as a chunk, the object collects them. What an event means for which item is the aggregate's to say; the
reader only knows what the sink was told of each item. So an answer reads the same however it was asked for.

The rule of this file: text is never lost and never said twice. Deltas, done events, finished items and the
final response all repeat the same text; the reader tells what is new in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from addon.protocol.aggregate import Aggregate, Slot
from addon.protocol.asked import Asked
from addon.protocol.parts import CUSTOM_INPUT, DELTAS, OUTPUT_TEXT, REFUSAL, Kind, kind_of_call, kind_of_part
from addon.protocol.sse import Frame
from addon.protocol.stop_text import StopCutter

_GAP = "\n\n"


@dataclass(slots=True)
class Call:
    """A tool call the client sees. index: its place among them, from 0 without gaps."""

    index: int
    id: str
    name: str
    custom: bool


class Sink(Protocol):
    """Where the pieces go. No piece is empty."""

    def text(self, piece: str, /) -> None: ...

    def refusal(self, piece: str, /) -> None: ...

    def reasoning(self, piece: str, /) -> None: ...

    def call(self, call: Call, /) -> None:
        """A call begins; told once, before any of its arguments."""

    def arguments(self, call: Call, piece: str, /) -> None: ...


@dataclass(slots=True)
class _Told:
    """What the sink was told of one item: the pieces of each text by kind and index.

    offsets: where each text stands in the client's content (characters). wrapped: the item is a custom call
    whose input has to become a function's arguments.
    """

    slot: Slot
    pieces: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    call: Call | None = None
    wrapped: bool = False
    finished: bool = False

    def of(self, kind: Kind) -> str:
        """All that was told of that kind."""
        return "".join("".join(pieces) for (name, _), pieces in self.pieces.items() if name == kind.name)


class Reader:
    """Reads one answer out of its aggregate. `calls` are the tool calls the client sees, in order."""

    def __init__(self, asked: Asked, sink: Sink, aggregate: Aggregate) -> None:
        self._asked = asked
        self._sink = sink
        self._aggregate = aggregate
        self._cutter = StopCutter(asked.stop) if asked.stop else None
        self._told: dict[int, _Told] = {}
        self._length = 0
        self._shown = 0
        self._speaking: _Told | None = None
        self._thinking: list[str] | None = None
        self.calls: list[Call] = []

    def feed(self, frame: Frame) -> None:
        """Applies one event to the aggregate and tells what is new. Raises ProtocolError like the aggregate."""
        kind = frame.type
        event = frame.json()
        touched = self._aggregate.apply(kind, event)
        if touched is None:
            return
        slot, part = touched
        told = self._of(slot)
        if part is not None and kind in DELTAS:
            self._tell(told, part.kind, part.number, event["delta"])
        elif slot.done:
            self._complete(told)
        elif part is not None:
            before = told.pieces.get((part.kind.name, part.number), [])
            self._tell_texts(told, part.kind, [(part.number, part.text)], before)
        else:
            self._announce(told)

    def finish(self) -> None:
        """Tells what the finished answer holds and no event told."""
        for slot in sorted(self._aggregate.slots, key=lambda slot: (slot.number, slot.order)):
            if slot.done:
                self._complete(self._of(slot))
        self.flush()

    def flush(self) -> None:
        """Tells the text that was held back because a stop sequence might have begun in it."""
        if self._cutter is not None:
            self._show(self._cutter.flush())

    def finish_reason(self, response: dict[str, Any]) -> str:
        """Why the answer ended, in chat's words."""
        if self._cutter is not None and self._cutter.hit and not self.calls:
            return "stop"
        if response.get("status") == "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else None
            return "content_filter" if reason == "content_filter" else "length"
        if self.calls:
            return "function_call" if self._asked.legacy_functions else "tool_calls"
        return "stop"

    def citations(self) -> list[dict[str, Any]]:
        """The web pages cited, placed in the content as the client sees it; none in text that was cut."""
        found = []
        for told in self._told.values():
            for at, part in _numbered(told.slot.item.get("content")):
                for _, note in _numbered(part.get("annotations")):
                    citation = _citation(note, told.offsets.get(at, 0))
                    if citation is not None and citation["url_citation"]["end_index"] <= self._shown:
                        found.append(citation)
        return found

    # Telling the sink

    def _of(self, slot: Slot) -> _Told:
        told = self._told.get(slot.order)
        if told is None:
            told = self._told[slot.order] = _Told(slot)
        return told

    def _tell(self, told: _Told, kind: Kind, at: int, piece: str) -> None:
        """Tells a piece of a text."""
        if not piece:
            return
        pieces = told.pieces.get((kind.name, at))
        if pieces is None:
            pieces = told.pieces[kind.name, at] = []
        if kind is OUTPUT_TEXT:
            if told is not self._speaking:
                if self._length:
                    self._say(_GAP)
                self._speaking = told
            if not pieces:
                told.offsets[at] = self._length
            pieces.append(piece)
            self._say(piece)
            return
        pieces.append(piece)
        if kind is REFUSAL:
            self._sink.refusal(piece)
        elif kind.in_calls:
            if told.call is not None and not told.wrapped:
                self._sink.arguments(told.call, piece)
        elif self._asked.expose_reasoning:
            if pieces is not self._thinking and self._thinking is not None:
                self._sink.reasoning(_GAP)
            self._thinking = pieces
            self._sink.reasoning(piece)

    def _tell_texts(
        self, told: _Told, kind: Kind, texts: list[tuple[int, str]], pieces: list[str] | None = None
    ) -> None:
        """Tells what is new in texts (by index) that stand whole now.

        Where the pieces told before say something else, nobody can take them back; only texts of which nothing
        was told are new then. pieces: what was told of these texts, by default all of the kind.
        """
        before = told.of(kind) if pieces is None else "".join(pieces)
        known = len(before) if "".join(text for _, text in texts).startswith(before) else None
        for at, text in texts:
            if known is not None:
                self._tell(told, kind, at, text[known:])
                known = max(0, known - len(text))
            elif (kind.name, at) not in told.pieces:
                self._tell(told, kind, at, text)

    def _say(self, piece: str) -> None:
        self._length += len(piece)
        self._show(piece if self._cutter is None else self._cutter.feed(piece))

    def _show(self, piece: str) -> None:
        if piece:
            self._shown += len(piece)
            self._sink.text(piece)

    def _announce(self, told: _Told, spare_id: str | None = None) -> None:
        """Tells that a call begins, once its name and id are known. spare_id: for a call that has none."""
        item = told.slot.item
        kind = kind_of_call(told.slot.type)
        if kind is None or told.call is not None or (self._asked.legacy_functions and self.calls):
            return
        name, call_id = item.get("name"), item.get("call_id") or spare_id
        if not (isinstance(name, str) and name and isinstance(call_id, str)):
            return
        custom = kind is CUSTOM_INPUT and name in self._asked.custom_tools
        told.call = Call(len(self.calls), call_id, self._asked.tool_names.get(name, name), custom)
        told.wrapped = kind is CUSTOM_INPUT and not custom
        self.calls.append(told.call)
        self._sink.call(told.call)
        early = told.of(kind)
        if early and not told.wrapped:
            self._sink.arguments(told.call, early)

    def _complete(self, told: _Told) -> None:
        """Tells the rest of a finished item."""
        item = told.slot.item
        call = kind_of_call(told.slot.type)
        if call is not None:
            self._announce(told, spare_id=f"call_{len(self.calls)}")
            self._tell_texts(told, call, [(0, item[call.member])])
            if told.wrapped and told.call is not None and not told.finished:
                # The client declared no such tool: to it this is a function with one argument.
                self._sink.arguments(told.call, orjson.dumps({"input": told.of(call)}).decode())
        for kind, texts in _texts(item).items():
            self._tell_texts(told, kind, texts)
        told.finished = True


def _texts(item: dict[str, Any]) -> dict[Kind, list[tuple[int, str]]]:
    """The texts in the parts of an item by kind, each with its index."""
    found: dict[Kind, list[tuple[int, str]]] = {}
    for member in ("summary", "content"):
        for at, part in _numbered(item.get(member)):
            kind = kind_of_part(part)
            text = part.get(kind.member) if kind is not None and kind.item == item["type"] else None
            if kind is not None and isinstance(text, str):
                found.setdefault(kind, []).append((at, text))
    return found


def _numbered(parts: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for at, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, dict):
            yield at, part


def _citation(note: dict[str, Any], offset: int) -> dict[str, Any] | None:
    """A url citation as chat writes it, moved to where its text stands; None for other annotations."""
    if note.get("type") != "url_citation":
        return None
    start, end = note.get("start_index"), note.get("end_index")
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end):
        return None
    return {
        "type": "url_citation",
        "url_citation": {
            "start_index": start + offset,
            "end_index": end + offset,
            "title": note.get("title") or "",
            "url": note.get("url") or "",
        },
    }
