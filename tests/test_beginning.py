"""What proves that an answer has begun, and what is a refusal although its status is 200."""

import asyncio
from typing import Any, cast

import orjson
import pytest

from accounts.models import Account
from addon import beginning
from addon.call import Opened
from addon.protocol import sse
from addon.protocol.errors import Cause, Failure

ACCOUNT = Account(id="1", label=None, type="oauth", account_id="a")
LIMIT = {"type": "usage_limit_reached", "message": "The usage limit has been reached"}
FAILED = {"type": "response.failed", "response": {"error": {"code": "usage_limit_reached", "message": "no"}}}
ITEM = {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}}
PROGRESS = {"type": "response.in_progress", "response": {"id": "resp_1"}}
SIZE = 64 * 1024
"""Bytes that the transport reads at once."""


class Reply:
    """An answer that arrives in pieces; after them it ends, or waits for ever."""

    def __init__(
        self, body: bytes, *, size: int = SIZE, content_type: str | None = None, ends: bool = True
    ) -> None:
        self.status = 200
        self.headers = {} if content_type is None else {"content-type": content_type}
        self.pieces = [body[at : at + size] for at in range(0, len(body), size)]
        self.closed = False
        self._ends = ends

    async def read(self) -> bytes:
        if not self.pieces and not self._ends:
            await asyncio.Event().wait()
        return self.pieces.pop(0) if self.pieces else b""

    async def body(self) -> bytes:
        rest, self.pieces = b"".join(self.pieces), []
        return rest

    def close(self) -> None:
        self.closed = True


def events(*said: dict[str, Any]) -> bytes:
    return b"".join(map(sse.encode, said))


def lifecycle(instructions: str) -> tuple[dict[str, Any], dict[str, Any]]:
    response = {"id": "resp_1", "object": "response", "instructions": instructions, "output": []}
    return (
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
    )


async def outcome(reply: Reply, *, stream: bool = True, hold: float = 0) -> Opened | Failure:
    aside: list[str] = []
    result = await beginning.outcome(
        ACCOUNT, cast(Any, reply), lambda _, frame: aside.append(frame.type), hold=hold if stream else None
    )
    assert reply.closed is isinstance(result, Failure)
    assert all(kind.startswith("codex.") for kind in aside)
    return result


async def failure(reply: Reply, *, hold: float = 0) -> Failure:
    result = await outcome(reply, hold=hold)
    assert isinstance(result, Failure)
    return result


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_is_one_however_much_of_the_request_is_repeated_before_it(stream: bool) -> None:
    result = await outcome(Reply(events(*lifecycle("x" * 100_000), FAILED)), stream=stream)
    assert isinstance(result, Failure)
    assert result.cause is Cause.LIMIT


async def test_what_was_held_back_is_all_there() -> None:
    said = (*lifecycle("x" * 100_000), ITEM)
    opened = await outcome(Reply(events(*said, ITEM)))
    assert isinstance(opened, Opened)
    rest = [
        frame for piece in cast(Any, opened.reply).pieces for frame in opened.decoder.feed(piece)
    ]  # what has not been read yet
    assert [frame.json() for frame in (*opened.frames, *rest)] == [*said, ITEM]


async def test_an_answer_that_says_much_without_a_proof_is_let_go_to_who_streams_it() -> None:
    many = [PROGRESS] * (beginning.HELD_EVENTS + 1)
    opened = await outcome(Reply(events(*many), ends=False))
    assert isinstance(opened, Opened)
    assert len(opened.frames) == len(many)


async def test_a_silent_answer_is_let_go_after_the_hold_timeout() -> None:
    opened = await outcome(Reply(events(PROGRESS), ends=False), hold=1e-6)
    assert isinstance(opened, Opened)
    assert [frame.json() for frame in opened.frames] == [PROGRESS]


@pytest.mark.parametrize("first", [b"", b"\n\n"])
async def test_an_answer_that_says_nothing_at_all_is_let_go_too(first: bytes) -> None:
    opened = await outcome(Reply(first, ends=False), hold=1e-6)
    assert isinstance(opened, Opened)
    assert opened.frames == []


async def test_json_that_does_not_come_is_waited_for() -> None:
    said = await failure(Reply(orjson.dumps({"error": LIMIT}), content_type="application/json"), hold=1e-6)
    assert said.cause is Cause.LIMIT


async def test_a_proof_or_a_refusal_that_is_there_already_counts_also_after_the_hold_timeout() -> None:
    assert (await failure(Reply(events(PROGRESS, FAILED), size=10), hold=1e-6)).cause is Cause.LIMIT


async def test_who_wants_the_whole_answer_waits_for_the_proof() -> None:
    many = [PROGRESS] * (beginning.HELD_EVENTS + 1)
    result = await outcome(Reply(events(*many, FAILED), size=10), stream=False)
    assert isinstance(result, Failure)


async def test_comments_and_the_backends_own_events_let_nothing_go() -> None:
    quiet = b": keep-alive\n\n" * 50 + events(*[{"type": "codex.rate_limits"}] * 50)
    assert (await failure(Reply(quiet + events(FAILED), size=100))).cause is Cause.LIMIT


@pytest.mark.parametrize("size", [1, SIZE])
@pytest.mark.parametrize("content_type", [None, "application/json"])
async def test_json_in_place_of_a_stream_is_read_as_the_refusal_it_is(
    content_type: str | None, size: int
) -> None:
    refusal = b"\n" + orjson.dumps({"error": LIMIT | {"resets_in_seconds": 3600}})
    read = await failure(Reply(refusal, size=size, content_type=content_type))
    assert (read.status, read.cause, read.message) == (429, Cause.LIMIT, LIMIT["message"])
    assert read.resets_at


@pytest.mark.parametrize("content_type", [None, "text/html; charset=utf-8"])
async def test_a_page_in_place_of_a_stream_is_named(content_type: str | None) -> None:
    read = await failure(Reply(b"<html><title>Sign in to the network</title>", content_type=content_type))
    assert (read.status, read.message) == (502, "Sign in to the network")


@pytest.mark.parametrize("content_type", [None, "text/event-stream", "application/octet-stream", ""])
async def test_events_are_a_stream_whatever_they_are_called(content_type: str | None) -> None:
    said = b"\xef\xbb\xbf" + events(ITEM)
    assert isinstance(await outcome(Reply(said, size=1, content_type=content_type)), Opened)


@pytest.mark.parametrize("body", [b"", b"\n\n", events(PROGRESS)])
async def test_an_answer_that_ends_before_it_begins_was_cut(body: bytes) -> None:
    assert (await failure(Reply(body))).code == "upstream_cut"
