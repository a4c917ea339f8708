"""Tool calls in chat completion chunks: indexes, ids and names that every SDK can add up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chat_answers import (
    added,
    arguments_delta,
    asked,
    call,
    completed,
    created,
    custom,
    deltas,
    done,
    event,
    message,
    reasoning,
    stream,
)


def function(index: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def opening(index: int, name: str = "look", call_id: str = "call_1") -> dict[str, Any]:
    head = {"index": index, "id": call_id, "type": "function"}
    return {"tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]}


def test_a_function_call() -> None:
    events = [
        created(),
        added(0, call()),
        arguments_delta('{"a"'),
        arguments_delta(":1}"),
        event("response.function_call_arguments.done", output_index=0, arguments='{"a":1}', name=None),
        done(0, call(arguments='{"a":1}')),
        completed(),
    ]
    assert deltas(events) == [opening(0), function(0, '{"a"'), function(0, ":1}")]
    assert stream(events)[-2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("events", "rest"),
    [
        ([added(0, call()), done(0, call(arguments="{}"))], ["{}"]),
        ([added(0, call()), arguments_delta("{"), done(0, call(arguments="{}"))], ["{", "}"]),
        ([done(0, call(arguments="{}"))], ["{}"]),
        ([arguments_delta("{"), arguments_delta("}"), done(0, call(arguments="{}"))], ["{}"]),
    ],
    ids=["no deltas", "a start", "never announced", "announced late"],
)
def test_arguments_that_were_not_streamed_are_told_at_the_end(events: list[Any], rest: list[str]) -> None:
    assert deltas([created(), *events, completed()]) == [opening(0), *(function(0, text) for text in rest)]


def test_calls_count_from_zero_without_gaps_and_may_interleave() -> None:
    events = [
        created(),
        done(0, reasoning("x")),
        done(1, message("y")),
        added(2, call(call_id="A")),
        added(4, call(call_id="B")),
        arguments_delta("b", index=4),
        arguments_delta("a", index=2),
        done(4, call(arguments="b", call_id="B")),
        done(2, call(arguments="a", call_id="A")),
        completed(),
    ]
    found = [delta for delta in deltas(events) if "tool_calls" in delta]
    assert found == [opening(0, call_id="A"), opening(1, call_id="B"), function(1, "b"), function(0, "a")]


def test_the_client_gets_the_tool_name_it_knows() -> None:
    events = [created(), added(0, call("short")), done(0, call("short", "{}")), completed()]
    assert deltas(events, asked(tool_names={"short": "the.long.one"}))[0] == opening(0, "the.long.one")


CUSTOM = [
    created(),
    added(0, custom()),
    event("response.custom_tool_call_input.delta", output_index=0, delta="sel"),
    event("response.custom_tool_call_input.delta", output_index=0, delta="ect"),
    event("response.custom_tool_call_input.done", output_index=0, input="select"),
    done(0, custom(text="select")),
    completed(),
]


def test_a_custom_tool_call() -> None:
    head = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "sql", "input": ""}}
    pieces = [{"index": 0, "custom": {"input": text}} for text in ("sel", "ect")]
    expected = [{"tool_calls": [entry]} for entry in (head, *pieces)]
    assert deltas(CUSTOM, asked(custom_tools=frozenset({"sql"}))) == expected


def test_a_custom_call_of_a_tool_not_declared_so_is_one_function_call() -> None:
    assert deltas(CUSTOM) == [opening(0, "sql"), function(0, '{"input":"select"}')]


def test_a_legacy_client_gets_the_first_call_as_function_call() -> None:
    events = [
        created(),
        added(0, call()),
        arguments_delta("{}"),
        done(0, call(arguments="{}")),
        done(1, call("other", "{}", "call_2")),
        completed(),
    ]
    legacy = asked(legacy_functions=True)
    assert deltas(events, legacy) == [
        {"function_call": {"name": "look", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
    ]
    assert stream(events, legacy)[-2]["choices"][0]["finish_reason"] == "function_call"
