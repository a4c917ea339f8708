"""The input of a stored response as GET /v1/responses/{id}/input_items shows it.

Clients may send a message in short forms: a string as content, no type, no id. What the API lists is always the long
form, and each item has an id, by which the pages of the list are turned.

The rule: the same response lists the same ids, so they are made of its id and the item's place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from addon.protocol.errors import Refused, refuse
from addon.protocol.resend import ID_PREFIXES

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
"""Items of a page, as in OpenAI's API."""


def listed(items: list[Any], response_id: str) -> list[dict[str, Any]]:
    """The items in their long form, each with an id."""
    return [
        _listed(item, f"{response_id}:{place}") for place, item in enumerate(items) if isinstance(item, dict)
    ]


def page(items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """The list object for `order` (`desc` by default), `limit` and `after`. Raises Refused (400)."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise _invalid("order", f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'.")
    text = query.get("limit", str(DEFAULT_LIMIT))
    limit = int(text) if text.isdecimal() and len(text) < 4 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise _invalid("limit", f"Invalid 'limit': expected a whole number from 1 to {MAX_LIMIT}.")
    ordered = items if order == "asc" else items[::-1]
    if (after := query.get("after")) is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise _invalid("after", f"Item with id '{after}' not found.")
        ordered = ordered[places[0] + 1 :]
    data = ordered[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(ordered) > limit,
    }


def _listed(item: dict[str, Any], place: str) -> dict[str, Any]:
    kind = item.get("type") or "message"
    result = {**item, "type": kind}
    if not isinstance(item.get("id"), str) or not item["id"]:
        digest = hashlib.sha256(place.encode()).hexdigest()[:48]
        result["id"] = f"{ID_PREFIXES.get(kind, 'item')}_{digest}"
    if kind == "message":
        content = item.get("content")
        if isinstance(content, str):
            part: dict[str, Any] = {"type": "input_text", "text": content}
            if item.get("role") == "assistant":
                part = {"type": "output_text", "text": content, "annotations": []}
            result["content"] = [part]
    if kind in ("message", "function_call", "function_call_output") and not item.get("status"):
        result["status"] = "completed"
    return result


def _invalid(param: str, message: str) -> Refused:
    return refuse(400, message, code="invalid_value", param=param)
