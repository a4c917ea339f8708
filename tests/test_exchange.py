"""One exchange, with an answer that the test hands to it."""

import types
from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest

from accounts.models import Account
from addon.call import Call, Opened
from addon.dispatch import Dispatcher
from addon.exchange import Exchange
from addon.protocol import sse
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.asked import Asked
from addon.protocol.images import ImageObject
from addon.protocol.output import Output
from addon.protocol.repair import ResponsesStream

ASKED = Asked("responses", True, "gpt-5.5")
EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "resp_1", "object": "response", "output": []}},
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
    },
    {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}],
        },
    },
    {"type": "response.completed", "response": {"id": "resp_1", "object": "response", "output": []}},
]


class Reply:
    """A reply whose whole stream has come; `fate` is what became of its connection."""

    status = 200

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.fate = ""

    async def read(self) -> bytes:
        raise AssertionError("everything is there already")

    def release(self) -> None:
        self.fate = "released"

    def close(self) -> None:
        self.fate = "closed"


def exchange(
    events: list[dict[str, Any]],
    reply: Reply,
    *,
    http2: bool = False,
    output: Output | None = None,
    completed: Callable[..., None] = lambda *_: None,
    unfinished: Callable[..., None] = lambda *_: None,
    dropped: tuple[str, ...] = (),
) -> Exchange:
    opened = Opened(
        Account(id="1", label=None, type="oauth", account_id="a"),
        cast(Any, reply),
        sse.Decoder(),
        sse.Decoder().feed(b"".join(map(sse.encode, events))),
    )

    async def begin(call: Call) -> Opened:
        return opened

    dispatcher = types.SimpleNamespace(
        open=begin, completed=completed, unfinished=unfinished, interrupted=lambda *_: None
    )
    call = types.SimpleNamespace(
        shaped=types.SimpleNamespace(asked=ASKED, dropped=dropped), manner="streaming", speaks_codex=False
    )
    return Exchange(
        cast(Dispatcher, dispatcher), cast(Call, call), output or ResponsesStream(ASKED), http2=http2
    )


async def run(one: Exchange) -> bytes:
    await one.open()
    parts = []
    while True:
        await one.read()
        if not one.chunk:
            one.close()
            return b"".join(parts)
        parts.append(one.chunk)


async def test_a_stream_that_is_complete_at_once_is_still_sent_as_a_stream() -> None:
    one = exchange(EVENTS, Reply())
    assert b"response.completed" in await run(one)
    assert one.response
    assert "content-length" not in one.response.headers
    assert one.response.headers["transfer-encoding"] == "chunked"


async def test_dropped_members_are_named_as_far_as_a_header_goes() -> None:
    one = exchange(EVENTS, Reply(), dropped=tuple(f"m{n}" for n in range(100_000)))
    await run(one)
    assert one.response
    names = one.response.headers["x-openai-auth-dropped"].split(",")
    assert (names[0], names[-2:]) == ("m0", ["m63", "and 99936 more"])


async def test_a_stream_may_be_given_a_comment_while_it_is_silent_and_an_object_nothing() -> None:
    stream, whole = exchange(EVENTS, Reply()), exchange(EVENTS, Reply(), output=ResponsesObject(ASKED))
    await run(stream)
    await run(whole)
    assert stream.sign_of_life.startswith(b":")
    assert stream.sign_of_life.endswith(b"\n")
    assert b"\n\n" not in stream.sign_of_life
    assert whole.sign_of_life == b""


async def test_a_stream_over_http2_has_no_framing_header() -> None:
    one = exchange(EVENTS, Reply(), http2=True)
    await run(one)
    assert one.response
    assert not {"content-length", "transfer-encoding"} & set(one.response.headers)


async def test_the_connection_of_a_complete_answer_is_kept() -> None:
    reply = Reply()
    await run(exchange(EVENTS, reply))
    assert reply.fate == "released"


async def test_the_connection_of_a_broken_answer_is_closed() -> None:
    reply = Reply()
    failed = {"type": "error", "error": {"type": "server_error", "code": "server_error", "message": "no"}}
    answer = await run(exchange([*EVENTS[:2], failed], reply))
    assert reply.fate == "closed"
    last = answer.strip().split(b"\n\n")[-1].split(b"data: ")[-1]
    assert orjson.loads(last)["error"]["message"] == "no"


@pytest.mark.parametrize("ending", ["failed", "left"])
async def test_what_an_answer_had_finished_is_noted_when_it_does_not_end(ending: str) -> None:
    noted: list[list[dict[str, Any]]] = []
    failed = {"type": "error", "error": {"type": "server_error", "code": "server_error", "message": "no"}}
    one = exchange(
        [*EVENTS[:3], *([failed] if ending == "failed" else [])],
        Reply(),
        unfinished=lambda _, output: noted.append([*output.items]),
    )
    await one.open()
    one.close()
    one.close()
    assert [[item["id"] for item in items] for items in noted] == [["msg_1"]]


async def test_a_whole_answer_that_is_not_what_was_asked_for_counts_as_whole() -> None:
    reply, done = Reply(), list[Output]()
    output = ImageObject(Asked("responses", False, "gpt-image-1"))
    one = exchange(EVENTS, reply, output=output, completed=lambda _call, _opened, made: done.append(made))
    answer = await run(one)
    assert one.response
    assert one.response.status_code == 400
    assert "hello" in orjson.loads(answer)["error"]["message"]
    assert reply.fate == "released"
    assert done == [output]
