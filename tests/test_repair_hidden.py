"""What the client of a stream must not see: the backend's own events, our searches, our names for things."""

from __future__ import annotations

import pytest

from addon.protocol.asked import Asked
from addon.protocol.repair import ResponsesStream
from addon.protocol.sse import encode
from tests.answer_events import ANCHORED, STREAM, USAGE, Script, frame, repaired, types

FULL = Script().created().reasoning("th", "ink").message("Hel", "lo").call('{"a"', ":1}").end(usage=USAGE)


@pytest.mark.parametrize(
    "type", ["codex.rate_limits", "codex.response.metadata", "response.metadata", "keepalive", "x"]
)
def test_internal_events_are_swallowed(type: str) -> None:
    received, stream = repaired([{"type": type, "headers": {"x-codex-turn-state": "secret"}}, *FULL.events])
    assert types(received) == types(FULL.events)
    assert stream.feed(frame({"type": type})) == b""


def test_unknown_response_events_pass_as_they_came() -> None:
    stream = ResponsesStream(STREAM)
    stream.feed(frame(FULL.events[0]))
    event = {"type": "response.brand_new", "sequence_number": 1, "x": {"y": 1}}
    assert stream.feed(frame(event)) == encode(event)


def test_searches_nobody_asked_for_are_hidden_without_a_gap() -> None:
    script = Script().created().search("ws_1").reasoning("t").search("ws_2").message("Hel", "lo").call("{}")
    received, stream = repaired(script.end(output=[]).events, ANCHORED)
    assert not [event for event in received if "web_search" in str(event)]
    added = [event for event in received if event["type"] == "response.output_item.added"]
    assert [(event["output_index"], event["item"]["type"]) for event in added] == [
        (0, "reasoning"),
        (1, "message"),
        (2, "function_call"),
    ]
    by_item = {event["item_id"]: event["output_index"] for event in received if "item_id" in event}
    assert by_item == {"rs_1": 0, "msg_1": 1, "fc_1": 2}
    numbers = [event["sequence_number"] for event in received]
    assert numbers == list(range(len(received)))
    assert [[item["id"] for item in hidden] for hidden, _ in stream.hidden] == [["ws_1"], ["ws_2"]]
    assert [item["id"] for item in stream.items] == ["ws_1", "rs_1", "ws_2", "msg_1", "fc_1"]


def test_before_the_first_hidden_item_nothing_is_rewritten() -> None:
    script = Script().created().message("Hello").search().end(output=[])
    stream = ResponsesStream(ANCHORED)
    out = [stream.feed(frame(event)) for event in script.events]
    assert out[2:8] == [encode(event) for event in script.events[2:8]]


def test_a_search_of_the_clients_own_tool_passes() -> None:
    received, _ = repaired(Script().created().search().message("x").end().events)
    assert [t for t in types(received) if "web_search" in t] == [
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
    ]


def test_tool_names_are_the_clients() -> None:
    asked = Asked(api="responses", stream=True, model="gpt-6-astra", tool_names={"look": "mcp__long"})
    received, stream = repaired(FULL.events, asked)
    names = [
        event["item"]["name"] for event in received if event.get("item", {}).get("type") == "function_call"
    ]
    names += [event["name"] for event in received if event["type"] == "response.function_call_arguments.done"]
    assert names == ["mcp__long"] * 3
    assert stream.response is not None
    assert stream.response["output"][2]["name"] == "mcp__long"


def test_every_response_object_of_the_stream_is_the_clients() -> None:
    asked = Asked(
        api="responses", stream=True, model="alias", echo={"store": True, "tools": []}, anchored=True
    )
    events = Script().created().message("x").end().events
    for event in events:
        if "response" in event:
            event["response"] = {
                **event["response"],
                "tools": [{"type": "web_search"}],
                "safety_identifier": "user-1",
            }
    received, _ = repaired(events, asked)
    seen = [event["response"] for event in received if "response" in event]
    assert len(seen) == 3
    for response in seen:
        assert (response["model"], response["store"], response["tools"]) == ("alias", True, [])
        assert response["safety_identifier"] is None
