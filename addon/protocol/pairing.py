"""What takes more than one input item to see: tool calls with their outputs, reasoning with what it led to.

The backend answers 400 to an output without its call, to a call without its output, and to a reasoning item
without its follower. Histories that were cut, edited or interrupted have all three. An orphaned output is
kept as a quotation, an unanswered call gets an empty answer, and stranded reasoning is left out.

The rule: never reorder, and decide by what stands before an item, so that a history that grows keeps its
beginning. Only whether a call is answered takes a look ahead; calls that end the input are therefore left
alone, for their outputs may be in the next request (and if not, the backend's refusal is the right answer).
"""

from __future__ import annotations

from typing import Any, Final

Item = dict[str, Any]

NO_RESULT: Final = "[no result recorded]"
_OUTPUT_OF: Final = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
}
_OUTPUTS: Final = frozenset(_OUTPUT_OF.values())


def pair(items: list[Item]) -> list[Item]:
    """The items with every call answered, every orphaned output quoted and no stranded reasoning."""
    called: set[str] = set()
    answered: set[str] = set()
    orphans = stranded = thinking = False
    for item in items:
        kind = item["type"]
        if kind == "reasoning":
            thinking = True
            continue
        if thinking:
            stranded = stranded or _is_from_outside(item)
            thinking = False
        if kind in _OUTPUTS:
            if item["call_id"] in called:
                answered.add(item["call_id"])
            else:
                orphans = True
        elif kind.endswith("_call") and isinstance(item.get("call_id"), str):
            called.add(item["call_id"])
    if orphans:
        items = _quote(items)
    if stranded or thinking:
        items = _led_somewhere(items)
    return items if called == answered else _answer(items, answered)


def _is_from_outside(item: Item) -> bool:
    """Whether the model did not make this item: a message of anybody else, or a tool's output."""
    kind: str = item["type"]
    return kind.endswith("_output") or (kind == "message" and item["role"] != "assistant")


def _quote(items: list[Item]) -> list[Item]:
    """Outputs whose call does not stand before them, turned into messages."""
    called: set[str] = set()
    result = []
    for item in items:
        kind = item["type"]
        if kind in _OUTPUTS and item["call_id"] not in called:
            item = _quotation(item)
        elif kind.endswith("_call") and isinstance(item.get("call_id"), str):
            called.add(item["call_id"])
        result.append(item)
    return result


def _quotation(output: Item) -> Item:
    """An output as a message. A user's, not a developer's: what a tool returns has no authority."""
    name = output.get("name")
    tool = f" of the tool {name}" if isinstance(name, str) else ""
    heading = {"type": "input_text", "text": f"[Result{tool} for the earlier call {output['call_id']}]"}
    value = output["output"]
    parts = value if isinstance(value, list) else [{"type": "input_text", "text": value}]
    return {"type": "message", "role": "user", "content": [heading, *parts]}


def _led_somewhere(items: list[Item]) -> list[Item]:
    """Without reasoning that is not followed (after other reasoning) by something the model produced."""
    kept = []
    followed = False
    for item in reversed(items):
        if item["type"] != "reasoning":
            followed = not _is_from_outside(item)
        elif not followed:
            continue
        kept.append(item)
    kept.reverse()
    return kept


def _answer(items: list[Item], answered: set[str]) -> list[Item]:
    """With an output for every unanswered call, after the run of calls it stands in, but not at the end."""
    result: list[Item] = []
    open_calls: dict[str, Item] = {}
    thoughts: list[Item] = []  # after an open call: they stay with what follows them, be it a call or not
    for item in items:
        kind = item["type"]
        if kind == "reasoning" and open_calls:
            thoughts.append(item)
            continue
        if kind not in _OUTPUT_OF:
            result.extend(map(_no_result, open_calls.values()))
            open_calls = {}
        elif item["call_id"] not in answered:
            open_calls[item["call_id"]] = item
        result.extend(thoughts)
        thoughts = []
        result.append(item)
    return result + thoughts


def _no_result(call: Item) -> Item:
    return {"type": _OUTPUT_OF[call["type"]], "call_id": call["call_id"], "output": NO_RESULT}
