"""The frame decoder: the same frames however the bytes are cut, and the bytes of each frame kept as they came."""

from __future__ import annotations

import pytest

from addon.protocol.errors import ProtocolError
from addon.protocol.sse import Decoder, Frame, dumps, encode
from tests.answer_events import Script, as_bytes

SCRIPT = Script().created().reasoning("thïnk").message("Hä", "\u2028🙂", 'q"\\').call('{"a":1}').search()
STREAM = as_bytes(SCRIPT.end().events)
KINDS = as_bytes({event["type"]: {**event, "response": {}, "item": {}} for event in SCRIPT.events}.values())
"""One short event of every kind."""


def decoded(stream: bytes, size: int | None = None) -> list[Frame]:
    decoder = Decoder()
    chunks = [stream] if size is None else [stream[i : i + size] for i in range(0, len(stream), size)]
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    return frames + decoder.close()


def seen(frames: list[Frame]) -> list[tuple[str, bytes]]:
    return [(frame.type, frame.data) for frame in frames]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_split_at_every_byte_gives_the_same_frames(end: bytes) -> None:
    stream = KINDS.replace(b"\n", end)
    whole = decoded(stream)
    assert seen(whole) == seen(decoded(KINDS))
    for position in range(len(stream)):
        decoder = Decoder()
        frames = decoder.feed(stream[:position]) + decoder.feed(stream[position:]) + decoder.close()
        assert seen(frames) == seen(whole), position


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_bytes_may_trickle(end: bytes, size: int) -> None:
    assert seen(decoded(STREAM.replace(b"\n", end), size)) == seen(decoded(STREAM))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [None, 1, 7])
def test_frames_keep_their_bytes(end: bytes, size: int | None) -> None:
    stream = STREAM.replace(b"\n", end)
    assert b"".join(frame.raw for frame in decoded(stream, size)) == stream


def test_a_frame_is_given_as_soon_as_its_blank_line_is_there() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\n") == []
    assert [frame.data for frame in decoder.feed(b"\n")] == [b"1"]
    assert [frame.data for frame in decoder.feed(b"data: 2\n\ndata: 3")] == [b"2"]


def test_a_stream_of_lone_carriage_returns_does_not_wait_for_a_line_feed() -> None:
    assert [frame.data for frame in Decoder().feed(b"data: 1\r\r")] == [b"1"]


def test_half_a_crlf_is_waited_for() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\r\n\r") == []
    assert [frame.raw for frame in decoder.feed(b"\n")] == [b"data: 1\r\n\r\n"]


def test_line_ends_may_be_mixed() -> None:
    stream = b"data: 1\n\r\ndata: 2\r\n\ndata: 3\r\rdata: 4\n\n"
    assert [frame.data for frame in decoded(stream)] == [b"1", b"2", b"3", b"4"]
    assert [frame.data for frame in decoded(stream, 1)] == [b"1", b"2", b"3", b"4"]


def test_unicode_line_separators_end_no_line() -> None:
    data = '{"type":"x","d":"a\u2028b\u2029c\u0085d"}'
    (frame,) = decoded(f"data: {data}\n\n".encode())
    assert frame.json()["d"] == "a\u2028b\u2029c\u0085d"


def test_several_data_lines_are_joined_with_line_feeds() -> None:
    (frame,) = decoded(b'data: {"type":\ndata:"x"}\n\n')
    assert frame.data == b'{"type":\n"x"}'
    assert frame.type == "x"


@pytest.mark.parametrize("size", [None, 1, 2])
def test_a_byte_order_mark_is_skipped_also_in_pieces(size: int | None) -> None:
    frames = decoded(b"\xef\xbb\xbfdata: 1\n\n", size)
    assert [(frame.raw, frame.data) for frame in frames] == [(b"data: 1\n\n", b"1")]


