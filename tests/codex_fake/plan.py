"""What the fake model decides to say: from the request to a list of output items.

The answer is a function of the request, nothing else. Words in the last user text give orders: `call:NAME
{json}` (once per call), `search:WORDS`, `image:`, `think:WORDS`, `say:WORDS`, `refuse:WORDS`,
`incomplete:REASON`, `stream:N`, `stream:NxSIZE`, `stream:N@PACE` (N deltas of SIZE bytes, PACE seconds apart;
with a pace the text of each delta is the moment of sending in `time.monotonic_ns()`). Without an order it
echoes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Json = dict[str, Any]

BLOCK = 1 << 20  # bytes of text in one message item: no event of a huge answer outgrows a decoder's limit
_STREAM = re.compile(r"stream:(\d+)(?:x(\d+))?(?:@([\d.]+))?")
_CALL = re.compile(r"call:([\w.-]+)[ \t]*")
_ORDER = re.compile(r"\b(search|think|say|refuse|incomplete|image):([^\n]*)")


@dataclass(slots=True)
class Item:
    """One output item to make. `pieces` are its deltas."""

    kind: Literal[
        "message", "refusal", "function_call", "custom_tool_call", "web_search_call", "image", "compaction"
    ]
    pieces: Sequence[str] = ()
    name: str = ""
    annotations: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    items: list[Item]
    thinks: str = "Thinking about it."
    incomplete: str | None = None
    pace: float = 0.0


@dataclass(frozen=True, slots=True)
class Stream:
    """The `stream:` order."""

    deltas: int
    size: int
    pace: float

    @classmethod
    def find(cls, text: str) -> Stream | None:
        found = _STREAM.search(text)
        if found is None:
            return None
        deltas, size, pace = found.groups()
        return cls(int(deltas), int(size or 8), float(pace or 0))


def make(body: Json) -> Plan:
    """Decide the answer to a checked request body."""
    items: list[Json] = body["input"]
    if items and items[-1].get("type") == "compaction_trigger":
        return Plan([Item("compaction")])
    outputs = _trailing_outputs(items)
    if outputs:
        return Plan(
            [_say("; ".join(f"{_name(items, out)} returned {_text(out['output'])}" for out in outputs), body)]
        )
    text = last_user_text(items)
    stream = Stream.find(text)
    if stream is not None:
        return Plan(_blocks(stream), pace=stream.pace)
    orders: dict[str, str] = {name: words.strip() for name, words in _ORDER.findall(text)}
    tools = declared(body)
    plan = Plan(_calls(text, tools, body.get("tool_choice")), orders.get("think") or "Thinking about it.")
    plan.incomplete = orders.get("incomplete")
    if plan.items:
        return plan
    if "image" in orders and any(tool["type"] == "image_generation" for tool in tools):
        plan.items.append(Item("image"))
    if "refuse" in orders:
        plan.items.append(Item("refusal", _words(orders["refuse"])))
        return plan
    searches = "search" in orders and any(tool["type"] == "web_search" for tool in tools)
    if searches:
        plan.items.append(Item("web_search_call", name=orders["search"]))
    message = _say(orders.get("say") or (f"You said: {text}" if text else "You said nothing."), body)
    if searches:
        link = {"start_index": 0, "end_index": 8, "title": "Example", "url": "https://example.com/found"}
        message.annotations.append({"type": "url_citation", **link})
    plan.items.append(message)
    return plan


def declared(body: Json) -> list[Json]:
    """The tools of the request, those of a Lite request too."""
    lite = [item for item in body["input"] if item.get("type") == "additional_tools"]
    return [*(body.get("tools") or []), *(tool for item in lite for tool in item.get("tools") or [])]


def last_user_text(items: list[Json]) -> str:
    """The text of the last user message, parts joined with LF."""
    for item in reversed(items):
        if item.get("role") == "user":
            return _text(item.get("content"))
    return ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or [] if isinstance(part.get("text"), str))


def _trailing_outputs(items: list[Json]) -> list[Json]:
    outputs: list[Json] = []
    for item in reversed(items):
        if not str(item.get("type", "")).endswith("_call_output"):
            break
        outputs.insert(0, item)
    return outputs


def _name(items: list[Json], output: Json) -> str:
    called = (item for item in items if item.get("call_id") == output["call_id"] and "name" in item)
    return str(next(called, {"name": "?"})["name"])


def _calls(text: str, tools: list[Json], choice: Any) -> list[Item]:
    kinds = {tool["name"]: tool["type"] for tool in tools if tool.get("type") in ("function", "custom")}
    if choice == "none":
        return []
    calls = []
    for found in _CALL.finditer(text):
        name, rest = found[1], text[found.end() :]
        if kinds.get(name) == "function":
            try:
                end = json.JSONDecoder().raw_decode(rest)[1]
            except json.JSONDecodeError:
                end = 0
            calls.append(Item("function_call", _halves(rest[:end] or "{}"), name))
        elif name in kinds:
            calls.append(Item("custom_tool_call", _halves(rest.split("\n")[0]), name))
    if not calls and choice == "required" and kinds:
        choice = {"name": next(iter(kinds))}
    if not calls and isinstance(choice, dict) and choice.get("name") in kinds:
        name = choice["name"]
        calls.append(
            Item("function_call" if kinds[name] == "function" else "custom_tool_call", _halves("{}"), name)
        )
    return calls


def _say(text: str, body: Json) -> Item:
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_object":
        text = orjson.dumps({"said": text}).decode()
    elif form.get("type") == "json_schema":
        text = orjson.dumps(instance(form.get("schema") or {}, form.get("schema") or {}, text)).decode()
    return Item("message", _words(text))


def instance(schema: Json, root: Json, text: str) -> Any:
    """The smallest value that fits a JSON schema; strings are `text`."""
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#").strip("/").split("/"):
            target = target[step] if step else target
        return instance(target, root, text)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return instance(schema[name][0], root, text)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: instance(sub, root, text) for name, sub in (schema.get("properties") or {}).items()}
        case "array":
            return [instance(schema.get("items") or {}, root, text)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
    return text


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text) or [text]


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def _blocks(stream: Stream) -> list[Item]:
    piece = "x" * stream.size
    each = max(1, BLOCK // max(1, stream.size))
    return [
        Item("message", [piece] * min(each, stream.deltas - start))
        for start in range(0, max(1, stream.deltas), each)
    ]
