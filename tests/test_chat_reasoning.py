"""Reasoning that returns with the call it led to."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol.chat_reasoning import claims, insert
from tests.chat_bodies import user


def reasoning(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": f"rs_{text}", "summary": [], "encrypted_content": text, "status": None}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": "{}"}


def test_a_call_claims_the_reasoning_before_it() -> None:
    items = [reasoning("A"), {"type": "message", "content": []}, CALL, {**CALL, "call_id": "c2"}]
    assert claims(items) == {"c1": [({"type": "reasoning", "summary": [], "encrypted_content": "A"}, 1)]}


def test_hidden_searches_between_thoughts_are_claimed_with_them() -> None:
    claimed = claims([reasoning("A"), SEARCH, reasoning("B"), CALL])["c1"]
    assert [item["type"] for item, _ in claimed] == ["reasoning", "web_search_call", "reasoning"]
    assert all("id" not in item for item, _ in claimed)


def test_reasoning_without_ciphertext_and_reasoning_before_a_message_are_not_claimed() -> None:
    assert claims([{"type": "reasoning", "summary": []}, CALL]) == {}
    assert claims([reasoning("A"), {"type": "message", "content": []}]) == {}


def test_claimed_reasoning_is_put_directly_before_its_call() -> None:
    kept = claims([reasoning("A"), CALL])
    items = [
        user("hi"),
        {**CALL, "id": None},
        {"type": "function_call_output", "call_id": "c1", "output": ""},
    ]
    result = insert(items, lambda call_id: kept.get(call_id, []))
    assert [item["type"] for item in result] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert len(items) == 3


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def outline(items: list[dict[str, Any]]) -> str:
    """Thoughts by their ciphertext, searches as `s`, messages as `m` (the user's `u`), calls as `c`."""
    letters = {"web_search_call": "s", "function_call": "c", "function_call_output": "o"}
    messages = {"assistant": "m", "user": "u"}
    return "".join(
        item.get("encrypted_content") or letters.get(item["type"]) or messages[item["role"]] for item in items
    )


SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
BARE_SEARCH = {name: value for name, value in SEARCH.items() if name != "id"}


@pytest.mark.parametrize(
    ("made", "returned", "whole"),
    [
        ([reasoning("A"), said("I look."), CALL], [said("I look."), CALL], "uAmc"),
        ([said("I look."), reasoning("A"), CALL], [said("I look."), CALL], "umAc"),
        ([reasoning("A"), said("1"), reasoning("B"), CALL], [said("1"), CALL], "uAmBc"),
        (
            [reasoning("A"), said("1"), reasoning("B"), said("2"), CALL],
            [said("1"), said("2"), CALL],
            "uAmBmc",
        ),
        ([reasoning("A"), said("1"), said("2"), CALL], [said("1\n\n2"), CALL], "uAmc"),
        ([reasoning("A"), said("1"), CALL], [CALL], "uAc"),
        ([reasoning("A"), SEARCH, said("1"), CALL], [BARE_SEARCH, said("1"), CALL], "uAsmc"),
        ([reasoning("A"), SEARCH, SEARCH, CALL], [BARE_SEARCH, BARE_SEARCH, CALL], "uAssc"),
        ([reasoning("A"), SEARCH, reasoning("B"), CALL], [CALL], "uAsBc"),
    ],
)
def test_reasoning_returns_to_where_it_was(
    made: list[dict[str, Any]], returned: list[dict[str, Any]], whole: str
) -> None:
    kept = claims(made)
    assert outline(insert([user("hi"), *returned], lambda call_id: kept.get(call_id, []))) == whole


def test_a_client_that_carries_reasoning_gets_nothing_twice() -> None:
    kept = claims([reasoning("A"), CALL])
    items = [reasoning("A"), {"type": "message", "content": []}, CALL]
    assert insert(items, lambda call_id: kept.get(call_id, [])) == items


def test_a_search_that_was_put_back_alone_is_not_doubled() -> None:
    search = {"type": "web_search_call", "status": "completed"}
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "A"}
    kept = {"c1": [(thought, 0), (search, 0)]}
    result = insert([user("hi"), search, CALL], lambda call_id: kept.get(call_id, []))
    assert [item["type"] for item in result] == ["message", "reasoning", "web_search_call", "function_call"]


def test_a_call_nobody_remembers_goes_without() -> None:
    assert insert([CALL], lambda call_id: []) == [CALL]
