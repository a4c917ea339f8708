"""What the client of a stream has been told, and the telling.

The backend may skip events, repeat them, or say everything in the last one. The view knows which items and parts the
client has heard of and which texts it has had, and writes what is missing before it passes anything on.

The rules: `response.created` first and once; an item is added once, at the next free index, and done once, under the
same identity; a part is added before its deltas; sequence numbers rise.
"""

from __future__ import annotations

from typing import Any

from addon.protocol import output_items, sse
from addon.protocol.aggregate import Aggregate
from addon.protocol.asked import Asked
from addon.protocol.parts import OUTPUT_TEXT, Kind, Part, kind_of_call, texts
from addon.protocol.slots import Slot
from addon.protocol.sse import Frame

ADDED = "response.output_item.added"
DONE = "response.output_item.done"

_WITH_LOGPROBS = frozenset({f"{OUTPUT_TEXT.event}.delta", f"{OUTPUT_TEXT.event}.done"})

Key = tuple[str, int]


class _Item:
    """What the client knows of one item.

    parts: the client's number of each part. behind: parts it has had no delta of. said: texts of which all is told.
    closed: parts whose end is told.
    """

    __slots__ = ("behind", "closed", "done", "parts", "said")

    def __init__(self) -> None:
        self.parts: dict[Key, int] = {}
        self.behind: set[Key] = set()
        self.said: set[Key] = set()
        self.closed: set[Key] = set()
        self.done = False


