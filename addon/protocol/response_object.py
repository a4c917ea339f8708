"""The Response object as the client expects it, built from the backend's.

The backend answers for the request *it* got: its own model name, `store: false`, our anchor among the tools, an id of
the account's owner in `safety_identifier`. The client asked something else and reads its own wishes back.

The rule: nothing that names an account reaches the client, and every member the API declares as required is there.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from addon.protocol.asked import Asked

# Members that OpenAI's types declare as required, and what they are when the backend leaves them out.
_DEFAULTS: dict[str, Any] = {
    "object": "response",
    "error": None,
    "incomplete_details": None,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
# Members about the account or about our own shaping: only what the client sent may stand in them.
_OURS = ("user", "safety_identifier", "prompt_cache_key", "client_metadata")


def identified(response: dict[str, Any]) -> dict[str, Any]:
    """The response with id and creation time: made up once if the backend left them out, or sent nonsense."""
    known = isinstance(response.get("id"), str) and response["id"]
    dated = isinstance(response.get("created_at"), (int, float)) and not isinstance(
        response["created_at"], bool
    )
    return {
        **response,
        "id": response["id"] if known else f"resp_{uuid.uuid4().hex}",
        "created_at": response["created_at"] if dated else int(time.time()),
    }


def build(
    response: dict[str, Any], asked: Asked, *, output: list[dict[str, Any]], status: str
) -> dict[str, Any]:
    """The response with the client's wishes, complete, and with this output and status."""
    result = {
        **_DEFAULTS,
        **{name: value for name, value in response.items() if value is not None or name not in _DEFAULTS},
    }
    for name in _OURS:
        if result.get(name) is not None:
            result[name] = None
    result.pop("client_metadata", None)
    result |= asked.echo
    if asked.model is not None:
        result["model"] = asked.model
    result.setdefault("model", "")
    result["output"] = output
    result["status"] = status
    result["usage"] = _usage(response.get("usage"))
    return result


def _usage(usage: object) -> dict[str, Any] | None:
    """Usage with the counts that SDK users read without a guard (tokens)."""
    if not isinstance(usage, dict):
        return None
    inside, outside = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    return {
        **usage,
        "input_tokens": inside,
        "input_tokens_details": _details(usage.get("input_tokens_details"), "cached_tokens"),
        "output_tokens": outside,
        "output_tokens_details": _details(usage.get("output_tokens_details"), "reasoning_tokens"),
        "total_tokens": _count(usage.get("total_tokens")) or inside + outside,
    }


def _details(details: object, member: str) -> dict[str, Any]:
    found = details if isinstance(details, dict) else {}
    return {**found, member: _count(found.get(member))}


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0
