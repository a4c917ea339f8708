"""One Response object from an event stream: nothing lost, the client's own wishes restored."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from addon.protocol import errors
from addon.protocol.aggregate import Aggregate, ResponsesObject
from addon.protocol.asked import Asked
from addon.protocol.errors import ProtocolError
from tests.answer_events import OBJECT, USAGE, Event, Script, frame, text_of


def aggregated(events: list[Event], asked: Asked = OBJECT) -> Event:
    answer = ResponsesObject(asked)
    for event in events:
        assert answer.feed(frame(event)) == b""
    assert answer.done
    response: Event = orjson.loads(answer.finish())
    assert response == answer.response
    return response


FULL = Script().created().reasoning("th", "ink").message("Hel", "lo").call('{"a"', ":1}").end()


# The output


@pytest.mark.parametrize("output", ["all", "absent", None, [], [{"type": "message"}], "nonsense"])
@pytest.mark.parametrize("end", ["response.completed", "response.done"])
def test_the_output_is_the_items_whatever_the_terminal_event_says(output: Any, end: str) -> None:
    script = Script().created().reasoning("think").message("Hel", "lo").call("{}").end(end, output=output)
    response = aggregated(script.events)
    assert response["output"] == script.output
    assert (response["status"], response["object"]) == ("completed", "response")


def test_items_are_sorted_by_index() -> None:
    events = list(FULL.events)
    dones = [event for event in events if event["type"] == "response.output_item.done"]
    rest = [event for event in events if event["type"] == "response.created"]
    response = aggregated([*rest, *reversed(dones), Script().end(output=[]).events[0]])
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call"]


def test_as_many_items_in_the_terminal_event_win_but_lose_no_ciphertext() -> None:
    script = Script().created().reasoning("think", encrypted="cipher").message("Hello")
    final = [
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": None},
        {**script.output[1], "status": "completed", "phase": "final_answer"},
    ]
    reasoning, message = aggregated(script.end(output=final).events)["output"]
    assert reasoning["encrypted_content"] == "cipher"
    assert reasoning["summary"] == [{"type": "summary_text", "text": "think"}]
    assert message["phase"] == "final_answer"


def test_more_items_in_the_terminal_event_are_kept() -> None:
    script = Script().created().message("Hello")
    final = [*script.output, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    assert [item["type"] for item in aggregated(script.end(output=final).events)["output"]] == [
        "message",
        "function_call",
    ]


def test_a_done_item_without_its_text_is_filled_from_the_deltas() -> None:
    events = (
        Script().created().reasoning("think").message("Hel", "lo").call('{"a"', ":1}").end(output=[]).events
    )
    for event in events:
        if event["type"] == "response.output_item.done":
            event["item"] = {**event["item"], "summary": [], "content": [], "arguments": ""}
    reasoning, message, call = aggregated(events)["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "think"}]
    assert text_of({"output": [message]}) == "Hello"
    assert call["arguments"] == '{"a":1}'


def test_a_done_item_may_lack_what_its_announcement_said() -> None:
    events = Script().created().call("{}").end(output=[]).events
    for event in events:
        if event["type"] == "response.output_item.done":
            event["item"] = {"type": "function_call", "arguments": "{}"}
        if event["type"] == "response.function_call_arguments.done":
            event["name"] = None
    (call,) = aggregated(events)["output"]
    assert (call["name"], call["call_id"], call["id"]) == ("look", "call_1", "fc_1")


def test_annotations_survive_a_missing_done_item() -> None:
    events = Script().created().message("Hello").end(output=[]).without("response.output_item.done")
    citation = {"type": "url_citation", "url": "https://example.com", "start_index": 0, "end_index": 5}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "annotation_index": 0}
    events.insert(5, {"type": "response.output_text.annotation.added", **where, "annotation": citation})
    (message,) = aggregated(events)["output"]
    assert message["content"][0]["annotations"] == [citation]


def test_refusals_and_custom_calls_are_collected() -> None:
    script = Script().created()
    script.add("response.refusal.delta", item_id="m", output_index=0, content_index=0, delta="no")
    script.add("response.refusal.done", item_id="m", output_index=0, content_index=0, refusal="no way")
    call = {"id": "ct", "type": "custom_tool_call", "call_id": "c", "name": "sh", "input": ""}
    script.add("response.output_item.added", output_index=1, item=call)
    script.add("response.custom_tool_call_input.delta", item_id="ct", output_index=1, delta="ls")
    script.add("response.custom_tool_call_input.done", item_id="ct", output_index=1, input="ls")
    message, custom = aggregated(script.end(output=[]).events)["output"]
    assert message["content"] == [{"type": "refusal", "refusal": "no way"}]
    assert (custom["input"], custom["status"]) == ("ls", "completed")


# Incomplete and broken answers


def test_an_unfinished_item_is_part_of_an_incomplete_answer() -> None:
    events = Script().created().message("Hel", "lo").events[:6]
    reason = {"reason": "max_output_tokens"}
    end = Script().end("response.incomplete", output=[], status="incomplete", incomplete_details=reason)
    response = aggregated([*events, *end.events])
    assert (response["status"], response["incomplete_details"]) == ("incomplete", reason)
    assert response["output"][0]["status"] == "incomplete"
    assert text_of(response) == "Hello"


@pytest.mark.parametrize("kind", ["message", "call"])
def test_a_complete_answer_with_an_unfinished_item_is_a_protocol_error(kind: str) -> None:
    script = Script().created()
    script.message("Hel", "lo") if kind == "message" else script.call('{"a"', ":1}")
    cut = script.events[: -3 if kind == "message" else -2]
    with pytest.raises(ProtocolError, match="unfinished"):
        aggregated([*cut, *Script().end(output=[]).events])


def test_no_terminal_event_is_a_protocol_error() -> None:
    answer = ResponsesObject(OBJECT)
    for event in FULL.events[:-1]:
        answer.feed(frame(event))
    assert not answer.done
    with pytest.raises(ProtocolError):
        answer.finish()


@pytest.mark.parametrize(
    "event", [{"type": "error", "code": "slow_down", "message": "m"}, {"type": "response.failed"}]
)
def test_failures_are_not_for_the_aggregate(event: Event) -> None:
    with pytest.raises(ProtocolError):
        Aggregate().feed(frame(event))


def test_a_failure_is_an_error_body() -> None:
    assert b"upstream_cut" in ResponsesObject(OBJECT).fail(errors.network("cut"))


# The Response object


def test_required_members_are_there_when_the_backend_leaves_them_out() -> None:
    response = aggregated([{"type": "response.completed", "response": {}}])
    required = [
        "id",
        "object",
        "created_at",
        "model",
        "output",
        "parallel_tool_calls",
        "tool_choice",
        "tools",
    ]
    assert all(response[name] is not None for name in required)
    assert response["usage"] is None


def test_usage_is_complete_where_there_is_any() -> None:
    usage = {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": None, "extra": 1.5}
    response = aggregated(Script().created().message("x").end(usage=usage).events)
    assert response["usage"] == {
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
        "extra": 1.5,
    }
    known = {**USAGE, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1}}
    response = aggregated(Script().created().message("x").end(usage=known).events)
    assert response["usage"]["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 1}


def test_the_client_reads_its_own_wishes() -> None:
    echo = {
        "store": True,
        "metadata": {"k": "v"},
        "user": "me",
        "tools": [],
        "instructions": None,
        "temperature": 0.5,
    }
    asked = Asked(api="responses", stream=False, model="my-alias", echo=echo)
    anchor = {"type": "web_search", "external_web_access": False}
    events = Script().created().message("x").end(store=False, tools=[anchor], instructions="ours").events
    response = aggregated(events, asked)
    assert {name: response[name] for name in echo} == echo
    assert response["model"] == "my-alias"


def test_nothing_about_the_account_is_passed_on() -> None:
    ours = {
        "safety_identifier": "user-1",
        "user": "user-1",
        "prompt_cache_key": "t",
        "client_metadata": {"a": "b"},
    }
    response = aggregated(Script().created().message("x").end(**ours).events)
    assert [response.get(name) for name in ours] == [None] * 4


def test_tool_names_are_restored_for_the_client_only() -> None:
    asked = Asked(api="responses", stream=False, model="m", tool_names={"look": "a_very_long_name"})
    answer = ResponsesObject(asked)
    for event in FULL.events:
        answer.feed(frame(event))
    assert answer.response is not None
    assert answer.response["output"][2]["name"] == "a_very_long_name"
    assert answer.items[2]["name"] == "look"


# Hidden searches


def test_hidden_items_are_kept_for_replay() -> None:
    script = Script().created().search("ws_1").search("ws_2").message("Hello").search("ws_3").end(output=[])
    asked = Asked(api="responses", stream=False, model="m", anchored=True)
    answer = ResponsesObject(asked)
    for event in script.events:
        answer.feed(frame(event))
    assert answer.response is not None
    assert [item["id"] for item in answer.response["output"]] == ["msg_1"]
    assert [item["id"] for item in answer.items] == ["ws_1", "ws_2", "msg_1", "ws_3"]
    first, second, message, third = script.output
    assert answer.hidden == [([first, second], message), ([third], None)]


# What the state machine makes of odd events


def test_events_mean_the_item_of_their_id_when_the_index_is_missing() -> None:
    events = Script().created().message("Hel", "lo").end(output=[]).without("response.output_item.done")
    for event in events:
        event.pop("output_index", None)
    assert text_of(aggregated(events)) == "Hello"


def test_one_index_for_two_items_loses_neither() -> None:
    script = Script().created()
    first, second = Script().message("one", id="a"), Script().message("two", id="b")
    response = aggregated([*script.events, *first.events, *second.events, *Script().end(output=[]).events])
    assert text_of(response) == "onetwo"


def test_an_item_that_got_its_id_late_is_not_taken_twice() -> None:
    events = (
        Script()
        .created()
        .message("Hello")
        .end(output=[])
        .without("response.output_item.added", "response.content")
    )
    delta = next(event for event in events if event["type"] == "response.output_text.delta")
    del delta["item_id"]
    done = next(event for event in events if event["type"] == "response.output_item.done")
    assert text_of(aggregated([*events[:-1], done, events[-1]])) == "Hello"


def test_a_part_of_the_wrong_kind_says_nothing() -> None:
    part = {"type": "output_text", "text": "no"}
    odd = {"type": "response.reasoning_summary_part.added", "output_index": 0, "part": part}
    assert text_of(aggregated([odd, *FULL.events])) == "Hello"


def test_a_response_id_is_never_changed() -> None:
    events = Script().created().message("x").end(id="resp_2").events
    assert aggregated(events)["id"] == "resp_1"


def test_nothing_counts_after_the_terminal_event() -> None:
    late = Script().message("late", id="late").events
    assert text_of(aggregated([*FULL.events, *late])) == "Hello"


def test_memory_is_bounded_by_the_text_not_by_the_events() -> None:
    answer = Aggregate()
    for event in Script().created().message(*["x"] * 5000).events[:-3]:
        answer.feed(frame({**event, "obfuscation": "y" * 100}))
    (slot,) = answer.slots
    (part,) = slot.parts.values()
    assert part.text == "x" * 5000
    assert len(part._pieces) == 1
