"""Reasoning that survives a client which cannot carry it.

Chat Completions has no place for reasoning items, so a translated tool loop would lose the model's thoughts
at every step, and with them the cached prefix. One thing does make the round trip: the id of the tool call.
So the reasoning that led to a call is kept under that id (`claims`) and put back where it was when the call
returns (`insert`): in front of it, and in front of what the model said between the two.

The rule of this file: what goes back is what came, only without the ids, which the backend would look up and
not find. Reasoning without its ciphertext is worthless to the backend and is never kept. Who may read which
ciphertext is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_CALLS = ("function_call", "custom_tool_call")

Claimed = tuple[dict[str, Any], int]
"""A hidden item, and the number of messages between it and the call that claimed it."""


def claims(items: Sequence[dict[str, Any]]) -> dict[str, list[Claimed]]:
    """What each tool call of an answer has to bring back: call id to the hidden items that led to it.

    items: the answer's output items in order. The searches that lie between the thoughts belong to them,
    since a chat client sees neither.
    """
    found: dict[str, list[Claimed]] = {}
    pending: list[Claimed] = []
    for item in items:
        kind = item.get("type")
        if (kind == "reasoning" and item.get("encrypted_content")) or (kind == "web_search_call" and pending):
            pending.append((_stateless(item), 0))
        elif kind == "message":
            pending = [(hidden, between + 1) for hidden, between in pending]
        elif kind in _CALLS and pending:
            call_id = item.get("call_id")
            if isinstance(call_id, str) and call_id:
                found[call_id] = pending
                pending = []
    return found


def insert(
    input_items: Sequence[dict[str, Any]], lookup: Callable[[str], list[Claimed]]
) -> list[dict[str, Any]]:
    """The input with the kept items where they stood before the calls that claimed them.

    lookup: call id to its kept items, [] if there are none. A client that carries reasoning by itself gets
    nothing twice: an entry whose ciphertext already stands in the input is left out.
    """
    present = _ciphertexts(input_items)
    result: list[dict[str, Any]] = []
    for item in input_items:
        if item.get("type") in _CALLS:
            kept = lookup(str(item.get("call_id")))
            ciphertexts = _ciphertexts([hidden for hidden, _ in kept])
            if present.isdisjoint(ciphertexts):
                _put_back(result, kept)
                present |= ciphertexts
        result.append(item)
    return result


def _put_back(items: list[dict[str, Any]], kept: list[Claimed]) -> None:
    """Insert what was kept, the last of it first, each behind no more messages than it stood before.

    There may be fewer of them now, as chat makes one text of all that was said before a call.
    """
    place, passed = len(items), 0
    for hidden, between in reversed(kept):
        while passed < between and place and items[place - 1].get("role") == "assistant":
            place, passed = place - 1, passed + 1
        if place and items[place - 1] == hidden:  # a search that was put back alone
            place -= 1
        else:
            items.insert(place, hidden)


def _ciphertexts(items: Sequence[dict[str, Any]]) -> set[str]:
    return {text for item in items if isinstance(text := item.get("encrypted_content"), str) and text}


def _stateless(item: dict[str, Any]) -> dict[str, Any]:
    """The item as the backend takes it back when it stores nothing."""
    kept = {name: value for name, value in item.items() if name != "id" and value is not None}
    if item["type"] == "reasoning":
        kept.pop("status", None)
        kept.setdefault("summary", [])
    return kept
