"""What the backend refuses in the list of input items: roles, parts, ids, pairing, ciphertext.

Nothing is stored (`store` is false), so nothing can be referred to: an id of an earlier item is looked up in
vain and answered 404. Native Codex requests (Lite) may carry the ids the official client invents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import ciphertext, replies
from .replies import Refused, missing, unknown_parameter

if TYPE_CHECKING:
    from .accounts import FakeAccount

Json = dict[str, Any]

_PASSTHROUGH = "internal_chat_message_metadata_passthrough"
_ID_PREFIX = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "function_call_output": "fc",
    "custom_tool_call_output": "ctc",
}
_MEMBERS = {
    "message": {"role", "content", "phase", "status"},
    "reasoning": {"summary", "content", "encrypted_content"},
    "function_call": {"call_id", "name", "arguments", "namespace", "status"},
    "function_call_output": {"call_id", "output", "status"},
    "custom_tool_call": {"call_id", "name", "input", "status"},
    "custom_tool_call_output": {"call_id", "output", "status"},
}
_REQUIRED = {
    "message": ("role", "content"),
    "reasoning": ("summary",),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "compaction": ("encrypted_content",),
}
_STRINGS = ("call_id", "name", "arguments", "input")
_USER_PARTS = ("input_text", "input_image", "input_file")
_ASSISTANT_PARTS = ("output_text", "refusal")
_OUTPUT_PARTS = (*_USER_PARTS, "scoped_content", "encrypted_content")


def check_input(body: Json, account: FakeAccount, *, lite: bool) -> None:
    """Raise Refused for the first thing wrong in `body["input"]`."""
    items: list[Json] = body["input"]
    if not items:
        raise Refused(missing("input"))
    for index, item in enumerate(items):
        _item(item, f"input[{index}]", account, lite)
    _pairing(items)
    _reasoning_followers(items)


def _item(item: Json, where: str, account: FakeAccount, lite: bool) -> None:
    kind = item.get("type", "message" if "role" in item else None)
    if kind is None:
        raise Refused(missing(f"{where}.type"))
    if kind == "item_reference":
        raise Refused(replies.item_not_found(str(item.get("id"))))
    if kind in account.id_demanded and "id" not in item:
        raise Refused(missing(f"{where}.id"))
    if item.get("id") is not None and kind in _ID_PREFIX and kind not in account.id_demanded:
        _id(str(item["id"]), _ID_PREFIX[kind], where, lite)
    if kind in _MEMBERS:
        extra = item.keys() - _MEMBERS[kind] - {"type", "id", _PASSTHROUGH}
        if extra:
            raise Refused(unknown_parameter(f"{where}.{min(extra)}"))
    for name in _REQUIRED.get(kind, ()):
        if item.get(name) is None:
            raise Refused(missing(f"{where}.{name}"))
        if name in _STRINGS and not isinstance(item[name], str):
            text = f"Invalid type for '{where}.{name}': expected a string, but got an object instead."
            raise Refused(replies.error(text, code="invalid_type", param=f"{where}.{name}"))
    match kind:
        case "message":
            _message(item, where, account)
        case "function_call_output" | "custom_tool_call_output":
            _parts(item["output"], f"{where}.output", _OUTPUT_PARTS)
        case "reasoning":
            if item.get("encrypted_content") is None:
                raise Refused(replies.item_not_found(str(item.get("id", "rs_unknown"))))
        case "web_search_call":
            action = (item.get("action") or {}).get("type")
            if action not in ("search", "open_page", "find_in_page"):
                names = ("search", "open_page", "find_in_page")
                raise Refused(replies.invalid_value(action, names, f"{where}.action.type"))
    if kind in ("reasoning", "compaction"):
        sealed = str(item["encrypted_content"])
        own = ciphertext.is_from(account.account_id, sealed)
        if own is not True:
            raise Refused(replies.invalid_encrypted_content(sealed, foreign=own is False))


def _id(item_id: str, prefix: str, where: str, lite: bool) -> None:
    if not lite:
        raise Refused(replies.item_not_found(item_id))
    if len(item_id) > 64:
        raise Refused(replies.too_long(f"{where}.id", 64, len(item_id)))
    if not item_id.startswith(prefix):
        text = f"Invalid '{where}.id': '{item_id}'. Expected an ID that begins with '{prefix}'."
        raise Refused(replies.error(text, code="invalid_value", param=f"{where}.id"))


def _message(item: Json, where: str, account: FakeAccount) -> None:
    role = item["role"]
    if role == "system":
        raise Refused(replies.detail("System messages are not allowed"))
    if role == "developer" and account.refuses_developer:
        raise Refused(replies.detail("Developer messages are not allowed"))
    if role not in ("user", "assistant", "developer"):
        names = ("assistant", "system", "developer", "user")
        raise Refused(replies.invalid_value(role, names, f"{where}.role"))
    if not item["content"]:
        raise Refused(missing(f"{where}.content"))
    _parts(item["content"], f"{where}.content", _ASSISTANT_PARTS if role == "assistant" else _USER_PARTS)


def _parts(content: Any, where: str, supported: tuple[str, ...]) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise Refused(replies.error(f"Invalid type for '{where}'.", code="invalid_type", param=where))
    for index, part in enumerate(content):
        here = f"{where}[{index}]"
        kind = part.get("type")
        if kind not in supported:
            raise Refused(replies.invalid_value(kind, supported, here))
        if kind in ("input_text", "output_text") and not isinstance(part.get("text"), str):
            raise Refused(missing(f"{here}.text"))
        if kind == "input_image" and not isinstance(part.get("image_url"), str):
            raise Refused(missing(f"{here}.image_url"))
        if kind in ("input_image", "input_file") and part.get("file_id"):
            raise Refused(replies.error(f"File '{part['file_id']}' was not found.", param=f"{here}.file_id"))
        for name in ("prompt_cache_breakpoint", "cache_control"):
            if name in part:
                raise Refused(unknown_parameter(f"{here}.{name}"))


def _pairing(items: list[Json]) -> None:
    for call, output in (
        ("function_call", "function_call_output"),
        ("custom_tool_call", "custom_tool_call_output"),
    ):
        called: set[str] = set()
        answered: set[str] = set()
        for item in items:
            kind = item.get("type")
            if kind == call:
                called.add(item["call_id"])
            elif kind == output:
                if item["call_id"] not in called:
                    text = (
                        f"No tool call found for {output.replace('_', ' ')} with call_id {item['call_id']}."
                    )
                    raise Refused(replies.error(text, param="input"))
                answered.add(item["call_id"])
        for item in items:
            if item.get("type") == call and item["call_id"] not in answered:
                text = f"No tool output found for {call.replace('_', ' ')} {item['call_id']}."
                raise Refused(replies.error(text, param="input"))


def _reasoning_followers(items: list[Json]) -> None:
    for index, item in enumerate(items):
        if item.get("type") != "reasoning":
            continue
        follower = items[index + 1] if index + 1 < len(items) else {}
        if not follower or follower.get("role") in ("user", "developer"):
            text = (
                f"Item '{item.get('id', f'input[{index}]')}' of type 'reasoning' was provided without its "
                "required following item."
            )
            raise Refused(replies.error(text, param="input"))