def test_a_byte_order_mark_counts_at_the_start_only() -> None:
    assert [frame.data for frame in decoded(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n")] == [b"1", b""]


def test_extra_blank_lines_are_no_frames() -> None:
    assert [frame.raw for frame in decoded(b"\n\n\ndata: 1\n\n\n\ndata: 2\n\n\n")] == [
        b"data: 1\n\n",
        b"data: 2\n\n",
    ]


def test_comments_are_frames_without_type_and_data() -> None:
    (comment,) = decoded(b": keep-alive\n\n")
    assert (comment.type, comment.data, comment.is_comment) == ("", b"", True)
    assert not decoded(b"event: x\n\n")[0].is_comment


@pytest.mark.parametrize(
    ("raw", "type"),
    [
        (b'event: a\ndata: {"type":"b"}\n\n', "a"),
        (b'event:a\ndata: {"type":"b"}\n\n', "a"),
        (b'data: {"type":"b","x":1}\n\n', "b"),
        (b'data: { "type" : "b" }\n\n', "b"),
        (b'data: {"x":{"type":"inner"},"type":"b"}\n\n', "b"),
        (b'data: {"type":"\\u0062"}\n\n', "b"),
        (b'data: {"x":1}\n\n', ""),
        (b'data: {"type":7}\n\n', ""),
        (b"data: [1]\n\n", ""),
        (b"data: nonsense\n\n", ""),
        (b'event: a\nid: 3\ndata: {"type":"b"}\n\n', "a"),
        (b'event:\ndata: {"type":"b"}\n\n', "b"),
    ],
)
def test_type(raw: bytes, type: str) -> None:
    assert Frame(raw).type == type


def test_a_frame_remembers_what_it_parsed() -> None:
    frame = Frame(b'data: {"a":1}\n\n')
    assert frame.json() is frame.json()
    assert Frame(b"data: [1]\n\n").json() == {}


def test_done_marker() -> None:
    assert Frame(b"data: [DONE]\n\n").is_done
    assert not Frame(b"data: {}\n\n").is_done


def test_end_of_stream_ends_a_whole_frame() -> None:
    decoder = Decoder()
    assert decoder.feed(b'data: {"type":"x"}') == []
    assert [frame.raw for frame in decoder.close()] == [b'data: {"type":"x"}\n\n']
    assert decoder.close() == []


def test_a_frame_cut_in_its_json_says_nothing() -> None:
    decoder = Decoder()
    decoder.feed(b'event: response.completed\ndata: {"type":"response.completed","resp')
    assert decoder.close() == []


def test_an_event_over_the_limit_is_refused_whole_or_in_pieces() -> None:
    event = b"data: " + b"x" * 100 + b"\n\n"
    assert Decoder(limit=len(event)).feed(event)
    with pytest.raises(ProtocolError, match="more than 50 bytes"):
        Decoder(limit=50).feed(event)
    decoder = Decoder(limit=50)
    assert decoder.feed(event[:50]) == []
    with pytest.raises(ProtocolError) as error:
        decoder.feed(event[50:51])
    assert error.value.failure.status == 502


def test_a_trickle_of_a_large_event_is_searched_once() -> None:
    """Only new bytes are searched: the work is counted, because time would not be deterministic."""

    class Counting(bytearray):
        searched = 0

        def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
            Counting.searched += len(self) - start
            return super().find(sub, start)

    decoder = Decoder()
    decoder._rest = Counting()
    decoder._started = True
    size = 20_000
    for _ in range(size):
        decoder.feed(b"x")
    assert Counting.searched < 5 * size


def test_encode_names_the_type() -> None:
    assert encode({"type": "a", "n": 1}) == b'event: a\ndata: {"type":"a","n":1}\n\n'
    assert encode({"n": 1}) == b'data: {"n":1}\n\n'


def test_encode_lets_no_type_break_the_frame() -> None:
    (frame,) = decoded(encode({"type": "a\n\ndata: b"}))
    assert frame.json() == {"type": "a\n\ndata: b"}


def test_what_can_be_read_can_be_written() -> None:
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    assert dumps(deep) == b"[" * 401 + b"]" * 401
    assert dumps("\ud83d") == b'"\\ud83d"'
