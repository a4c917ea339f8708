"""What the official SDK makes of our chat answers."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from addon.protocol.chat_object import ChatObject
from addon.protocol.chat_stream import ChatStream
from addon.protocol.completions import CompletionObject, CompletionStream
from addon.protocol.errors import network
from tests.chat_answers import (
    added,
    arguments_delta,
    asked,
    call,
    completed,
    created,
    custom,
    done,
    event,
    frames,
    message,
    reasoning,
    summary_delta,
    text_delta,
)
from tests.openai_sdk import client

USER: Any = [{"role": "user", "content": "hi"}]
NOTE = {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "T", "url": "https://x"}
ANSWER = [
    created(),
    added(0, reasoning()),
    summary_delta("one"),
    summary_delta("two", part=1),
    done(0, reasoning("one", "two")),
    added(1, message()),
    text_delta("Hello ", index=1),
    text_delta("you", index=1),
    done(1, message("Hello you", annotations=[NOTE])),
    added(2, call(call_id="A")),
    added(3, call("other", call_id="B")),
    arguments_delta('{"b":', index=3),
    arguments_delta('{"a":1}', index=2),
    arguments_delta("2}", index=3),
    done(2, call(arguments='{"a":1}', call_id="A")),
    done(3, call("other", arguments='{"b":2}', call_id="B")),
    completed(),
]


def streamed(events: list[Any], output: Any = None) -> bytes:
    output = output or ChatStream(asked(include_usage=True))
    return b"".join(output.feed(frame) for frame in frames(events)) + output.finish()


def whole(events: list[Any], output: Any = None) -> bytes:
    output = output or ChatObject(asked())
    for frame in frames(events):
        output.feed(frame)
    return output.finish()  # type: ignore[no-any-return]


def accumulated(body: bytes) -> Any:
    with client(body).chat.completions.stream(model="m", messages=USER) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


def test_the_stream_helper_adds_everything_up() -> None:
    final = accumulated(streamed(ANSWER))
    message = final.choices[0].message
    assert message.content == "Hello you"
    assert message.reasoning_content == "one\n\ntwo"
    assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls] == [
        ("A", "look", '{"a":1}'),
        ("B", "other", '{"b":2}'),
    ]
    assert message.annotations[0].url_citation.url == "https://x"
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage.prompt_tokens_details.cached_tokens == 4


def test_the_stream_adds_up_to_the_object() -> None:
    final = accumulated(streamed(ANSWER)).choices[0].message.to_dict()
    body = whole(ANSWER)
    single = client(body, content_type="application/json").chat.completions.create(model="m", messages=USER)
    expected = single.choices[0].message.to_dict()
    for name in ("content", "reasoning_content", "annotations"):
        assert final[name] == expected[name]
    for one, other in zip(final["tool_calls"], expected["tool_calls"], strict=True):
        assert (one["id"], one["function"]["arguments"]) == (other["id"], other["function"]["arguments"])


def test_the_raw_iterator_sees_chunks_with_one_choice_or_none() -> None:
    chunks = list(client(streamed(ANSWER)).chat.completions.create(model="m", messages=USER, stream=True))
    assert [len(chunk.choices) for chunk in chunks] == [1] * (len(chunks) - 1) + [0]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15


def test_the_object_has_what_users_read_without_a_guard() -> None:
    body = whole(ANSWER)
    made = client(body, content_type="application/json").chat.completions.create(model="m", messages=USER)
    assert made.choices[0].message.content == "Hello you"
    assert made.usage is not None
    assert made.usage.completion_tokens_details is not None
    assert made.usage.completion_tokens_details.reasoning_tokens == 2


def test_custom_tool_calls_do_not_break_the_helper() -> None:
    events = [
        created(),
        added(0, custom()),
        event("response.custom_tool_call_input.delta", output_index=0, delta="select"),
        done(0, custom(text="select")),
        completed(),
    ]
    body = streamed(events, ChatStream(asked(custom_tools=frozenset({"sql"}))))
    with client(body).chat.completions.stream(model="m", messages=USER) as stream:
        for _ in stream:
            pass
        # The helper's last step knows function calls only, from OpenAI itself too; what it added up is right.
        choice: Any = stream.current_completion_snapshot.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].custom == {"name": "sql", "input": "select"}


def test_a_legacy_function_call() -> None:
    events = [created(), added(0, call()), arguments_delta("{}"), done(0, call(arguments="{}")), completed()]
    final = accumulated(streamed(events, ChatStream(asked(legacy_functions=True))))
    assert final.choices[0].message.function_call.arguments == "{}"
    assert final.choices[0].finish_reason == "function_call"


def test_parsed_output_of_a_schema() -> None:
    events = [created(), text_delta('{"a": 1'), text_delta("}"), done(0, message('{"a": 1}')), completed()]
    assert accumulated(streamed(events)).choices[0].message.content == '{"a": 1}'


def test_an_incomplete_answer_is_a_length_error_for_the_helper() -> None:
    body = streamed([*ANSWER[:-1], completed("response.incomplete")])
    with pytest.raises(openai.LengthFinishReasonError):
        accumulated(body)


def test_an_answer_that_breaks_off_raises() -> None:
    output = ChatStream(asked())
    body = b"".join(output.feed(frame) for frame in frames(ANSWER[:8])) + output.fail(network("cut"))
    chunks = client(body).chat.completions.create(model="m", messages=USER, stream=True)
    seen: list[str] = []
    with pytest.raises(openai.APIError, match="closed the connection"):
        seen.extend(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "".join(seen) == "Hello you"


def test_legacy_completions() -> None:
    body = streamed(ANSWER[:9] + ANSWER[-1:], CompletionStream(asked(include_usage=True)))
    chunks = list(client(body).completions.create(model="m", prompt="x", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "Hello you"
    assert chunks[-1].usage is not None
    body = whole(ANSWER[:9] + ANSWER[-1:], CompletionObject(asked()))
    made = client(body, content_type="application/json").completions.create(model="m", prompt="x")
    assert made.choices[0].text == "Hello you"