class ClientView:
    """The client's side of one stream. What is written collects until `taken`."""

    def __init__(self, asked: Asked, aggregate: Aggregate) -> None:
        self._asked = asked
        self._aggregate = aggregate
        self._items: dict[int, _Item] = {}
        self._out: list[bytes] = []
        self.last: Frame | None = None
        """The last frame that went to the client without being read, if it was the last of all."""
        self._next_number = 0
        self.created = False
        self.renumbering = False
        """Sequence numbers are the backend's until we add or hide an event; from then on they are ours."""

    def taken(self) -> bytes:
        """The bytes written since the last call."""
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

    def renumber(self) -> None:
        """From here on the sequence numbers are ours."""
        if self.renumbering:
            return
        self.renumbering = True
        if self.last is not None:
            self._count(self.last.json())

    def send(self, event: dict[str, Any], frame: Frame | None = None) -> bool:
        """Writes an event: as the bytes of its frame if nothing in it changed, which is then True."""
        if not self.created:
            self.created = True
            if event["type"] != "response.created":
                self.send({"type": "response.created", "response": self.skeleton()})
        if event["type"] in _WITH_LOGPROBS and not isinstance(event.get("logprobs"), list):
            event = {**event, "logprobs": []}
        if not self.renumbering and not self._count(event):
            self.renumber()
        if self.renumbering:
            event = {**event, "sequence_number": self._next_number}
            self._next_number += 1
        elif frame is not None and _is_unchanged(event, frame):
            self._out.append(frame.raw)
            return True
        self._out.append(sse.encode(event))
        return False

    def skeleton(self, status: str = "in_progress") -> dict[str, Any]:
        """The Response object of an answer that has no output yet."""
        return self._aggregate.view(self._asked, output=[], status=status)

    # Items

    def announced(self, slot: Slot) -> bool:
        """Announces the item if the client was not told of it. False if that must wait for more."""
        if slot.index is None and can_be_announced(slot):
            self.announce(slot)
        return slot.index is not None

    def announce(self, slot: Slot, event: dict[str, Any] | None = None, frame: Frame | None = None) -> None:
        """Tells the client of an item; its texts follow by events of their own."""
        slot.index = len(self._items)
        self._items[slot.order] = _Item()
        item = _without_texts(output_items.with_client_name(slot.item, self._asked.tool_names))
        if slot.done and "status" in item:
            item["status"] = "in_progress"
        self.send({**(event or {"type": ADDED}), "output_index": slot.index, "item": item}, frame)

    def finish(self, slot: Slot, event: dict[str, Any] | None = None, frame: Frame | None = None) -> None:
        """Tells the client whatever it has not been told of a finished item, and that it is finished."""
        if slot.type in output_items.CLIENT_CALLS and output_items.call_key(slot.item) is None:
            slot.item = {**slot.item, "call_id": output_items.new_id("call")}
        if slot.index is None:
            self.announce(slot)
        self._finish_texts(slot)
        self._items[slot.order].done = True
        slot.parts.clear()  # the item has the texts now; a long answer need not be kept twice
        item = output_items.with_client_name(slot.item, self._asked.tool_names)
        self.send({**(event or {"type": DONE}), "output_index": slot.index, "item": item}, frame)

    def finish_all(self) -> None:
        """Finishes every item that is done and visible and was not finished yet."""
        for slot in sorted(self._aggregate.slots, key=lambda slot: (slot.number, slot.order)):
            known = self._items.get(slot.order)
            if slot.done and not (known and known.done) and not self.hides(slot):
                self.finish(slot)

    def hides(self, slot: Slot) -> bool:
        """True for an item the client must not see."""
        return output_items.is_hidden(slot.item, self._asked.anchored)

    # Texts

    def ready(self, slot: Slot, part: Part) -> bool:
        """Makes sure the client knows of item and part. False if the item has to wait until it is done."""
        if not self.announced(slot):
            return False
        if part.key not in self._items[slot.order].parts:
            self.add_part(slot, part)
        return True

    def knows_part(self, slot: Slot, key: Key) -> bool:
        """True if the client was told of this part."""
        return slot.order in self._items and key in self._items[slot.order].parts

    def add_part(
        self, slot: Slot, part: Part, event: dict[str, Any] | None = None, frame: Frame | None = None
    ) -> None:
        """Tells the client of a part, empty as yet."""
        known = self._items[slot.order]
        known.parts[part.key] = sum(name in part.kind.siblings for name, _ in known.parts)
        known.behind.add(part.key)
        if part.kind.part_event is None:
            return
        body = {**part.body, part.kind.member: ""}
        if event is not None:
            given = event["part"]
            body = given if given.get(part.kind.member) == "" else {**body, **given, part.kind.member: ""}
        event = event or {"type": f"{part.kind.part_event}.added"}
        self.send({**self.placed(event, slot, part), "part": body}, frame)

    def add_unknown_part(self, slot: Slot, key: Key, event: dict[str, Any], frame: Frame) -> None:
        """Passes on a part of a kind we do not know; it takes a number all the same."""
        known = self._items[slot.order]
        known.parts[key] = len(known.parts)
        self.send({**self.placed(event, slot), "content_index": known.parts[key]}, frame)

    def delta(self, slot: Slot, part: Part, event: dict[str, Any], frame: Frame) -> bool:
        """Passes on a delta the aggregate has already taken. True if it went as it came."""
        known = self._items[slot.order]
        if part.key in known.said:
            return False
        if part.key in known.behind and part.deltas != event["delta"]:
            self._tell(slot, part, part.deltas)
            return False
        known.behind.discard(part.key)
        return self.send(self.placed(event, slot, part), frame)

    def text_done(
        self,
        slot: Slot,
        part: Part,
        text: str,
        event: dict[str, Any] | None = None,
        frame: Frame | None = None,
    ) -> None:
        """Tells the client that a text is complete, and before that what it has not had of it."""
        known = self._items[slot.order]
        if part.key in known.said:
            return
        self._tell(slot, part, text)
        known.said.add(part.key)
        event = event or {"type": f"{part.kind.event}.done"}
        name = {"name": slot.item["name"]} if slot.type == "function_call" and "name" in slot.item else {}
        changed = {**self.placed({**event, **name}, slot, part), part.kind.member: text}
        self.send(output_items.with_client_name(changed, self._asked.tool_names), frame)

    def part_done(
        self, slot: Slot, part: Part, event: dict[str, Any] | None = None, frame: Frame | None = None
    ) -> None:
        """Tells the client that a part is complete."""
        known = self._items[slot.order]
        if part.key in known.closed or part.kind.part_event is None:
            return
        self.text_done(slot, part, part.text)
        known.closed.add(part.key)
        body = part.body
        if event is not None:
            body = {**body, **event["part"], part.kind.member: part.text}
        event = event or {"type": f"{part.kind.part_event}.done"}
        self.send({**self.placed(event, slot, part), "part": body}, frame)

    def placed(self, event: dict[str, Any], slot: Slot, part: Part | None = None) -> dict[str, Any]:
        """The event with the client's numbers and id of what it is about."""
        result = {**event, "output_index": slot.index}
        if part is not None or "item_id" in event:
            result["item_id"] = slot.item["id"]
        if part is not None and part.kind.index is not None:
            result[part.kind.index] = self._items[slot.order].parts[part.key]
        return result

    def _finish_texts(self, slot: Slot) -> None:
        """Every text of the finished item that was not told to its end; the item's own text is what counts."""
        seen: dict[Kind, int] = {}
        for kind, text in texts(slot.item):
            rank = seen.get(kind, 0)
            seen[kind] = rank + 1
            numbers = sorted(number for name, number in slot.parts if name == kind.name)
            number = numbers[rank] if rank < len(numbers) else max(numbers, default=-1) + 1
            if not text and (kind.name, number) not in slot.parts:
                continue
            part = slot.part(kind, number)
            part.final = text
            self.ready(slot, part)
            self.text_done(slot, part, text)
            self.part_done(slot, part)

    def _tell(self, slot: Slot, part: Part, text: str) -> None:
        """Sends as one delta what the client has not had; nothing if its deltas went another way than the text."""
        known = self._items[slot.order]
        said = "" if part.key in known.behind else part.deltas
        known.behind.discard(part.key)
        if len(text) > len(said) and text.startswith(said):
            delta = {"type": f"{part.kind.event}.delta", "delta": text[len(said) :]}
            self.send(self.placed(delta, slot, part))

    def _count(self, event: dict[str, Any]) -> bool:
        """Notes the number of an event that keeps it; False if it has none."""
        number = event.get("sequence_number")
        if not isinstance(number, int) or isinstance(number, bool):
            return False
        self._next_number = number + 1
        self.last = None
        return True


def _is_unchanged(event: dict[str, Any], frame: Frame) -> bool:
    return frame.has_event_line and frame.type == event["type"] and event == frame.json()


def can_be_announced(slot: Slot) -> bool:
    """A call is told only with its name and call id: the SDKs keep those of the first event."""
    if slot.type not in output_items.CLIENT_CALLS:
        return True
    named = kind_of_call(slot.type) is None or isinstance(slot.item.get("name"), str)
    return named and output_items.call_key(slot.item) is not None


def _without_texts(item: dict[str, Any]) -> dict[str, Any]:
    """The item as it is before its first delta."""
    call = kind_of_call(item["type"])
    if call is not None:
        return {**item, call.member: ""}
    return {name: [] if name in ("content", "summary") and value else value for name, value in item.items()}
