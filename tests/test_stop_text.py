"""Stop sequences, cut on our side."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addon.protocol.chat_stream import ChatStream
from addon.protocol.errors import network
from addon.protocol.stop_text import StopCutter
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
    frames,
    message,
    stream,
    text_delta,
)


@pytest.mark.parametrize(
    ("pieces", "stops", "shown"),
    [
        (["ab", "STOP", "cd"], ("STOP",), "ab"),
        (["abST", "OPcd"], ("STOP",), "ab"),
        (["abST", "ART"], ("STOP",), "abSTART"),
        (["abST"], ("STOP",), "abST"),
        (["aXbY"], ("Y", "X"), "a"),
        (["STOP"], ("STOP",), ""),
        (["a", "a", "b"], ("ab",), "a"),
        (["x\n", "\nObs"], ("\n\n",), "x"),
    ],
)
def test_text_is_cut_at_the_first_stop_sequence(
    pieces: list[str], stops: tuple[str, ...], shown: str
) -> None:
    whole = "".join(pieces)
    events = [created(), *map(text_delta, pieces), done(0, message(whole)), completed()]
    assert "".join(delta["content"] for delta in deltas(events, asked(stop=stops))) == shown
    assert stream(events, asked(stop=stops))[-2]["choices"][0]["finish_reason"] == "stop"


def test_no_character_of_a_stop_sequence_is_shown_before_its_end_is_known() -> None:
    output = ChatStream(asked(stop=("</answer>",)))
    shown = b"".join(output.feed(frame) for frame in frames([created(), text_delta("yes</ans")]))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in ended(shown)] == ["", "yes"]


def test_arguments_are_never_cut() -> None:
    events = [
        created(),
        text_delta("ab"),
        done(0, message("ab")),
        added(1, call()),
        arguments_delta('{"b":1}', index=1),
        done(1, call(arguments='{"b":1}')),
        completed(),
    ]
    text, opening, arguments = deltas(events, asked(stop=("b",)))
    assert text == {"content": "a"}
    assert opening["tool_calls"][0]["id"] == "call_1"
    assert arguments["tool_calls"][0]["function"]["arguments"] == '{"b":1}'
    assert stream(events, asked(stop=("b",)))[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_after_a_cut_the_usage_still_comes() -> None:
    assert stream(HELLO, asked(stop=("l",), include_usage=True))[-2]["usage"]["completion_tokens"] == 5


def test_citations_in_text_that_was_cut_are_left_out() -> None:
    note = {"type": "url_citation", "start_index": 3, "end_index": 5, "title": "T", "url": "https://x"}
    events = [created(), done(0, message("Hello", annotations=[note])), completed()]
    assert deltas(events, asked(stop=("l",))) == [{"content": "He"}]


def test_text_held_back_for_a_stop_sequence_is_shown_before_the_error() -> None:
    output = ChatStream(asked(stop=("lots",)))
    data = b"".join(output.feed(frame) for frame in frames(HELLO[:4])) + output.fail(network("cut"))
    assert "".join(c["choices"][0]["delta"]["content"] for c in ended(data)[:-1]) == "Hello"


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.text("abc", max_size=4), max_size=8),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1),
)
def test_the_cut_does_not_depend_on_the_pieces(pieces: list[str], stops: list[str]) -> None:
    def cut(texts: list[str]) -> str:
        cutter = StopCutter(stops)
        return "".join(map(cutter.feed, texts)) + cutter.flush()

    text = "".join(pieces)
    shown = cut(pieces)
    assert shown == cut([text]) == cut(list(text))
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert shown == text or any(text.startswith(stop, len(shown)) for stop in stops)
