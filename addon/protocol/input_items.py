"""The `input` of a request: OpenAI's items in, items the Codex backend accepts out.

One pass over the items, each by the rule of its type; types without a rule pass as they are, because a list
of known types breaks whole sessions the day a client learns a new one. A second pass settles what takes more
than one item to see: calls and outputs come in pairs, and a reasoning item needs the item it led to
(`pairing`).

The rules: nothing of the client's is changed in place, and an item that needs no change is the same object,
so a long history costs next to nothing. An item's fate depends on the items before it, never on those after
its turn: a longer history begins with the bytes of the shorter one, or the prompt cache is lost.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from addon.protocol.errors import Refused, refuse
from addon.protocol.pairing import pair
from addon.protocol.tool_names import ToolNames
from addon.protocol.wire_json import dump

Item = dict[str, Any]
Resolve = Callable[[str], Item | None]

# Cache marks of other APIs; the backend answers 400 to them at any depth.
MARKS: Final = frozenset({"prompt_cache_breakpoint", "cache_control"})
# Written by the official client into its own items. 400 from anybody else.
_NATIVE_MEMBER: Final = "internal_chat_message_metadata_passthrough"
# What the SDKs' parsing helpers put beside the text they parsed; the Node SDK replays it. 400 too.
_PARSED_ARGUMENTS: Final = frozenset({"parsed_arguments"})
_PARSED: Final = "parsed"
_MESSAGE_MEMBERS: Final = frozenset({"type", "role", "content", "phase"})
# Not touched: an approval refers to its request by id, and Lite tools must arrive as they were sent.
_AS_THEY_ARE: Final = frozenset({"mcp_approval_request", "additional_tools"})
_ROLES: Final = {"user": "user", "assistant": "assistant", "developer": "developer", "system": "developer"}
_TEXTS: Final = frozenset({"text", "input_text", "output_text"})


def as_items(value: object) -> list[Any]:
    """`input` as a list: a string is one user message, absent or null is empty.

    Raises Refused (400) for anything else.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": value}]}]
    if isinstance(value, list):
        return value
    raise _invalid_type("input", "a string or an array")


def is_lite(items: list[Any]) -> bool:
    """True when the tools travel inside the input, which only Responses-Lite requests do."""
    return any(isinstance(item, dict) and item.get("type") == "additional_tools" for item in items)


def shape_items(
    items: list[Any], names: ToolNames, *, native: bool = False, resolve: Resolve | None = None
) -> list[Item]:
    """The items as the backend takes them: no ids, no system role, only pairs.

    names: shortens tool names and remembers which; native: a request of the official client, whose items keep
    its private members and are not paired, for it sends what this very backend expects; resolve: id of an
    `item_reference` → the stored item. Raises Refused (400) with the place of the offending item in `param`.
    """
    shaper = _Shaper(names, native, resolve)
    for index, item in enumerate(items):
        shaper.add(item, f"input[{index}]")
    return shaper.items if native else pair(shaper.items)


