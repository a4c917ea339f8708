"""Reasoning that returns with the call it led to."""

from __future__ import annotations

from typing import Any

from addon.protocol.chat_reasoning import claims, insert
from tests.chat_bodies import user


def reasoning(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": f"rs_{text}", "summary": [], "encrypted_content": text, "status": None}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": "{}"}


def test_a_call_claims_the_reasoning_before_it() -> None:
    items = [reasoning("A"), {"type": "message", "content": []}, CALL, {**CALL, "call_id": "c2"}]
    assert claims(items) == {"c1": [{"type": "reasoning", "summary": [], "encrypted_content": "A"}]}


def test_hidden_searches_between_thoughts_are_claimed_with_them() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    claimed = claims([reasoning("A"), search, reasoning("B"), CALL])["c1"]
    assert [item["type"] for item in claimed] == ["reasoning", "web_search_call", "reasoning"]
    assert all("id" not in item for item in claimed)


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


def test_a_client_that_carries_reasoning_gets_nothing_twice() -> None:
    kept = claims([reasoning("A"), CALL])
    items = [reasoning("A"), {"type": "message", "content": []}, CALL]
    assert insert(items, lambda call_id: kept.get(call_id, [])) == items


def test_a_search_that_was_put_back_alone_is_not_doubled() -> None:
    search = {"type": "web_search_call", "status": "completed"}
    kept = {"c1": [{"type": "reasoning", "summary": [], "encrypted_content": "A"}, search]}
    result = insert([user("hi"), search, CALL], lambda call_id: kept.get(call_id, []))
    assert [item["type"] for item in result] == ["message", "reasoning", "web_search_call", "function_call"]


def test_a_call_nobody_remembers_goes_without() -> None:
    assert insert([CALL], lambda call_id: []) == [CALL]
