"""Which conversation a request belongs to."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from addon.protocol.identity import session_key

USER: dict[str, Any] = {"type": "message", "role": "user", "content": "hi"}
ANSWER: dict[str, Any] = {"type": "message", "role": "assistant", "content": "yes"}

# From the surest to the least sure; each row wins over all below it.
SOURCES: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"x-session-affinity": "s0"}, {}),
    ({"x-opencode-session": "s1"}, {}),
    ({"x-session-id": "s2"}, {}),
    ({"session-id": "s3"}, {}),
    ({"session_id": "s4"}, {}),
    ({"conversation_id": "s5"}, {}),
    ({"thread-id": "s6"}, {}),
    ({"x-conversation-id": "s7"}, {}),
    ({}, {"prompt_cache_key": "s8"}),
    ({}, {"conversation": {"id": "s9"}}),
    ({}, {"metadata": {"session_id": "s10"}}),
]


def key(headers: dict[str, str] | None = None, /, client: str = "client", **body: Any) -> str:
    return session_key(headers or {}, {"model": "gpt-5.5", "input": [USER]} | body, client=client)


@pytest.mark.parametrize("first", range(len(SOURCES)))
def test_the_surest_name_of_the_session_wins(first: int) -> None:
    headers: dict[str, str] = {}
    body: dict[str, Any] = {}
    for more_headers, more_body in reversed(SOURCES[first:]):
        headers |= more_headers
        body |= more_body
    assert key(headers, **body) == hashlib.sha256(f"s{first}".encode()).hexdigest()


@pytest.mark.parametrize("headers", [{}, {"session-id": "x" * 5000}, {"session-id": "\ud800 ü"}])
def test_a_key_is_always_a_hex_digest(headers: dict[str, str]) -> None:
    assert len(bytes.fromhex(key(headers))) == 32


@pytest.mark.parametrize("headers", [{"session-id": ""}, {"session-id": "  "}])
def test_an_empty_header_names_nothing(headers: dict[str, str]) -> None:
    assert key(headers) == key()


@pytest.mark.parametrize("name", ["sessionId", "thread_id", "Conversation-Id"])
def test_metadata_is_read_however_it_is_spelled(name: str) -> None:
    assert key(metadata={name: "s"}) == hashlib.sha256(b"s").hexdigest()


def test_a_chained_response_keeps_the_session_it_belongs_to() -> None:
    body = {"model": "m", "input": "next", "previous_response_id": "resp_1", "prompt_cache_key": "k"}
    for headers in ({}, {"session-id": "another"}):
        assert session_key(headers, body, client="c", chain="a" * 64) == "a" * 64


def test_the_name_of_a_single_request_names_no_conversation() -> None:
    assert key({"x-client-request-id": "r1"}) == key({"x-client-request-id": "r2"}) == key()


# --- the fingerprint


def test_a_growing_conversation_keeps_its_key() -> None:
    assert key(input=[USER, ANSWER, USER | {"content": "more"}]) == key(input=[USER])


@pytest.mark.parametrize(
    "same",
    [
        {"input": "hi"},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi", "cache_control": {}}]}]},
        {"input": None, "messages": [{"role": "user", "content": "hi"}]},
        {"model": "GPT-5.5-2026-01-01"},
        {"temperature": 1, "reasoning": {"effort": "high"}},
    ],
)
def test_what_does_not_change_the_fingerprint(same: dict[str, Any]) -> None:
    assert key(**same) == key()


@pytest.mark.parametrize(
    "other",
    [
        {"client": "another"},
        {"model": "gpt-6"},
        {"instructions": "Be brief"},
        {"tools": [{"type": "function", "name": "read"}]},
        {"input": [USER | {"content": "hello"}]},
        {"input": [{"role": "system", "content": "Be brief"}, USER]},
        {"input": [USER | {"content": [{"type": "input_image", "image_url": "data:x"}]}]},
    ],
)
def test_what_changes_the_fingerprint(other: dict[str, Any]) -> None:
    assert key(**other) != key()


@pytest.mark.parametrize("prompt", ["one", ["one", "two"]])
def test_a_prompt_begins_a_conversation_as_a_message_does(prompt: Any) -> None:
    assert key(input=None, prompt=prompt) == key(input=None, prompt=prompt)
    assert key(input=None, prompt=prompt) != key(input=None, prompt="another")
    assert key(input=None, prompt="hi") == key()
    assert key(prompt={"id": "pmpt_1"}) == key()


def test_the_order_of_tools_and_their_dialect_do_not_matter() -> None:
    a, b = {"type": "function", "name": "a"}, {"type": "function", "name": "b"}
    assert key(tools=[a, b]) == key(tools=[b, {"type": "function", "function": {"name": "a"}}])


@pytest.mark.parametrize(
    "odd", [{"input": 7}, {"input": ["x", None]}, {"tools": "x"}, {"model": None}, {"metadata": []}]
)
def test_a_body_that_will_be_refused_still_has_a_key(odd: dict[str, Any]) -> None:
    assert len(key(**odd)) == 64
