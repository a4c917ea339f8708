"""Chat completion chunks, one row of the mapping each."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol.asked import Asked
from addon.protocol.chat_ids import AnswerName
from addon.protocol.chat_stream import ChatStream
from addon.protocol.errors import ProtocolError, network
from addon.protocol.sse import Decoder, encode
from tests.chat_answers import (
    HELLO,
    added,
    arguments_delta,
    asked,
    call,
    completed,
    created,
    deltas,
    done,
    ended,
    event,
    frames,
    message,
    reasoning,
    stream,
    summary_delta,
    text_delta,
)


def test_the_form_of_a_chunk() -> None:
    first, *_ = stream(HELLO)
    assert first == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "gpt-x",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": ""},
                "finish_reason": None,
                "logprobs": None,
            }
        ],
    }


def test_every_chunk_has_the_same_id_time_and_model() -> None:
    *chunks, _ = stream(HELLO)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


def test_text_deltas_pass_and_done_texts_are_not_repeated() -> None:
    assert deltas(HELLO) == [{"content": "Hel"}, {"content": "lo"}]


def test_a_whole_answer_ends_with_finish_reason_and_done() -> None:
    *_, last, marker = stream(HELLO)
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}]
    assert marker == "[DONE]"


def test_empty_deltas_make_no_chunk() -> None:
    assert deltas([created(), text_delta(""), text_delta("a"), completed(output=[message("a")])]) == [
        {"content": "a"}
    ]


@pytest.mark.parametrize(
    "events",
    [
        [done(0, message("Hello"))],
        [
            event("response.output_text.done", output_index=0, content_index=0, text="Hello"),
            done(0, message()),
        ],
        [text_delta("Hel"), done(0, message("Hello"))],
        [added(0, message())],
        [],
    ],
    ids=["only the item", "only the text", "half the deltas", "only the end, announced", "only the end"],
)
def test_text_that_came_without_its_deltas_is_told_once(events: list[Any]) -> None:
    whole = [created(), *events, completed(output=[message("Hello")])]
    assert "".join(delta["content"] for delta in deltas(whole)) == "Hello"


def test_messages_are_separated_by_a_blank_line() -> None:
    events = [
        created(),
        text_delta("one"),
        done(0, {**message("one"), "phase": "commentary"}),
        text_delta("two", index=1),
        done(1, message("two", "msg_2")),
        completed(),
    ]
    assert deltas(events) == [{"content": "one"}, {"content": "\n\n"}, {"content": "two"}]


def test_parts_of_one_message_are_joined_without_separator() -> None:
    parts = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    events = [
        created(),
        text_delta("a"),
        text_delta("b", part=1),
        done(0, {**message(), "content": parts}),
        completed(),
    ]
    assert deltas(events) == [{"content": "a"}, {"content": "b"}]


def test_parts_of_which_one_begins_like_another_are_both_told() -> None:
    texts = [
        event("response.output_text.done", output_index=0, content_index=at, text=text)
        for at, text in enumerate(("a", "ab"))
    ]
    parts = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "ab"}]
    events = [created(), *texts, done(0, {**message(), "content": parts}), completed()]
    assert deltas(events) == [{"content": "a"}, {"content": "ab"}]


def test_a_refusal() -> None:
    refused = event("response.refusal.delta", output_index=0, content_index=0, delta="No.")
    assert deltas([created(), refused, done(0, message(refusal="No.")), completed()]) == [{"refusal": "No."}]


def test_reasoning_is_told_as_text_with_a_blank_line_between_parts() -> None:
    events = [
        created(),
        added(0, reasoning()),
        summary_delta("a"),
        summary_delta("b"),
        summary_delta("c", part=1),
        done(0, reasoning("ab", "c")),
        done(1, message("x")),
        completed(),
    ]
    thoughts = [{"reasoning_content": text} for text in ("a", "b", "\n\n", "c")]
    assert deltas(events) == [*thoughts, {"content": "x"}]


def test_raw_reasoning_text_is_told_too() -> None:
    raw = event("response.reasoning_text.delta", output_index=0, content_index=0, delta="raw")
    item = {**reasoning(), "content": [{"type": "reasoning_text", "text": "raw"}]}
    assert deltas([created(), raw, done(0, item), completed()]) == [{"reasoning_content": "raw"}]


def test_reasoning_is_kept_back_by_setting() -> None:
    events = [created(), summary_delta("a"), done(0, reasoning("a")), completed()]
    assert deltas(events, asked(expose_reasoning=False)) == []


def test_searches_and_other_items_say_nothing() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    image = {"type": "image_generation_call", "id": "ig_1", "result": "abc"}
    events = [
        created(),
        added(0, search),
        event("response.web_search_call.searching", output_index=0, item_id="ws_1"),
        done(0, search),
        done(1, image),
        done(2, message("x")),
        completed(),
    ]
    assert deltas(events) == [{"content": "x"}]


def test_codex_events_comments_and_broken_data_say_nothing() -> None:
    output = ChatStream(asked())
    noise = b'data: {"type":"codex.rate_limits"}\n\n: hello\n\ndata: [DONE]\n\ndata: {broken\n\ndata: [1]\n\n'
    assert b"".join(output.feed(frame) for frame in Decoder().feed(noise)) == b""


def test_citations_come_once_before_the_end_and_count_in_the_whole_text() -> None:
    note = {"type": "url_citation", "start_index": 0, "end_index": 3, "title": "T", "url": "https://x"}
    events = [
        created(),
        text_delta("one"),
        done(0, message("one")),
        text_delta("two", index=1),
        event("response.output_text.annotation.added", output_index=1, content_index=0, annotation=note),
        done(1, message("two", "msg_2", annotations=[note, {"type": "file_citation"}])),
        completed(),
    ]
    citation = {"start_index": 5, "end_index": 8, "title": "T", "url": "https://x"}
    assert deltas(events)[-1] == {"annotations": [{"type": "url_citation", "url_citation": citation}]}


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        (None, "length"),
    ],
)
def test_an_incomplete_answer_says_why_even_with_calls(details: Any, reason: str) -> None:
    events = [
        created(),
        done(0, call(arguments="{")),
        completed("response.incomplete", incomplete_details=details),
    ]
    assert stream(events)[-2]["choices"][0]["finish_reason"] == reason


def test_usage_is_its_own_chunk_without_choices_and_null_before() -> None:
    *chunks, usage, marker = stream(HELLO, asked(include_usage=True))
    assert marker == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["id"] == "chatcmpl-1"
    assert usage["usage"] == {
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
    }


def test_usage_nobody_asked_for_is_not_sent() -> None:
    assert all("usage" not in chunk for chunk in stream(HELLO)[:-1])


def test_the_service_tier_is_the_upstream_one() -> None:
    assert stream([*HELLO[:-1], completed(service_tier="priority")])[-2]["service_tier"] == "priority"


def test_the_words_of_a_websocket_end_an_answer_too() -> None:
    assert stream([*HELLO[:-1], completed("response.done")])[-1] == "[DONE]"


# Failure


def test_an_answer_that_breaks_off_ends_with_an_error_and_nothing_else() -> None:
    output = ChatStream(asked())
    data = b"".join(output.feed(frame) for frame in frames(HELLO[:3])) + output.fail(network("cut"))
    *chunks, last = ended(data)
    assert last["error"]["code"] == "upstream_cut"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)


def test_half_an_answer_cannot_be_finished() -> None:
    output = ChatStream(asked())
    for frame in frames(HELLO[:3]):
        output.feed(frame)
    assert ended(output.finish())[-1]["error"]["code"] == "upstream_cut"


def test_an_answer_that_lost_an_item_is_a_protocol_error() -> None:
    output = ChatStream(asked())
    *events, end = frames([created(), added(0, message()), text_delta("a"), completed()])
    for frame in events:
        output.feed(frame)
    with pytest.raises(ProtocolError):
        output.feed(end)


# What the exchange reads


def test_the_output_protocol() -> None:
    output = ChatStream(asked())
    *events, end = frames([created(), done(0, reasoning("x")), done(1, message("Hello")), completed()])
    for frame in events:
        output.feed(frame)
    assert (output.stream, output.done, output.response) == (True, False, None)
    output.feed(end)
    assert output.done
    assert output.response is not None
    assert output.response["status"] == "completed"
    assert [item["type"] for item in output.items] == ["reasoning", "message"]
    assert output.items[0]["encrypted_content"] == "secret"


def test_nothing_comes_after_the_end() -> None:
    output = ChatStream(asked())
    for frame in frames(HELLO):
        output.feed(frame)
    assert b"".join(output.feed(frame) for frame in frames([text_delta("more", index=3)])) == b""


def test_several_choices_share_an_identity_and_differ_in_their_index() -> None:
    known = AnswerName("chatcmpl-all", 1, "gpt-x")
    choices = [ChatStream(asked(include_usage=True), index=i, known=known) for i in (0, 1)]
    data = b""
    for choice in choices:
        data += b"".join(choice.feed(frame) for frame in frames(HELLO)) + choice.close_choice()
    chunks = ended(data)
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-all"}
    assert [c["choices"][0]["index"] for c in chunks if c["choices"][0]["finish_reason"]] == [0, 1]
    assert ended(choices[0].usage_chunk(choices[0].usage))[0]["choices"] == []


# Odd beginnings


def test_a_stream_that_begins_with_a_delta_still_gets_an_identity() -> None:
    first, *_ = stream([text_delta("x"), completed(output=[message("x")])])
    assert first["id"].startswith("chatcmpl-")
    assert len(first["id"]) > len("chatcmpl-")
    assert first["created"] == 7


def test_a_client_that_named_no_model_hears_the_upstream_name() -> None:
    output = ChatStream(Asked("chat", True, None))
    assert ended(output.feed(frames([created()])[0]))[0]["model"] == "gpt-upstream"


def test_the_same_bytes_come_out_wherever_the_stream_is_cut() -> None:
    events = [
        created(),
        summary_delta("thönk"),
        done(0, reasoning("thönk")),
        text_delta("Grüße 🎉 ST", index=1),
        text_delta("ART", index=1),
        done(1, message("Grüße 🎉 START")),
        added(2, call()),
        arguments_delta("{}", index=2),
        done(2, call(arguments="{}")),
        completed(),
    ]
    raw = b"".join(map(encode, events))

    def run(*pieces: bytes) -> bytes:
        decoder, output = Decoder(), ChatStream(asked(stop=("STOP",), include_usage=True))
        found = b"".join(output.feed(frame) for piece in pieces for frame in decoder.feed(piece))
        return found + output.finish()

    whole = run(raw)
    assert all(run(raw[:at], raw[at:]) == whole for at in range(len(raw)))
    assert run(*(raw[at : at + 1] for at in range(len(raw)))) == whole
