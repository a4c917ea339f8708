"""Members of Chat Completions that were sent to /v1/responses by mistake.

A body with `messages` and no `input` can only have been meant one way, so it is read as what it is. Where
there is an `input`, the request is a Responses request and these members are strays, which are removed like
any other the backend does not know.
"""

from __future__ import annotations

from typing import Any, Final

from addon.protocol.chat_messages import json_asked_by_system_only, translate
from addon.protocol.errors import refuse

STRAYS: Final = (
    "messages",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "verbosity",
)


def reread(body: dict[str, Any]) -> dict[str, Any]:
    """The body in the words of the Responses API; the same object unless it has `messages` and no `input`.

    Members said in both dialects keep their Responses form. Raises Refused (400) for messages that cannot be
    read.
    """
    messages = body.get("messages")
    if messages is None or body.get("input") is not None:
        return body
    if not isinstance(messages, list):
        raise refuse(
            400, "Invalid type for 'messages': expected an array.", code="invalid_type", param="messages"
        )
    result = {key: value for key, value in body.items() if key not in STRAYS and value is not None}
    _functions(body, result)
    _member(result, "text", "format", _format(body.get("response_format")))
    _member(result, "text", "verbosity", body.get("verbosity"))
    _member(result, "reasoning", "effort", body.get("reasoning_effort"))
    keep_system = _is_json_mode(result.get("text")) and json_asked_by_system_only(messages)
    instructions, result["input"] = translate(messages, keep_system=keep_system)
    if instructions:
        result.setdefault("instructions", instructions)
    return result


def _functions(body: dict[str, Any], result: dict[str, Any]) -> None:
    functions = body.get("functions")
    if not functions or result.get("tools") or not isinstance(functions, list):
        return
    result["tools"] = [{**f, "type": "function"} if isinstance(f, dict) else f for f in functions]
    choice = body.get("function_call")
    if isinstance(choice, dict):
        choice = {"type": "function", "name": choice.get("name")}
    if choice is not None:
        result.setdefault("tool_choice", choice)


def _is_json_mode(text: object) -> bool:
    given = text.get("format") if isinstance(text, dict) else None
    return isinstance(given, dict) and given.get("type") == "json_object"


def _format(value: object) -> object:
    return value if isinstance(value, dict) and value.get("type") != "text" else None


def _member(result: dict[str, Any], outer: str, name: str, value: object) -> None:
    given = result.get(outer, {})
    if value is not None and isinstance(given, dict):
        result[outer] = {name: value, **given}