class _Shaper:
    """One pass; a method for each item type that has a rule. `items` grows by none, one or more an item."""

    def __init__(self, names: ToolNames, native: bool, resolve: Resolve | None) -> None:
        self.items: list[Item] = []
        self._names = names
        self._native = native
        self._resolve = resolve
        self._calls: dict[str, str] = {}
        always = MARKS if native else MARKS | {_NATIVE_MEMBER}
        self._id = always | {"id"}
        self._id_status = always | {"id", "status"}

    def add(self, item: object, place: str) -> None:
        if not isinstance(item, dict):
            raise _invalid_type(place, "an object")
        kind = item.get("type")
        if kind == "message" or (kind is None and "role" in item):
            self._message(item, place)
        elif kind == "function_call":
            self._function_call(item, place)
        elif kind == "custom_tool_call":
            self._calls[self._call_id(item, place)] = "custom_tool_call_output"
            self.items.append(self._named(_without(item, self._id)))
        elif kind == "function_call_output" or kind == "custom_tool_call_output":
            self._output(item, place)
        elif kind == "reasoning":
            self._reasoning(item)
        elif kind == "item_reference" or (kind is None and "id" in item):
            self._reference(item, place)
        elif not isinstance(kind, str):
            raise _missing(f"{place}.type")
        else:
            self.items.append(item if kind in _AS_THEY_ARE else _without(item, self._id))

    def _message(self, item: Item, place: str) -> None:
        role = item.get("role")
        if role == "tool" or role == "function":
            self._chat_output(item, place)
            return
        upstream_role = _ROLES.get(role) if isinstance(role, str) else None
        if upstream_role is None:
            raise refuse(
                400,
                f"Invalid value: {role!r}. Supported values are: 'assistant', 'system', 'developer', 'user'.",
                code="invalid_value",
                param=f"{place}.role",
            )
        content = item.get("content")
        if role != "assistant":
            if isinstance(content, list):
                content = _input_parts(content, f"{place}.content")
            self.items.append(self._as_message(item, upstream_role, content))
            return
        if isinstance(content, list):
            content = _assistant_parts(content)
        if _says_something(content):
            self.items.append(self._as_message(item, upstream_role, content))
        calls = item.get("tool_calls")
        if isinstance(calls, list):
            self._chat_calls(calls, place)

    def _as_message(self, item: Item, role: str, content: object) -> Item:
        known = item.keys() - self._id_status if self._native else item.keys() & _MESSAGE_MEMBERS
        same = role == item["role"] and content is item.get("content") and item.get("type") is not None
        if same and len(known) == len(item) and None not in item.values():
            return item
        message: Item = {"type": "message", "role": role}
        if content is not None:
            message["content"] = content
        for key, value in item.items():
            if key in known and key not in message and value is not None:
                message[key] = value
        return message

    def _function_call(self, item: Item, place: str) -> None:
        self._calls[self._call_id(item, place)] = "function_call_output"
        if not item.get("name"):
            raise _missing(f"{place}.name")
        item = self._named(_without(item, self._id_status | _PARSED_ARGUMENTS))
        arguments = item.get("arguments")
        if not isinstance(arguments, str):
            item = {**item, "arguments": _json_text(arguments, "{}")}
        self.items.append(item)

    def _output(self, item: Item, place: str) -> None:
        """An output of the kind of its call, which clients that know only functions get wrong."""
        kind = self._calls.get(self._call_id(item, place), item["type"])
        item = _without(item, self._id_status)
        if kind != item["type"]:
            item = {**item, "type": kind}
        given = item.get("output")
        output: object = given
        if isinstance(given, list):
            output = _input_parts(given, f"{place}.output")
        elif not isinstance(given, str):
            output = _json_text(given, "")
        self.items.append(item if output is given else {**item, "output": output})

    def _reasoning(self, item: Item) -> None:
        """Only its ciphertext is of use; nothing can be looked up by its id."""
        if item.get("encrypted_content"):
            item = _without(item, self._id_status)
            self.items.append(item if isinstance(item.get("summary"), list) else {**item, "summary": []})

    def _reference(self, item: Item, place: str) -> None:
        """A stored item in the place of its reference. Reasoning and searches are lost without harm."""
        name = item.get("id")
        found = self._resolve(name) if self._resolve and isinstance(name, str) else None
        if found is not None and found.get("type") != "item_reference":
            self.add(found, place)
        elif not isinstance(name, str) or not name.startswith(("rs_", "ws_")):
            raise refuse(400, f"Item with id '{name}' not found.", code="item_not_found", param="input")

    def _chat_calls(self, calls: list[Any], place: str) -> None:
        """`tool_calls` of a Chat Completions message that was put into `input`."""
        for index, call in enumerate(calls):
            if not isinstance(call, dict) or not isinstance(call.get("id"), str):
                raise _missing(f"{place}.tool_calls[{index}].id")
            function = call.get("function")
            if isinstance(function, dict) and call["id"] not in self._calls:
                item = {"type": "function_call", "call_id": call["id"], **function}
                self._function_call(item, f"{place}.tool_calls[{index}]")

    def _chat_output(self, item: Item, place: str) -> None:
        """A Chat Completions message of role `tool` (or `function`, whose name then is its id)."""
        call_id = item.get("tool_call_id") or item.get("name")
        self._output(
            {"type": "function_call_output", "call_id": call_id, "output": item.get("content")}, place
        )

    def _call_id(self, item: Item, place: str) -> str:
        call_id = item.get("call_id")
        if not isinstance(call_id, str) or not call_id:
            raise _missing(f"{place}.call_id")
        return call_id

    def _named(self, item: Item) -> Item:
        name = item.get("name")
        if not isinstance(name, str):
            return item
        short = self._names.upstream(name)
        return item if short is name else {**item, "name": short}


def _without(item: Item, names: frozenset[str]) -> Item:
    """The item less these members and less nulls; the same object if it has none.

    `model_dump()` of the SDK writes a null for every member that was never set, and the backend does not know
    some of them.
    """
    if names.isdisjoint(item) and None not in item.values():
        return item
    return {key: value for key, value in item.items() if value is not None and key not in names}


