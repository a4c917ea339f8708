"""The event stream of one answer, aggregated into one Response object.

Events are applied one by one as they arrive; what is kept is the answer itself, never the bytes of the stream. An
answer is a row of *slots*, one per output item. The done event of an item is authoritative; the terminal event of the
backend often has an empty `output`, so the slots are the answer, and the terminal event's items only add to them.

Which slot an event means is decided here and nowhere else: by `output_index` and type while the item is open, else by
id. An item that is announced or finished twice is the same item.

The rule: no text that arrived is lost. Where the stream says "completed" but an item never was, that is a ProtocolError
and not half an answer.
"""

from __future__ import annotations

import time
from typing import Any

from addon.protocol import errors, output_items, response_object
from addon.protocol.asked import Asked
from addon.protocol.errors import Failure, ProtocolError
from addon.protocol.parts import (
    CONTENT_PART,
    DELTAS,
    DONES,
    OUTPUT_TEXT,
    Kind,
    kind_of_part,
)
from addon.protocol.slots import Slot, Touched
from addon.protocol.sse import Frame, dumps

__all__ = [
    "FAILURES",
    "LIFECYCLE",
    "TERMINAL",
    "Aggregate",
    "Aggregated",
    "ResponsesObject",
    "Slot",
    "Touched",
]

TERMINAL = frozenset({"response.completed", "response.done", "response.incomplete"})
FAILURES = frozenset({"response.failed", "error"})
"""Events that end an answer as a failure."""
LIFECYCLE = frozenset({"response.created", "response.in_progress", "response.queued"})


