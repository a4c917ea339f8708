"""Chat messages to Responses items.

Chat Completions keeps a conversation as messages, each with a role and everything that role can hold; the
Responses API keeps it as a flat list of items. `translate` walks the messages once, in order, and never moves
one: the text that opens the list becomes the instructions, everything else stays where it was, because moving
a later system message to the front would change the cached prefix on every turn.

The rule of this file: the same messages give the same items, byte for byte. Ids that a client left out are
therefore derived from what the call says and where it stands, never made up.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from itertools import dropwhile
from typing import Any, NoReturn

from addon.protocol.failure import reject
from addon.protocol.wire_json import dump

_SYSTEM = ("system", "developer")
_TEXT_PARTS = ("text", "input_text", "output_text")
# Thoughts that a client keeps as content parts. Sent as text, the model would read them as things it had
# said.
_THOUGHT_PARTS = ("thinking", "redacted_thinking", "reasoning")


def translate(
    messages: list[Any], *, keep_system: bool = False, speaker_names: bool = False
) -> tuple[str, list[dict[str, Any]]]:
    """The instructions ("" if none) and the input items of a chat conversation.

    keep_system: leave the opening system messages in the input (JSON mode needs the word "json" there).
    speaker_names: put the `name` of a message in front of its text; the backend knows no such member.
    Raises Refused (400) naming the message that cannot be translated.
    """
    return _Walk(messages, keep_system, speaker_names).result()


def json_asked_by_system_only(messages: list[Any]) -> bool:
    """Whether messages follow the opening system messages and none of those contains "json" (in any case)."""
    later = list(dropwhile(lambda m: isinstance(m, dict) and m.get("role") in _SYSTEM, messages))
    return bool(later) and not any("json" in _plain_text(message).lower() for message in later)


def _plain_text(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(
        part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


class _Walk:
    """One pass over the messages. A method `_<role>` appends the items of a message with that role."""

    def __init__(self, messages: list[Any], keep_system: bool, speaker_names: bool) -> None:
        self.messages = messages
        self.keep_system = keep_system
        self.speaker_names = speaker_names
        self.instructions: list[str] = []
        self.input: list[dict[str, Any]] = []
        self.custom: set[str] = set()
        self.unanswered: OrderedDict[str, None] = OrderedDict()
        self.functions: dict[str, str] = {}

    def result(self) -> tuple[str, list[dict[str, Any]]]:
        handlers = {
            "user": self._user,
            "assistant": self._assistant,
            "tool": self._tool,
            "function": self._function,
            "system": self._developer,
            "developer": self._developer,
        }
        opening = not self.keep_system
        for at, message in enumerate(self.messages):
            where = f"messages[{at}]"
            if not isinstance(message, dict):
                reject(f"Invalid type for '{where}': expected an object.", where, "invalid_type")
            role = message.get("role")
            handler = handlers.get(role) if isinstance(role, str) else None
            if handler is None:
                reject(
                    f"Invalid value: {role!r}. Supported values are: 'system', 'developer', 'user', "
                    "'assistant', 'tool', and 'function'.",
                    f"{where}.role",
                    "invalid_value",
                )
            opening = opening and role in _SYSTEM and self._opens(message, where)
            if not opening:
                handler(message, where)
        instructions = "\n\n".join(self.instructions)
        if not self.input and instructions:
            return "", [_message("user", [{"type": "input_text", "text": instructions}])]
        return instructions, self.input

    def _opens(self, message: dict[str, Any], where: str) -> bool:
        """Takes a system message into the instructions; False if it holds more than text."""
        parts = self._input_parts(message, where)
        if any(part["type"] != "input_text" for part in parts):
            return False
        text = _join(parts)
        if text:
            self.instructions.append(text)
        return True

    def _developer(self, message: dict[str, Any], where: str) -> None:
        parts = self._input_parts(message, where)
        texts = [part for part in parts if part["type"] == "input_text"]
        if len(texts) == len(parts):
            text = _join(parts)
            parts = [{"type": "input_text", "text": text}] if text else []
        if parts:
            self.input.append(_message("developer", parts))

    def _user(self, message: dict[str, Any], where: str) -> None:
        parts = self._input_parts(message, where)
        self.input.append(_message("user", parts or [{"type": "input_text", "text": ""}]))

    def _assistant(self, message: dict[str, Any], where: str) -> None:
        if message.get("audio"):
            reject("Audio messages are not supported.", f"{where}.audio", "unsupported_content_type")
        parts: list[dict[str, Any]] = []
        for part, place in _parts(message.get("content"), f"{where}.content"):
            kind = part.get("type")
            if kind == "refusal":
                parts.append({"type": "refusal", "refusal": _text(part.get("refusal"), f"{place}.refusal")})
            elif kind in _TEXT_PARTS:
                parts.append({"type": "output_text", "text": _text(part.get("text"), f"{place}.text")})
            elif kind not in _THOUGHT_PARTS:
                _unknown_part(kind, place)
        if message.get("refusal"):
            parts.append({"type": "refusal", "refusal": _text(message["refusal"], f"{where}.refusal")})
        parts = [part for part in parts if part.get("text") or part.get("refusal")]
        if parts:
            self.input.append(_message("assistant", parts))
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            reject("Invalid type: expected an array.", f"{where}.tool_calls", "invalid_type")
        for number, call in enumerate(calls):
            self._call(call, f"{where}.tool_calls[{number}]")
        legacy = message.get("function_call")
        if legacy:
            self._legacy_call(legacy, f"{where}.function_call")

    def _call(self, call: Any, where: str) -> None:
        if not isinstance(call, dict):
            reject(f"Invalid type for '{where}': expected an object.", where, "invalid_type")
        custom = isinstance(call.get("custom"), dict)
        body = call["custom"] if custom else call.get("function")
        name = body.get("name") if isinstance(body, dict) else None
        if not isinstance(body, dict) or not isinstance(name, str) or not name:
            _missing(f"{where}.{'custom' if custom else 'function'}.name")
        given = body.get("input" if custom else "arguments")
        text = given if isinstance(given, str) else "" if given is None else dump(given).decode()
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id:
            call_id = "call_" + _digest(where, name, text)
        self.unanswered[call_id] = None
        if custom:
            self.custom.add(call_id)
            self.input.append({"type": "custom_tool_call", "call_id": call_id, "name": name, "input": text})
        else:
            self._append_call(call_id, name, text)

    def _legacy_call(self, call: Any, where: str) -> None:
        name = call.get("name") if isinstance(call, dict) else None
        if not isinstance(name, str) or not name:
            _missing(f"{where}.name")
        call_id = f"call_fn_{len(self.input)}"
        self.functions[name] = call_id
        arguments = call.get("arguments")
        text = arguments if isinstance(arguments, str) else dump(arguments or {}).decode()
        self._append_call(call_id, name, text)

    def _append_call(self, call_id: str, name: str, arguments: str) -> None:
        item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments or "{}"}
        self.input.append(item)

    def _tool(self, message: dict[str, Any], where: str) -> None:
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str) or not call_id:
            # A client that sends calls without ids cannot name them in the results: those answer in order.
            if not self.unanswered:
                _missing(f"{where}.tool_call_id")
            call_id = next(iter(self.unanswered))
        self.unanswered.pop(call_id, None)
        kind = "custom_tool_call_output" if call_id in self.custom else "function_call_output"
        self.input.append({"type": kind, "call_id": call_id, "output": self._output(message, where)})

    def _function(self, message: dict[str, Any], where: str) -> None:
        name = message.get("name")
        if not isinstance(name, str) or not name:
            _missing(f"{where}.name")
        call_id = self.functions.get(name) or f"call_fn_{len(self.input)}"
        self.input.append(
            {"type": "function_call_output", "call_id": call_id, "output": self._output(message, where)}
        )

    def _output(self, message: dict[str, Any], where: str) -> str | list[dict[str, Any]]:
        content = message.get("content")
        if content is None or isinstance(content, str):
            return content or ""
        return [_input_part(part, place) for part, place in _parts(content, f"{where}.content")]

    def _input_parts(self, message: dict[str, Any], where: str) -> list[dict[str, Any]]:
        """The content as input parts, the speaker's name in front of the first text if that is wanted."""
        parts = [
            _input_part(part, place) for part, place in _parts(message.get("content"), f"{where}.content")
        ]
        name = message.get("name")
        if self.speaker_names and isinstance(name, str) and name:
            first = next((part for part in parts if part["type"] == "input_text"), None)
            if first is not None:
                first["text"] = f"{name}: {first['text']}"
        return parts


