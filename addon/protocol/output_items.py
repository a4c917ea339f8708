"""Output items: made complete, compared, and shown to the client as it knows them.

SDK users read members of an item without a guard, and the SDKs' stream helpers compare the item of the added event, of
the done event and of the final response by type, id and call id. So every item is brought to the full form once, when
it arrives, and keeps its identity from then on.

The rule: functions here return new dicts and leave their arguments alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import orjson

# Calls the client carries out: without a call id it could not send the result back.
CLIENT_CALLS = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "computer_call",
        "tool_search_call",
    }
)

_ID_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


def normalise(item: object) -> dict[str, Any] | None:
    """The item with every member that clients read unguarded, or None if it is no item at all."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if not isinstance(kind, str) or not kind:
        if "content" not in item and "role" not in item:
            return None
        kind = "message"
    result = {**item, "type": kind}
    if call_key(item) is None:
        result.pop("call_id", None)
    match kind:
        case "message":
            result["role"] = "assistant" if not isinstance(item.get("role"), str) else item["role"]
            result["content"] = [
                _content_part(part) for part in _list_of_parts(item.get("content"), "output_text")
            ]
        case "reasoning":
            result["summary"] = _list_of_parts(item.get("summary"), "summary_text")
            if "content" in item and item["content"] is not None:
                result["content"] = _list_of_parts(item["content"], "reasoning_text")
        case "function_call":
            result["arguments"] = _call_text(item.get("arguments"))
        case "custom_tool_call":
            result["input"] = _call_text(item.get("input"))
    return result


def new_id(kind: str) -> str:
    """An id for an item that came without one."""
    return f"{_ID_PREFIXES.get(kind, 'item')}_{uuid.uuid4().hex}"


def call_key(item: Mapping[str, Any]) -> str | None:
    """The call id of an item, None if it has none."""
    value = item.get("call_id")
    return value if isinstance(value, str) and value else None


def item_key(item: Mapping[str, Any]) -> str | None:
    """The id of an item, None if it has none."""
    value = item.get("id")
    return value if isinstance(value, str) and value else None


def with_identity(item: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The item under the identity it was announced with, and with the name that may be missing when it is done."""
    result = {**item, "type": known["type"]}
    for member in ("id", "call_id"):
        if known.get(member):
            result[member] = known[member]
    if not known.get("call_id") and known["type"] not in CLIENT_CALLS:
        result.pop("call_id", None)
    for member in ("name", "namespace"):
        if known.get(member) and not item.get(member):
            result[member] = known[member]
    return result


def reconcile(done: dict[str, Any], final: dict[str, Any]) -> dict[str, Any]:
    """The terminal event's version of an item, with what only the item's own done event has.

    The backend has been seen to leave encrypted reasoning, and whole texts, out of the terminal event.
    """
    result = with_identity(final, done)
    for member in ("encrypted_content", "content", "summary", "arguments", "input"):
        if member in done and _is_empty(result.get(member)):
            result[member] = done[member]
    return result


def is_hidden(item: Mapping[str, Any], anchored: bool) -> bool:
    """True for a search the client did not ask for: it came from the web_search tool we added."""
    return anchored and item.get("type") == "web_search_call"


def with_client_name(item: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The item with the tool name the client knows, where we had to shorten it."""
    name = item.get("name")
    if names and isinstance(name, str) and name in names:
        return {**item, "name": names[name]}
    return item


def _is_empty(value: object) -> bool:
    if isinstance(value, list):
        return not any(_part_text(part) for part in value)
    return not value


def _part_text(part: object) -> bool:
    return isinstance(part, dict) and bool(part.get("text") or part.get("refusal"))


def _list_of_parts(value: object, kind: str) -> list[dict[str, Any]]:
    if isinstance(value, str) and value:
        return [{"type": kind, "text": value}]
    if not isinstance(value, list):
        return []
    return [part for part in value if isinstance(part, dict) and isinstance(part.get("type"), str)]


def _content_part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "output_text":
        text, annotations = part.get("text"), part.get("annotations")
        part = {
            **part,
            "text": text if isinstance(text, str) else "",
            "annotations": annotations if isinstance(annotations, list) else [],
        }
    elif part["type"] == "refusal":
        part = {**part, "refusal": part["refusal"] if isinstance(part.get("refusal"), str) else ""}
    return part


def _call_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()
