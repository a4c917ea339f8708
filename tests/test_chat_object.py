"""The chat completion object, one row of the mapping each."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from addon.protocol.chat_object import ChatObject, merge
from addon.protocol.errors import ProtocolError, network
from addon.protocol.usage_map import chat_usage, total
from tests.chat_answers import (
    added,
    asked,
    call,
    completed,
    completion,
    created,
    custom,
    done,
    frames,
    message,
    reasoning,
    text_delta,
)


def choice(*items: dict[str, Any], end: dict[str, Any] | None = None, **members: Any) -> Any:
    events = [created(), *(done(at, item) for at, item in enumerate(items)), end or completed()]
    return completion(events, asked(**members))["choices"][0]


def test_the_form_of_the_object() -> None:
    assert completion([created(), done(0, message("Hello")), completed(service_tier="default")]) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 2,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }


def test_all_text_parts_of_all_messages_are_the_content() -> None:
    parts = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    made = choice({**message(), "content": parts}, message("", "msg_2"), message("c", "msg_3"))
    assert made["message"]["content"] == "ab\n\nc"


def test_content_is_a_string_if_nothing_was_said() -> None:
    assert choice()["message"]["content"] == ""


def test_a_refusal_alone_has_null_content() -> None:
    made = choice(message(refusal="No."))
    assert (made["message"]["refusal"], made["message"]["content"]) == ("No.", None)


def test_tool_calls() -> None:
    made = choice(call("look", "{}", "A"), custom("sql", "select", "B"), custom_tools=frozenset({"sql"}))
    assert made["message"]["tool_calls"] == [
        {"id": "A", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        {"id": "B", "type": "custom", "custom": {"name": "sql", "input": "select"}},
    ]
    assert made["message"]["content"] is None
    assert made["finish_reason"] == "tool_calls"


def test_content_beside_tool_calls_stays() -> None:
    assert choice(message("wait"), call())["message"]["content"] == "wait"


def test_without_calls_there_is_no_tool_calls_member() -> None:
    assert "tool_calls" not in choice(message("x"))["message"]


def test_a_custom_call_of_a_tool_not_declared_so_is_a_function_call() -> None:
    made = choice(custom("sql", 'a"b'))
    assert orjson.loads(made["message"]["tool_calls"][0]["function"]["arguments"]) == {"input": 'a"b'}


def test_a_legacy_client_gets_the_first_call_only() -> None:
    made = choice(call("one", "{}", "A"), call("two", "{}", "B"), legacy_functions=True)
    assert made["message"]["function_call"] == {"name": "one", "arguments": "{}"}
    assert "tool_calls" not in made["message"]
    assert made["finish_reason"] == "function_call"


def test_a_legacy_client_without_a_call_is_told_stop() -> None:
    assert choice(message("x"), legacy_functions=True)["finish_reason"] == "stop"


def test_reasoning_content_joins_the_summaries_and_never_shows_the_ciphertext() -> None:
    made = choice(reasoning("a", "b"), reasoning("c", item_id="rs_2"), message("x"))
    assert made["message"]["reasoning_content"] == "a\n\nb\n\nc"
    assert b"secret" not in orjson.dumps(made)


@pytest.mark.parametrize(
    ("items", "members"), [([reasoning()], {}), ([reasoning("a")], {"expose_reasoning": False})]
)
def test_reasoning_content_is_absent_when_empty_or_unwanted(
    items: list[Any], members: dict[str, Any]
) -> None:
    assert "reasoning_content" not in choice(*items, **members)["message"]


def test_url_citations_become_annotations_in_the_whole_text() -> None:
    note = {"type": "url_citation", "start_index": 1, "end_index": 2, "title": "T", "url": "https://x"}
    made = choice(message("one"), message("two", "msg_2", annotations=[note, {"type": "file_path"}]))
    citation = {"start_index": 6, "end_index": 7, "title": "T", "url": "https://x"}
    assert made["message"]["annotations"] == [{"type": "url_citation", "url_citation": citation}]


def test_items_a_chat_client_cannot_be_shown_say_nothing() -> None:
    made = choice({"type": "web_search_call", "id": "ws"}, {"type": "image_generation_call", "id": "ig"})
    assert made["message"]["content"] == ""


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
)
def test_incomplete(reason: str, finish: str) -> None:
    end = completed("response.incomplete", incomplete_details={"reason": reason})
    assert choice(call(), end=end)["finish_reason"] == finish


def test_an_unfinished_message_is_shown_if_the_answer_is_incomplete() -> None:
    events = [created(), added(0, message()), text_delta("half"), completed("response.incomplete")]
    assert completion(events)["choices"][0]["message"]["content"] == "half"


def test_stop_cuts_the_text_and_not_the_arguments() -> None:
    made = choice(message("ab"), call("look", '{"b":1}'), stop=("b",))
    assert made["message"]["content"] == "a"
    assert made["message"]["tool_calls"][0]["function"]["arguments"] == '{"b":1}'
    assert choice(message("ab"), stop=("b",))["finish_reason"] == "stop"


def test_output_only_in_the_final_event() -> None:
    assert (
        completion([created(), completed(output=[message("x")])])["choices"][0]["message"]["content"] == "x"
    )


def test_an_object_needs_a_whole_answer() -> None:
    output = ChatObject(asked())
    with pytest.raises(ProtocolError):
        output.finish()


def test_a_failure_is_an_error_body() -> None:
    assert orjson.loads(ChatObject(asked()).fail(network("cut")))["error"]["code"] == "upstream_cut"


def test_the_output_protocol() -> None:
    output = ChatObject(asked())
    assert (output.stream, output.done, output.response) == (False, False, None)
    for frame in frames([created(), done(0, reasoning("a")), completed()]):
        output.feed(frame)
    assert output.done
    assert output.response is not None
    assert [item["type"] for item in output.items] == ["reasoning"]


def test_several_answers_merge_into_one_object() -> None:
    answers = []
    for index in (1, 0):
        output = ChatObject(asked(), index=index)
        for frame in frames([created(), done(0, message(f"answer {index}")), completed()]):
            output.feed(frame)
        answers.append(output.completion())
    merged = merge(answers)
    assert [one["message"]["content"] for one in merged["choices"]] == ["answer 0", "answer 1"]
    assert merged["usage"]["total_tokens"] == 30
    assert merged["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4


# Usage


def test_usage_has_both_details_objects_even_if_the_backend_names_none() -> None:
    usage = chat_usage({"input_tokens": 3, "output_tokens": 4})
    assert usage is not None
    assert usage["total_tokens"] == 7
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "audio_tokens": 0}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


def test_cache_write_tokens_pass() -> None:
    usage = chat_usage({"input_tokens_details": {"cache_write_tokens": 9}})
    assert usage is not None
    assert usage["prompt_tokens_details"]["cache_write_tokens"] == 9


@pytest.mark.parametrize("usage", [None, [], "x"])
def test_no_usage_is_null(usage: Any) -> None:
    assert chat_usage(usage) is None
    assert total([None, None]) is None
