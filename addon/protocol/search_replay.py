"""Searches that were hidden from the client, put back where they were.

When the anchor made the model search, the client never saw the `web_search_call` items and so cannot replay
them; the next request would lack a piece of the prefix that the backend has cached. The answer side remembers
them under a key of the item that followed, and `restore_hidden` puts them back in front of it.

The rule: a key must be the same for the item as it came from the backend and as any client replays it, so it
is made of what every client keeps: a call's id, a message's text, a ciphertext.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

Lookup = Callable[[str], list[dict[str, Any]]]


def replay_key(item: dict[str, Any]) -> str | None:
    """The key (hex) of an item that searches may be remembered under, None for one the model did not make."""
    kind = item.get("type")
    if kind == "message" and item.get("role") == "assistant":
        content = item.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = (part.get("text") or part.get("refusal") for part in parts if isinstance(part, dict))
        mark = "".join(text for text in texts if isinstance(text, str))
    elif kind == "reasoning":
        mark = item.get("encrypted_content") or ""
    elif isinstance(kind, str) and kind.endswith("_call"):
        mark = item.get("call_id") or ""
    else:
        return None
    if not mark:
        return None
    return hashlib.sha256(f"{kind}\0{mark}".encode("utf-8", "surrogatepass")).hexdigest()


def restore_hidden(items: Iterable[dict[str, Any]], lookup: Lookup) -> list[dict[str, Any]]:
    """The items with remembered ones in front of those they preceded; `lookup` gives [] if it knows none."""
    result: list[dict[str, Any]] = []
    for item in items:
        key = replay_key(item)
        if key is not None:
            result += ({k: v for k, v in found.items() if k != "id"} for found in lookup(key))
        result.append(item)
    return result