def _message(role: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": parts}


def _parts(content: Any, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The parts of a content that may be a string, null or a list, each with its place for error messages."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, where
    elif isinstance(content, list):
        for number, part in enumerate(content):
            place = f"{where}[{number}]"
            if isinstance(part, str):
                part = {"type": "text", "text": part}
            if not isinstance(part, dict):
                reject(f"Invalid type for '{place}': expected an object.", place, "invalid_type")
            yield part, place
    elif content is not None:
        reject(f"Invalid type for '{where}': expected a string or an array.", where, "invalid_type")


def _input_part(part: dict[str, Any], where: str) -> dict[str, Any]:
    """One content part of a user, system or tool message as the Responses API names it."""
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        return {"type": "input_text", "text": _text(part.get("text"), f"{where}.text")}
    if kind == "refusal":
        return {"type": "input_text", "text": _text(part.get("refusal"), f"{where}.refusal")}
    if kind in ("image_url", "input_image"):
        return _image(part, where)
    if kind in ("file", "input_file"):
        return _file(part, where)
    if kind == "input_audio":
        reject("Audio input is not supported.", where, "unsupported_content_type")
    _unknown_part(kind, where)


def _image(part: dict[str, Any], where: str) -> dict[str, Any]:
    image = part.get("image_url")
    url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, None)
    if not isinstance(url, str):
        if part.get("file_id"):
            _foreign_file(f"{where}.file_id")
        _missing(f"{where}.image_url.url")
    item = {"type": "input_image", "image_url": url}
    detail = detail or part.get("detail")
    return {**item, "detail": detail} if isinstance(detail, str) else item


def _file(part: dict[str, Any], where: str) -> dict[str, Any]:
    inner = part.get("file")
    file: dict[str, Any] = inner if isinstance(inner, dict) else part
    if file.get("file_id"):
        _foreign_file(f"{where}.file.file_id")
    wanted = {
        name: file[name] for name in ("filename", "file_data", "file_url") if isinstance(file.get(name), str)
    }
    if "file_data" not in wanted and "file_url" not in wanted:
        _missing(f"{where}.file.file_data")
    return {"type": "input_file", **wanted}


def _foreign_file(where: str) -> NoReturn:
    reject(
        "Uploaded files belong to another account. Send the content inline, as a data URL or file_data.",
        where,
        "unsupported_file_id",
    )


def _unknown_part(kind: Any, where: str) -> NoReturn:
    reject(
        f"Invalid value: {kind!r} is not a content part this role can have.", f"{where}.type", "invalid_value"
    )


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        reject(f"Invalid type for '{where}': expected a string.", where, "invalid_type")
    return value


def _join(parts: list[dict[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts if part["text"])


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


def _missing(param: str) -> NoReturn:
    reject(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
