"""The texts an answer streams: which events carry which, and a text that is being collected.

Six kinds of text arrive in pieces (answer, refusal, two of reasoning, two of tool calls), each with a delta event, a
done event and a place inside an item. One table says so; aggregation and repair read it instead of naming events.

The rule: the text of a done event replaces what the deltas said, and an item's own text replaces both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from addon.protocol.failure import ProtocolError

CONTENT_PART = "response.content_part"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of streamed text.

    name: type of the content part, or the item's member for a call's text. item: type of the item that holds it.
    event: its events without `.delta` and `.done`. index: the event's member that says which part, None for the only
    one. member: where the done event and the part hold the text. part_event: prefix of the events that open and close
    the part, None if there are none.
    """

    name: str
    item: str
    event: str
    index: str | None
    member: str
    part_event: str | None

    @property
    def siblings(self) -> frozenset[str]:
        """Names of the kinds that are counted together: summaries apart from everything else in an item."""
        return frozenset({self.name}) if self.name == "summary_text" else _COUNTED_TOGETHER

    @property
    def in_calls(self) -> bool:
        """True for the text of a tool call, which is a member of the item itself."""
        return self.index is None


OUTPUT_TEXT = Kind("output_text", "message", "response.output_text", "content_index", "text", CONTENT_PART)
REFUSAL = Kind("refusal", "message", "response.refusal", "content_index", "refusal", CONTENT_PART)
REASONING = Kind("reasoning_text", "reasoning", "response.reasoning_text", "content_index", "text", None)
SUMMARY = Kind(
    "summary_text",
    "reasoning",
    "response.reasoning_summary_text",
    "summary_index",
    "text",
    "response.reasoning_summary_part",
)
ARGUMENTS = Kind("arguments", "function_call", "response.function_call_arguments", None, "arguments", None)
CUSTOM_INPUT = Kind("input", "custom_tool_call", "response.custom_tool_call_input", None, "input", None)

_COUNTED_TOGETHER = frozenset({"output_text", "refusal", "reasoning_text"})
KINDS = (OUTPUT_TEXT, REFUSAL, REASONING, SUMMARY, ARGUMENTS, CUSTOM_INPUT)
DELTAS = {f"{kind.event}.delta": kind for kind in KINDS}
DONES = {f"{kind.event}.done": kind for kind in KINDS}
_BY_PART = {kind.name: kind for kind in KINDS if not kind.in_calls}
_IN_ITEM = {kind.item: kind for kind in KINDS if kind.in_calls}


@dataclass(slots=True)
class Part:
    """One text while it arrives. `number` is its place as the backend counts, `final` the text of its done event."""

    kind: Kind
    number: int
    final: str | None = None
    annotations: list[Any] = field(default_factory=list)
    _pieces: list[str] = field(default_factory=list)
    _escaped: bytearray = field(default_factory=bytearray)

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from the other texts of its item."""
        return (self.kind.name, self.number)

    def add(self, delta: str) -> None:
        """Appends a delta."""
        self._unescape()
        self._pieces.append(delta)

    def add_escaped(self, delta: bytes) -> None:
        """Appends a delta as the inside of a JSON string, escapes and all; it is read when the text is needed."""
        self._escaped += delta

    @property
    def deltas(self) -> str:
        """What the deltas said so far."""
        self._unescape()
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def text(self) -> str:
        """The text as far as it is known."""
        return self.deltas if self.final is None else self.final

    @property
    def body(self) -> dict[str, Any]:
        """The content part with this text, in the form the Response object has."""
        body: dict[str, Any] = {"type": self.kind.name}
        if self.kind is OUTPUT_TEXT:
            body |= {"annotations": list(self.annotations), "logprobs": []}
        return body | {self.kind.member: self.text}

    def _unescape(self) -> None:
        # JSON string contents can be joined like the strings they stand for. The standard parser is used because it
        # takes what the strict one refuses: half a surrogate pair, control characters.
        if self._escaped:
            inside = self._escaped.decode("utf-8", "replace")
            self._escaped.clear()
            try:
                self._pieces.append(json.loads(f'"{inside}"', strict=False))
            except ValueError as error:
                raise ProtocolError("The backend sent text that is not valid JSON.") from error


def kind_of_part(part: dict[str, Any]) -> Kind | None:
    """The kind of a content part, None for parts that are not streamed as text."""
    name = part.get("type")
    return _BY_PART.get(name) if isinstance(name, str) else None


def kind_of_call(item_type: str) -> Kind | None:
    """The kind of text that calls of this type stream."""
    return _IN_ITEM.get(item_type)


def texts(item: dict[str, Any]) -> list[tuple[Kind, str]]:
    """Every text in an item, in the order in which it would have been streamed."""
    call = kind_of_call(item["type"])
    if call is not None:
        return [(call, _string(item.get(call.member)))]
    found: list[tuple[Kind, str]] = []
    for member in ("summary", "content"):
        for part in _parts(item.get(member)):
            kind = kind_of_part(part)
            if kind is not None and kind.item == item["type"]:
                found.append((kind, _string(part.get(kind.member))))
    return found


def fill(item: dict[str, Any], parts: list[Part]) -> dict[str, Any]:
    """The item with the streamed texts, where it has none of its own. The argument is left alone."""
    call = kind_of_call(item["type"])
    if call is not None:
        if not item.get(call.member) and parts:
            return {**item, call.member: parts[0].text}
        return item
    filled = dict(item)
    for member, kinds in (("summary", (SUMMARY,)), ("content", (OUTPUT_TEXT, REFUSAL, REASONING))):
        streamed = [part for part in parts if part.kind in kinds and part.text]
        if streamed and not any(
            _string(part.get(kind.member))
            for part in _parts(item.get(member))
            if (kind := kind_of_part(part)) is not None
        ):
            filled[member] = [part.body for part in sorted(streamed, key=lambda part: part.number)]
    return filled


def _parts(value: object) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
