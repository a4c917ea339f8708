"""Slots: the output items of an answer while they arrive.

A slot begins as its item was announced, collects texts, and becomes what its done event says. Its identity (type, id,
call id) is the one it was announced with, for good.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from addon.protocol import output_items
from addon.protocol.parts import Kind, Part, fill, kind_of_call


class Slot:
    """One output item: `item` as it was announced, and once `done` as it is. `number` is the backend's index."""

    __slots__ = ("_names", "done", "index", "item", "number", "order", "parts")

    def __init__(self, item: dict[str, Any], number: int, order: int) -> None:
        self.item = item
        self.number = number
        self.order = order
        self.index: int | None = None
        """Where the client sees it; set by whoever shows it."""
        self.done = False
        self.parts: dict[tuple[str, int], Part] = {}
        self._names: set[tuple[str, str]] = set()

    @property
    def type(self) -> str:
        """The item's type."""
        kind: str = self.item["type"]
        return kind

    def name(self, named: dict[str, Any]) -> None:
        """Notes the id and call id that an event or item gave it; a careless backend has several for one item."""
        self._names |= _names(named)

    def goes_by(self, named: dict[str, Any]) -> bool:
        """True if the event or item names an id or call id that was used for this one."""
        return not self._names.isdisjoint(_names(named))

    def part(self, kind: Kind, number: int) -> Part:
        """The text of that kind and number, made if it is new."""
        key = (kind.name, number)
        if key not in self.parts:
            self.parts[key] = Part(kind, number)
        return self.parts[key]

    @property
    def settled(self) -> bool:
        """True if nothing is missing although the done event is: every text was finished by its own."""
        if kind_of_call(self.type) is not None and (not self.parts or not output_items.call_key(self.item)):
            return False
        return all(part.final is not None for part in self.parts.values())

    def close(self, item: dict[str, Any], status: str | None = None) -> None:
        """Makes the item what its done event says."""
        item = fill(output_items.with_identity(item, self.item), list(self.parts.values()))
        if status and item.get("status") in (None, "in_progress"):
            item["status"] = status
        self.item = item
        self.done = True


def _names(named: dict[str, Any]) -> set[tuple[str, str]]:
    found = {"id": output_items.item_key(named), "call_id": output_items.call_key(named)}
    return {(member, value) for member, value in found.items() if value}


class Touched(NamedTuple):
    """The slot that an event was about, and the text in it."""

    slot: Slot
    part: Part | None = None
