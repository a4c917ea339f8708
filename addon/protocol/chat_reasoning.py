"""Reasoning that survives a client which cannot carry it.

Chat Completions has no place for reasoning items, so a translated tool loop would lose the model's thoughts
at every step, and with them the cached prefix. One thing does make the round trip: the id of the tool call.
So the reasoning that led to a call is kept under that id (`claims`) and put back in front of the call when it
returns (`insert`).

The rule of this file: what goes back is what came, only without the ids, which the backend would look up and
not find. Reasoning without its ciphertext is worthless to the backend and is never kept. Who may read which
ciphertext is not decided here: `lookup` answers only for the account that is about to serve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_CALLS = ("function_call", "custom_tool_call")


def claims(items: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What each tool call of an answer has to bring back: call id to the hidden items that led to it.

    items: the answer's output items in order. The searches that lie between the thoughts belong to them,
    since a chat client sees neither.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    pending: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type")
        if (kind == "reasoning" and item.get("encrypted_content")) or (kind == "web_search_call" and pending):
            pending.append(_stateless(item))
        elif kind in _CALLS and pending:
            call_id = item.get("call_id")
            if isinstance(call_id, str) and call_id:
                found[call_id] = pending
                pending = []
    return found


def insert(
    input_items: Sequence[dict[str, Any]], lookup: Callable[[str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The input with the kept items directly before the calls that claimed them.

    lookup: call id to its kept items, [] if there are none. A client that carries reasoning by itself gets
    nothing twice: an entry whose ciphertext already stands in the input is left out.
    """
    present = _ciphertexts(input_items)
    result: list[dict[str, Any]] = []
    for item in input_items:
        if item.get("type") in _CALLS:
            kept = lookup(str(item.get("call_id")))
            ciphertexts = _ciphertexts(kept)
            if present.isdisjoint(ciphertexts):
                # A search that was put back already stands there alone; here it comes with its thoughts.
                while result and result[-1] in kept:
                    result.pop()
                result.extend(kept)
                present |= ciphertexts
        result.append(item)
    return result


def _ciphertexts(items: Sequence[dict[str, Any]]) -> set[str]:
    return {text for item in items if isinstance(text := item.get("encrypted_content"), str) and text}


def _stateless(item: dict[str, Any]) -> dict[str, Any]:
    """The item as the backend takes it back when it stores nothing."""
    kept = {name: value for name, value in item.items() if name != "id" and value is not None}
    if item["type"] == "reasoning":
        kept.pop("status", None)
        kept.setdefault("summary", [])
    return kept
