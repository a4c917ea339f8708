"""Chat messages as Responses items."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from addon.protocol import chat_request
from addon.protocol.chat_request import ChatOptions
from tests.chat_bodies import FUNCTION, OPTIONS, USER, chat, developer, refusal_of, sent, shaped, user


def test_the_opening_system_messages_become_the_instructions() -> None:
    body = sent({"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, USER)
    assert body["instructions"] == "A\n\nB"
    assert body["input"] == [user("hi")]


def test_without_system_messages_the_instructions_are_the_default() -> None:
    assert sent(USER)["instructions"] == OPTIONS.instructions
    assert sent({"role": "system", "content": ""}, USER)["instructions"] == OPTIONS.instructions


def test_json_mode_keeps_system_messages_in_the_input_if_only_they_say_json() -> None:
    system = {"role": "system", "content": "Answer in JSON"}
    mode = {"type": "json_object"}
    body = sent(system, USER, response_format=mode)
    assert body["input"] == [developer("Answer in JSON"), user("hi")]
    assert body["instructions"] == OPTIONS.instructions


@pytest.mark.parametrize("content", ["give me Json", [{"type": "text", "text": "as JSON"}]])
def test_json_mode_moves_system_messages_as_ever_if_a_later_message_says_json(content: Any) -> None:
    body = sent(
        {"role": "system", "content": "S"},
        {"role": "user", "content": content},
        response_format={"type": "json_object"},
    )
    assert body["instructions"] == "S"


def test_a_later_system_message_stays_where_it_is() -> None:
    body = sent(USER, {"role": "system", "content": "later"}, {"role": "user", "content": "2"})
    assert body["input"] == [user("hi"), developer("later"), user("2")]


def test_system_text_parts_are_joined_by_lines() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert sent({"role": "system", "content": parts}, USER)["instructions"] == "a\nb"
    assert sent(USER, {"role": "system", "content": parts})["input"][1] == developer("a\nb")


def test_a_system_message_with_an_image_becomes_a_developer_message() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    body = sent({"role": "system", "content": "first"}, {"role": "system", "content": parts}, USER)
    assert body["instructions"] == "first"
    assert body["input"][0] == {
        "type": "message",
        "role": "developer",
        "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:x"}],
    }


@pytest.mark.parametrize("mode", [None, {"type": "json_object"}])
def test_only_system_messages_become_a_user_message(mode: Any) -> None:
    body = sent({"role": "system", "content": "do json"}, response_format=mode)
    assert body["input"] == [user("do json")]
    assert body["instructions"] == OPTIONS.instructions


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "t", "cache_control": {}}, {"type": "input_text", "text": "t"}),
        ("bare", {"type": "input_text", "text": "bare"}),
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "input_image", "image_url": "https://x/y.png"},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
            {"type": "input_image", "image_url": "data:x", "detail": "low"},
        ),
        ({"type": "image_url", "image_url": "data:x"}, {"type": "input_image", "image_url": "data:x"}),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:x"}},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:x"},
        ),
        ({"type": "refusal", "refusal": "no"}, {"type": "input_text", "text": "no"}),
        ({"type": "input_text", "text": "t"}, {"type": "input_text", "text": "t"}),
    ],
)
def test_user_parts(part: Any, expected: dict[str, Any]) -> None:
    assert sent({"role": "user", "content": [part]})["input"][0]["content"] == [expected]


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "messages[0].content[0]",
            "unsupported_content_type",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
            "messages[0].content[0].file.file_id",
            "unsupported_file_id",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"filename": "x"}}]},
            "messages[0].content[0].file.file_data",
            "missing_required_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            "messages[0].content[0].image_url.url",
            "missing_required_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "hologram"}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        ({"role": "user", "content": 5}, "messages[0].content", "invalid_type"),
        ({"role": "user", "content": [5]}, "messages[0].content[0]", "invalid_type"),
        (
            {"role": "user", "content": [{"type": "text", "text": 5}]},
            "messages[0].content[0].text",
            "invalid_type",
        ),
        ({"role": "robot", "content": "x"}, "messages[0].role", "invalid_value"),
        ({"content": "x"}, "messages[0].role", "invalid_value"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio", "unsupported_content_type"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id", "missing_required_parameter"),
        ({"role": "function", "content": "x"}, "messages[0].name", "missing_required_parameter"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]},
            "messages[0].tool_calls[0].function.name",
            "missing_required_parameter",
        ),
        ({"role": "assistant", "tool_calls": [1]}, "messages[0].tool_calls[0]", "invalid_type"),
        ({"role": "assistant", "tool_calls": {"a": 1}}, "messages[0].tool_calls", "invalid_type"),
        (
            {"role": "assistant", "function_call": {"arguments": "{}"}},
            "messages[0].function_call.name",
            "missing_required_parameter",
        ),
        ("not a message", "messages[0]", "invalid_type"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_its_place(message: Any, param: str, code: str) -> None:
    assert refusal_of(chat(message, USER)) == (400, param, code)


@pytest.mark.parametrize(
    ("messages", "code"),
    [([], "missing_required_parameter"), (None, "missing_required_parameter"), ("hi", "invalid_type")],
)
def test_messages_are_required(messages: Any, code: str) -> None:
    assert refusal_of({"model": "gpt", "messages": messages}) == (400, "messages", code)


def test_messages_without_any_content_are_refused() -> None:
    assert refusal_of(chat({"role": "assistant", "content": ""})) == (400, "messages", "invalid_value")


def test_a_model_is_required() -> None:
    assert refusal_of({"messages": [USER]})[1] == "model"


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "a"}, [{"type": "output_text", "text": "a"}]),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}]},
            [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}],
        ),
        ({"content": None, "refusal": "no"}, [{"type": "refusal", "refusal": "no"}]),
        ({"content": "a", "reasoning_content": "thought"}, [{"type": "output_text", "text": "a"}]),
        ({"content": "a", "reasoning": "thought"}, [{"type": "output_text", "text": "a"}]),
        (
            {"content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a"}]},
            [{"type": "output_text", "text": "a"}],
        ),
    ],
)
def test_assistant_messages(message: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    body = sent(USER, {"role": "assistant", **message}, USER)
    assert body["input"][1] == {"type": "message", "role": "assistant", "content": parts}


@pytest.mark.parametrize("content", ["", None, [], [{"type": "text", "text": ""}]])
def test_an_empty_assistant_message_is_left_out(content: Any) -> None:
    assert sent(USER, {"role": "assistant", "content": content}, USER)["input"] == [user("hi"), user("hi")]


def call(call_id: str | None = "c1", arguments: Any = '{"a":1}') -> dict[str, Any]:
    made = {"type": "function", "function": {"name": "look", "arguments": arguments}}
    return made if call_id is None else {"id": call_id, **made}


def test_tool_calls_follow_their_message_and_results_follow_the_calls() -> None:
    custom = {"id": "c2", "type": "custom", "custom": {"name": "sql", "input": "select"}}
    body = sent(
        USER,
        {"role": "assistant", "content": "wait", "tool_calls": [call(), custom]},
        {"role": "tool", "tool_call_id": "c1", "content": "r1"},
        {"role": "tool", "tool_call_id": "c2", "content": "r2"},
    )
    assert body["input"][1:] == [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "wait"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a":1}'},
        {"type": "custom_tool_call", "call_id": "c2", "name": "sql", "input": "select"},
        {"type": "function_call_output", "call_id": "c1", "output": "r1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "r2"},
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"), [("", "{}"), (None, "{}"), ({"a": 1}, '{"a":1}'), ("x", "x")]
)
def test_arguments_are_always_text(arguments: Any, expected: str) -> None:
    body = sent(USER, {"role": "assistant", "tool_calls": [call(arguments=arguments)]})
    assert body["input"][1]["arguments"] == expected


def test_a_history_of_many_calls_takes_no_more_than_linear_time() -> None:
    """If each result were searched for among all open calls, this would need minutes."""
    count = 50_000
    calls = [{"id": f"call_{n}", "function": {"name": "f", "arguments": "{}"}} for n in range(count)]
    results = [{"role": "tool", "tool_call_id": f"call_{n}", "content": ""} for n in reversed(range(count))]
    assert len(sent(USER, {"role": "assistant", "tool_calls": calls}, *results)["input"]) == 1 + 2 * count


def test_a_call_without_an_id_gets_one_that_is_the_same_every_time() -> None:
    messages = (
        USER,
        {"role": "assistant", "tool_calls": [call(None), call(None)]},
        {"role": "tool", "content": "first"},
        {"role": "tool", "content": "second"},
    )
    items = sent(*messages)["input"]
    one, two = items[1]["call_id"], items[2]["call_id"]
    assert one != two
    assert [(item["call_id"], item["output"]) for item in items[3:]] == [(one, "first"), (two, "second")]
    assert sent(*messages, USER)["input"][: len(items)] == items


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ("r", "r"),
        (None, ""),
        ([{"type": "text", "text": "r"}], [{"type": "input_text", "text": "r"}]),
        (
            [{"type": "image_url", "image_url": {"url": "data:x"}}],
            [{"type": "input_image", "image_url": "data:x"}],
        ),
    ],
)
def test_tool_results(content: Any, output: Any) -> None:
    body = sent(
        USER,
        {"role": "assistant", "tool_calls": [call()]},
        {"role": "tool", "tool_call_id": "c1", "content": content},
    )
    assert body["input"][2] == {"type": "function_call_output", "call_id": "c1", "output": output}


def test_legacy_calls_and_results_are_paired_by_name() -> None:
    body = sent(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": "1"},
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": "2"},
    )
    ids = [item["call_id"] for item in body["input"][1:]]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert ids[0] != ids[2]
    assert ids[0].startswith("call_fn_")


def test_names_of_speakers_are_dropped_unless_wanted() -> None:
    message = {"role": "user", "name": "Ada", "content": "hi"}
    assert sent(message)["input"] == [user("hi")]
    assert sent(message, options=ChatOptions(speaker_names=True))["input"] == [user("Ada: hi")]


def test_the_clients_body_is_not_changed_and_the_same_body_gives_the_same_bytes() -> None:
    body = chat(
        {"role": "system", "content": "S"},
        {"role": "user", "name": "a", "content": [{"type": "text", "text": "x"}]},
        {"role": "assistant", "tool_calls": [call(None)]},
        tools=[{"type": "function", "function": FUNCTION}],
        stop=["x"],
    )
    before = copy.deepcopy(body)
    first = chat_request.shape(body, OPTIONS, ChatOptions(speaker_names=True))
    assert body == before
    again = chat_request.shape(body, OPTIONS, ChatOptions(speaker_names=True))
    assert orjson.dumps(first.body) == orjson.dumps(again.body)


def test_tool_names_the_backend_refuses_are_shortened_and_remembered() -> None:
    result = shaped(tools=[{"type": "function", "function": {"name": "a.b"}}])
    assert list(result.asked.tool_names.values()) == ["a.b"]