def _input_parts(parts: list[Any], place: str) -> list[Any]:
    """Parts of a user or developer message, or of a tool's output: `input_*` only."""
    changed = [
        part if _is_plain_text(part, "input_text") else _input_part(part, f"{place}[{index}]")
        for index, part in enumerate(parts)
    ]
    return _same_or(parts, changed)


def _is_plain_text(part: Any, kind: str) -> bool:
    """The short way for what nearly every part is."""
    return (
        isinstance(part, dict)
        and len(part) == 2
        and part.get("type") == kind
        and isinstance(part.get("text"), str)
    )


def _same_or(old: list[Any], new: list[Any]) -> list[Any]:
    """The old list if the new one holds the very same values."""
    return old if all(map(operator.is_, old, new)) else new


def _input_part(part: Any, place: str) -> Any:
    if not isinstance(part, dict):
        raise _invalid_type(place, "an object")
    kind = part.get("type")
    if not isinstance(kind, str):
        raise _missing(f"{place}.type")
    part = _scrub(part)
    if kind == "input_text":
        return part
    if kind in _TEXTS:
        return {"type": "input_text", "text": part.get("text", "")}
    if kind == "refusal":
        return {"type": "input_text", "text": part.get("refusal", "")}
    if kind == "input_audio":
        raise refuse(
            400,
            "Audio input is not available on a ChatGPT subscription (Codex backend).",
            code="unsupported_content_type",
            param=place,
        )
    if kind == "image_url" or kind == "input_image":
        part = _flat_image(part)
        if "image_url" not in part and "file_id" in part:
            raise _foreign_file(f"{place}.file_id")
    elif kind == "file" or kind == "input_file":
        if isinstance(part.get("file"), dict):
            part = {"type": "input_file", **part["file"]}
        if "file_id" in part and "file_data" not in part and "file_url" not in part:
            raise _foreign_file(f"{place}.file_id")
    else:
        return part
    return {key: value for key, value in part.items() if key != "file_id"} if "file_id" in part else part


def _flat_image(part: Item) -> Item:
    image = part.get("image_url")
    if isinstance(image, dict):
        flat = {"image_url": image.get("url"), "detail": image.get("detail") or part.get("detail")}
        return {"type": "input_image"} | {key: value for key, value in flat.items() if value}
    return part if part.get("type") == "input_image" else {**part, "type": "input_image"}


def _assistant_parts(parts: list[Any]) -> list[Any]:
    """Parts of an assistant message: `output_text` and `refusal`, the two the backend takes there."""
    return _same_or(parts, [_assistant_part(part) for part in parts])


def _assistant_part(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    clean = _scrub(part)
    if clean.get("type") in ("text", "input_text"):
        return {"type": "output_text", "text": clean.get("text", "")}
    if _PARSED in clean:
        return {key: value for key, value in clean.items() if key != _PARSED}
    return clean


def _says_something(content: object) -> bool:
    """False for the content of an assistant message that would only break the pairing around it."""
    if not isinstance(content, list):
        return bool(content)
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in ("output_text", "refusal"):
            return True
        if part.get("text") or part.get("refusal"):
            return True
    return False


def _scrub(value: Any) -> Any:
    """`value` without cache marks and null members at every depth; the same object if there are none.

    Only for message content and tool output: a tool's JSON schema may well have a property of such a name.
    """
    if isinstance(value, list):
        return _same_or(value, [_scrub(old) if isinstance(old, dict | list) else old for old in value])
    changes = {}
    for key, old in value.items():
        if old.__class__ is dict or (old.__class__ is list and old):
            new = _scrub(old)
            if new is not old:
                changes[key] = new
    if not changes and None not in value.values() and MARKS.isdisjoint(value):
        return value
    return {k: changes.get(k, v) for k, v in value.items() if v is not None and k not in MARKS}


def _json_text(value: object, absent: str) -> str:
    return absent if value is None else dump(value).decode()


def _foreign_file(place: str) -> Refused:
    return refuse(
        400,
        "File ids cannot be used here: the file belongs to another account. Send its content inline, as a "
        "data URL in `image_url` or as `file_data`.",
        code="unsupported_file_id",
        param=place,
    )


def _missing(place: str) -> Refused:
    return refuse(
        400, f"Missing required parameter: '{place}'.", code="missing_required_parameter", param=place
    )


def _invalid_type(place: str, expected: str) -> Refused:
    return refuse(400, f"Invalid type for '{place}': expected {expected}.", code="invalid_type", param=place)
