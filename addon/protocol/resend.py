"""Changes to a request that was refused, so that it can be sent once more.

What the backend takes is known by observation, and it changes. When it names what it does not like, the bytes
are read back, that one thing is changed, and the rest keeps its order, since the cached prefix depends on it.

The rule: a body that needs no change comes back as the same bytes object, by which a caller sees that a
resend would be pointless.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import orjson

from addon.protocol.wire_json import dump

# Without these every request is refused; removing one would only trade one 400 for another.
_INDISPENSABLE: Final = frozenset({"model", "input", "instructions", "store", "stream"})
_STEP: Final = re.compile(r"[^.\[\]]+")
_COMPACTIONS: Final = frozenset({"compaction", "context_compaction"})
ID_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "web_search_call": "ws",
    "image_generation_call": "ig",
}
"""How the id of an item begins, by its type."""


def without(body: bytes, names: Iterable[str]) -> tuple[bytes, list[str]]:
    """The body less the members the backend did not know (`user`, `reasoning.context`, `input[3].phase`).

    Also the names of those that were there. A position in a name stands for all elements of that one's type: the
    others would be refused next. What a request cannot do without stays.
    """
    parsed = orjson.loads(body)
    gone: list[str] = []
    for name in names:
        steps = _STEP.findall(name)
        if steps and not (len(steps) == 1 and steps[0] in _INDISPENSABLE):
            less = _cut(parsed, steps, parsed)
            if less is not parsed:
                parsed = less
                gone.append(name)
    return (dump(parsed) if gone else body), gone


def _cut(value: Any, steps: list[str], named: Any) -> Any:
    """`value` without the member that `steps` lead to, copied along the way; the same object if there is none.

    `named` is the element at this place of the path itself, which `value` is or resembles.
    """
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict) and isinstance(named, dict) and step in value and step in named:
        if not rest:
            return {key: member for key, member in value.items() if key != step}
        inner = _cut(value[step], rest, named[step])
        return value if inner is value[step] else {**value, step: inner}
    if (
        isinstance(value, list)
        and isinstance(named, list)
        and rest
        and step.isdecimal()
        and len(step) < 10
        and int(step) < len(named)
    ):
        one = named[int(step)]
        less = [_cut(each, rest, one) if _type(each) == _type(one) else each for each in value]
        return value if all(new is old for new, old in zip(less, value, strict=True)) else less
    return value


def _type(element: Any) -> Any:
    return element.get("type") if isinstance(element, dict) else None


def value_of(body: bytes, name: str) -> Any:
    """A member of the body, None if it is not there."""
    return orjson.loads(body).get(name)


def item_type(body: bytes, index: int) -> str | None:
    """The type of `input[index]`, None if there is no such item."""
    items = orjson.loads(body)["input"]
    return _type(items[index]) if index < len(items) else None


def with_item_ids(body: bytes, types: Collection[str]) -> bytes:
    """The body with made-up ids on the items of types that turn out to demand one; the same object if all have theirs.

    An id is a digest of its item, so that the same history keeps its bytes, and says how often the item came before.
    """
    parsed = orjson.loads(body)
    seen: Counter[str] = Counter()
    for item in parsed["input"]:
        if item.get("type") in types and "id" not in item:
            digest = hashlib.sha256(dump(item, sort=True)).hexdigest()[:40]
            item["id"] = f"{ID_PREFIXES.get(item['type'], 'item')}_{digest}{seen[digest] or ''}"
            seen[digest] += 1
    return dump(parsed) if seen else body


def ciphertexts(body: dict[str, Any]) -> list[str]:
    """SHA-256 (hex) of every `encrypted_content` in the input, in order."""
    return [_digest(holder["encrypted_content"]) for item in body["input"] for holder in _holders(item)]


def compactions(body: dict[str, Any]) -> list[str]:
    """Those of the ciphertexts that stand for a history that was made short."""
    return ciphertexts({"input": [item for item in body["input"] if item.get("type") in _COMPACTIONS]})


def without_ciphertexts(body: bytes, foreign: Collection[str] | None) -> bytes:
    """The body less the ciphertexts whose SHA-256 is in `foreign` (None: all of them).

    Another account made them and this one cannot read them. An item or part that holds nothing else goes too. A
    compaction stays: without it the model would answer without its history, and nobody would know. A body of another
    API holds none.
    """
    parsed = orjson.loads(body)
    items = parsed.get("input")
    if not isinstance(items, list):
        return body
    less = [_without_ciphertext(item, foreign) for item in items]
    if all(new is old for new, old in zip(less, items, strict=True)):
        return body
    return dump(parsed | {"input": [item for item in less if item is not None]})


def _without_ciphertext(item: dict[str, Any], foreign: Collection[str] | None) -> dict[str, Any] | None:
    if item.get("type") in _COMPACTIONS:
        return item
    for name in ("content", "output"):
        parts = item.get(name)
        if isinstance(parts, list):
            kept = [part for part in parts if not _is_foreign(part, foreign)]
            if len(kept) < len(parts):
                if not kept:
                    return None if name == "content" else {**item, name: ""}
                item = {**item, name: kept}
    if not _is_foreign(item, foreign):
        return item
    if item.get("type") == "reasoning":  # a summary alone is looked up by its id, and nothing is stored
        return None
    rest = {key: value for key, value in item.items() if key != "encrypted_content"}
    return rest if rest.get("content") else None


def _is_foreign(holder: Any, foreign: Collection[str] | None) -> bool:
    if not isinstance(holder, dict) or not isinstance(holder.get("encrypted_content"), str):
        return False
    return foreign is None or _digest(holder["encrypted_content"]) in foreign


def _holders(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(item.get("encrypted_content"), str):
        yield item
    for name in ("content", "output"):
        parts = item.get(name)
        if isinstance(parts, list):
            for part in parts:
                if isinstance(part, dict) and isinstance(part.get("encrypted_content"), str):
                    yield part


def _digest(ciphertext: str) -> str:
    return hashlib.sha256(ciphertext.encode()).hexdigest()


def fold_developer(body: bytes) -> bytes:
    """The body with its developer messages appended to the instructions, for a backend that refuses the role.

    What is not text (an image) stays in the input as the user's.
    """
    parsed = orjson.loads(body)
    texts = [parsed.get("instructions") or ""]
    items = []
    for item in parsed["input"]:
        if item.get("type") != "message" or item.get("role") != "developer":
            items.append(item)
            continue
        content = item.get("content")
        parts = content if isinstance(content, list) else [{"type": "input_text", "text": content or ""}]
        texts += (part["text"] for part in parts if part.get("type") == "input_text")
        others = [part for part in parts if part.get("type") != "input_text"]
        if others:
            items.append({**item, "role": "user", "content": others})
    if len(texts) == 1 and len(items) == len(parsed["input"]):
        return body
    folded = {"instructions": "\n\n".join(text for text in texts if text), "input": items}
    return dump(
        {"model": parsed.get("model")} | folded | {k: v for k, v in parsed.items() if k not in folded}
    )