class Aggregate:
    """The state of one answer. `terminal` is the type of the event that ended it."""

    def __init__(self) -> None:
        self.response: dict[str, Any] = {}
        self.slots: list[Slot] = []
        self.terminal: str | None = None

    @property
    def items(self) -> list[dict[str, Any]]:
        """The finished output items as the backend made them, in its order."""
        return [slot.item for slot in self._ordered() if slot.done]

    def hidden(self, asked: Asked) -> list[tuple[list[dict[str, Any]], dict[str, Any] | None]]:
        """Runs of items the client does not see, each with the item after it (None at the end), for replay."""
        runs: list[tuple[list[dict[str, Any]], dict[str, Any] | None]] = []
        run: list[dict[str, Any]] = []
        for item in self.items:
            if output_items.is_hidden(item, asked.anchored):
                run.append(item)
            elif run:
                runs.append((run, output_items.with_client_name(item, asked.tool_names)))
                run = []
        if run:
            runs.append((run, None))
        return runs

    def feed(self, frame: Frame) -> None:
        """Applies one frame of the stream; comments and broken data say nothing.

        Raises ProtocolError on a failure event, and if the answer is declared complete while an item is not.
        """
        if frame.data:
            self.apply(frame.type, frame.json())

    def apply(self, kind: str, event: dict[str, Any]) -> Touched | None:
        """Applies one event. Returns what it was about, None if it says nothing (new) about any item.

        Raises ProtocolError like `feed`.
        """
        if kind in FAILURES:
            raise ProtocolError(errors.from_event(event, now=time.time()))
        if self.terminal is not None:
            return None
        if kind in DELTAS:
            return self._delta(DELTAS[kind], event)
        if kind in DONES:
            return self._text_done(DONES[kind], event)
        if kind in LIFECYCLE:
            self._keep(event)
        elif kind in TERMINAL:
            self._finish(kind, event)
        elif kind == "response.output_item.added":
            return self._added(event)
        elif kind == "response.output_item.done":
            return self._item_done(event)
        elif kind.startswith(("response.content_part.", "response.reasoning_summary_part.")):
            return self._part(kind, event)
        elif kind == "response.output_text.annotation.added":
            return self._annotation(event)
        elif isinstance(event.get("output_index"), int):
            slot = self._by_number(event["output_index"])
            return Touched(slot) if slot else None
        return None

    def result(self, asked: Asked) -> dict[str, Any]:
        """The Response object for the client: hidden items left out, its own names and wishes restored."""
        output = [
            output_items.with_client_name(slot.item, asked.tool_names)
            for slot in sorted(self.slots, key=_client_order)
            if slot.done and not output_items.is_hidden(slot.item, asked.anchored)
        ]
        status = "incomplete" if self.terminal == "response.incomplete" else "completed"
        return self.view(asked, output=output, status=status)

    def view(self, asked: Asked, *, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
        """The Response object with another output and status, always under the same id."""
        self.response = response_object.identified(self.response)
        return response_object.build(self.response, asked, output=output, status=status)

    def cut(self) -> None:
        """The answer ends here: what was not finished is incomplete."""
        for slot in self.slots:
            # A call without its id could be neither run nor answered.
            if not slot.done and (
                slot.type not in output_items.CLIENT_CALLS or output_items.call_key(slot.item)
            ):
                slot.close(slot.item, "incomplete")

    # Events

    def _keep(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        if isinstance(response, dict):
            first_id = self.response.get("id")
            self.response = {**self.response, **response}
            if first_id:
                self.response["id"] = first_id

    def _added(self, event: dict[str, Any]) -> Touched | None:
        item = output_items.normalise(event.get("item"))
        if item is None:
            return None
        number = _number(event, "output_index")
        slot = self._find(item["type"], number, item)
        if slot is None:
            slot = self._open(item, number)
        elif slot.done:
            return None
        else:
            # Announced before, perhaps by us from a delta that came too early: only what was unknown is news.
            slot.item = {**item, **{name: value for name, value in slot.item.items() if value}}
        return Touched(slot)

    def _item_done(self, event: dict[str, Any]) -> Touched | None:
        item = output_items.normalise(event.get("item"))
        if item is None:
            return None
        number = _number(event, "output_index")
        slot = self._find(item["type"], number, item)
        if slot is None:
            slot = self._open(item, number)
        elif slot.done:
            return None
        slot.close(item)
        return Touched(slot)

    def _delta(self, kind: Kind, event: dict[str, Any]) -> Touched | None:
        delta = event.get("delta")
        if not isinstance(delta, str):
            return None
        touched = self._text(kind, event)
        if touched and touched.part:
            touched.part.add(delta)
        return touched

    def _text_done(self, kind: Kind, event: dict[str, Any]) -> Touched | None:
        touched = self._text(kind, event)
        if touched and touched.part:
            text = event.get(kind.member)
            touched.part.final = text if isinstance(text, str) else touched.part.deltas
            if kind.in_calls and isinstance(event.get("name"), str):
                touched.slot.item.setdefault("name", event["name"])
        return touched

    def _text(self, kind: Kind, event: dict[str, Any]) -> Touched | None:
        """The slot and text an event of this kind means, opened if the backend did not announce them."""
        number = _number(event, "output_index")
        named = {"id": event.get("item_id"), "call_id": event.get("call_id")}
        slot = self._find(kind.item, number, named)
        if slot is None:
            item = output_items.normalise({"type": kind.item, "status": "in_progress"}) or {}
            item |= {name: value for name, value in named.items() if isinstance(value, str) and value}
            slot = self._open(item, number)
        elif slot.done:
            return None
        return Touched(slot, slot.part(kind, _number(event, kind.index) or 0 if kind.index else 0))

    def _part(self, name: str, event: dict[str, Any]) -> Touched | None:
        part = event.get("part")
        kind = kind_of_part(part) if isinstance(part, dict) else None
        if kind is None:
            slot = self._by_number(_number(event, "output_index")) if name.startswith(CONTENT_PART) else None
            return Touched(slot) if slot and not slot.done else None
        if not name.startswith(kind.part_event or CONTENT_PART):
            return None
        finished = name.endswith(".done")
        touched = self._text(kind, event)
        if touched and touched.part and isinstance(part, dict):
            text = part.get(kind.member)
            if finished and text and isinstance(text, str) and touched.part.final is None:
                touched.part.final = text
            elif not finished and text and isinstance(text, str) and not touched.part.deltas:
                touched.part.add(text)
            if isinstance(part.get("annotations"), list) and part["annotations"]:
                touched.part.annotations = list(part["annotations"])
        return touched

    def _annotation(self, event: dict[str, Any]) -> Touched | None:
        touched = self._text(OUTPUT_TEXT, event)
        if touched and touched.part and isinstance(event.get("annotation"), dict):
            touched.part.annotations.append(event["annotation"])
        return touched

    # The end

    def _finish(self, kind: str, event: dict[str, Any]) -> None:
        self._keep(event)
        output = self.response.get("output")
        if isinstance(output, list):
            items = [item for item in map(output_items.normalise, output) if item is not None]
            if len(items) >= len(self.slots):
                self._adopt(items)
        if kind == "response.incomplete":
            self.cut()
        else:
            self._settle()
        self.terminal = kind

    def _settle(self) -> None:
        for slot in self.slots:
            if slot.settled and not slot.done:
                slot.close(slot.item, "completed")
            elif not slot.done:
                raise ProtocolError(
                    f"The backend declared the answer complete but left a {slot.type} unfinished."
                )

    def _adopt(self, items: list[dict[str, Any]]) -> None:
        """Joins the items of the terminal event, of which there are not fewer than slots, to the slots."""
        free = list(self.slots)
        more = len(items) > len(self.slots)
        for number, item in enumerate(items):
            slot = next((slot for slot in free if slot.goes_by(item)), None) or next(
                (slot for slot in free if slot.number == number and slot.type == item["type"]), None
            )
            if slot is not None:
                free.remove(slot)
                if slot.done:
                    slot.item = output_items.reconcile(slot.item, item)
                else:
                    slot.close(item, "completed")
            elif more:
                self._open(item, number).close(item, "completed")

    # Slots

    def _open(self, item: dict[str, Any], number: int | None) -> Slot:
        if number is None:
            number = max((slot.number for slot in self.slots), default=-1) + 1
        kind, named = item["type"], item
        # Two items of one identity make the SDK's stream helper give up.
        if not output_items.item_key(item) or any(slot.item["id"] == item["id"] for slot in self.slots):
            item = {**item, "id": output_items.new_id(kind)}
        call_id = output_items.call_key(item)
        if call_id and kind in output_items.CLIENT_CALLS:
            twins = sum(call_id == slot.item.get("call_id") for slot in self.slots if slot.type == kind)
            if twins:
                item = {**item, "call_id": f"{call_id}_{twins}"}
        slot = Slot(item, number, len(self.slots))
        slot.name(named)
        self.slots.append(slot)
        return slot

    def _find(self, kind: str, number: int | None, named: dict[str, Any]) -> Slot | None:
        """The slot an event means: the open one at that index, else the one of that id, else the only open one."""
        known: Slot | None = None
        nameless = output_items.item_key(named) is None and output_items.call_key(named) is None
        for slot in reversed(self.slots):
            if slot.type != kind:
                continue
            if not slot.done and (slot.number == number or (number is None and nameless)):
                known = slot
                break
            if known is None and (slot.goes_by(named) or (slot.number == number and nameless)):
                known = slot
        if known is not None:
            known.name(named)
        return known

    def _by_number(self, number: int | None) -> Slot | None:
        return next((slot for slot in reversed(self.slots) if slot.number == number), None)

    def _ordered(self) -> list[Slot]:
        return sorted(self.slots, key=lambda slot: (slot.number, slot.order))


class Aggregated:
    """What all forms of an answer have in common, of the Output protocol: its state, and what is kept of it."""

    def __init__(self, asked: Asked) -> None:
        self.done = False
        self.response: dict[str, Any] | None = None
        self._asked = asked
        self._aggregate = Aggregate()

    @property
    def items(self) -> list[dict[str, Any]]:
        """All finished output items as the backend made them, hidden ones and encrypted reasoning too."""
        return self._aggregate.items

    @property
    def hidden(self) -> list[tuple[list[dict[str, Any]], dict[str, Any] | None]]:
        """See `Aggregate.hidden`."""
        return self._aggregate.hidden(self._asked)

    def _conclude(self) -> dict[str, Any]:
        """The terminal event was seen. Returns the final Response object."""
        self.done = True
        self.response = self._aggregate.result(self._asked)
        return self.response


class ResponsesObject(Aggregated):
    """The answer of `/v1/responses` for a client that did not ask for a stream: nothing until the end."""

    stream = False

    def feed(self, frame: Frame) -> bytes:
        """Takes one frame in; there is nothing to send yet. Raises ProtocolError."""
        self._aggregate.feed(frame)
        if self._aggregate.terminal is not None and not self.done:
            self._conclude()
        return b""

    def finish(self) -> bytes:
        """The JSON body. Raises ProtocolError if the stream ended without a terminal event."""
        if self.response is None:
            raise ProtocolError("The backend closed the stream before the answer was complete.")
        return dumps(self.response)

    def fail(self, failure: Failure) -> bytes:
        """The error body; nothing has been sent before it."""
        return errors.body(failure)


def _client_order(slot: Slot) -> tuple[int, int]:
    return (slot.number if slot.index is None else slot.index, slot.order)


def _number(event: dict[str, Any], member: str) -> int | None:
    value = event.get(member)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
