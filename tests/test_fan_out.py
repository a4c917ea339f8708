"""Several exchanges as one answer: interleaved, joined, and ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from mitmproxy import http

from addon.fan_out import AT_ONCE, FanOut
from addon.protocol import errors
from addon.protocol.asked import Asked
from addon.protocol.choices import choices
from addon.protocol.sse import Frame, encode
from tests.chat_answers import completed, created, done, message, text_delta


class Script:
    """An exchange that does what a test says: it stands still until `allow` lets it take its next step."""

    def __init__(self, chunks: Sequence[bytes] = (), *, status: int = 200, account: str = "main") -> None:
        self.response: http.Response | None = None
        self.chunk = b""
        self.broken = False
        self.sign_of_life = b""
        self.closed = False
        self.reads = 0
        self.steps = asyncio.Semaphore(0)
        self.fails_at: int | None = None
        self._status = status
        self._account = account
        self._chunks = list(chunks)

    def allow(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.steps.release()

    async def open(self) -> None:
        await self.steps.acquire()
        headers = {"x-openai-auth-account": self._account, "content-type": "text/event-stream"}
        self.response = http.Response.make(self._status, b"", headers)

    async def read(self) -> None:
        self.reads += 1
        await self.steps.acquire()
        if self.fails_at == 0:
            raise RuntimeError("a fault of ours")
        self.chunk = self._chunks.pop(0) if self._chunks else b""

    def close(self) -> None:
        self.closed = True


def fan(*scripts: Script, stream: bool = True, end: bytes = b"END") -> FanOut:
    exchanges: Any = scripts
    return FanOut(exchanges, lambda: end, stream=stream)


async def everything(fan_out: FanOut) -> list[bytes]:
    """Open and read to the end, with nothing standing still."""
    await fan_out.open()
    chunks = []
    while True:
        await fan_out.read()
        if not fan_out.chunk:
            return chunks
        chunks.append(fan_out.chunk)


def settled(fan_out: FanOut) -> int:
    assert fan_out.response
    return fan_out.response.status_code


async def test_chunks_come_as_they_are_ready_and_the_end_once() -> None:
    one, two = Script([b"1a", b"1b"]), Script([b"2a"])
    fan_out = fan(one, two)
    one.allow()
    two.allow()
    await fan_out.open()
    two.allow()
    await fan_out.read()
    assert fan_out.chunk == b"2a"
    one.allow()
    await fan_out.read()
    assert fan_out.chunk == b"1a"
    two.allow()  # its end
    one.allow(2)
    assert await rest(fan_out) == b"1bEND"


async def rest(fan_out: FanOut) -> bytes:
    parts = []
    while True:
        await fan_out.read()
        if not fan_out.chunk:
            return b"".join(parts)
        parts.append(fan_out.chunk)


async def test_nothing_is_read_ahead_of_the_client() -> None:
    one, two = Script([b"1"] * 9), Script([b"2"] * 9)
    for script in (one, two):
        script.allow(10)
    fan_out = fan(one, two)
    await fan_out.open()
    await fan_out.read()
    for _ in range(5):
        await asyncio.sleep(0)  # whoever could go on would
    assert (one.reads, two.reads) == (1, 1)


async def test_the_answer_begins_when_all_have_begun() -> None:
    one, two = Script(), Script()
    one.allow()
    fan_out = fan(one, two)
    opening = asyncio.create_task(fan_out.open())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not opening.done()
    two.allow()
    await opening
    assert settled(fan_out) == 200


async def test_a_few_look_for_an_answer_at_once() -> None:
    scripts = [Script() for _ in range(AT_ONCE + 1)]
    fan_out = fan(*scripts)
    opening = asyncio.create_task(fan_out.open())
    scripts[-1].allow()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not scripts[-1].response
    for script in scripts[:-1]:
        script.allow()
    await opening
    assert settled(fan_out) == 200


async def test_every_account_that_served_is_named() -> None:
    one, two, three = Script(account="main"), Script(account="work"), Script(account="main")
    for script in (one, two, three):
        script.allow(2)
    fan_out = fan(one, two, three)
    await fan_out.open()
    assert fan_out.response
    assert fan_out.response.headers["x-openai-auth-account"] == "main, work"


async def test_the_first_refusal_is_the_answer_and_ends_the_others() -> None:
    refused, waiting, opened = Script([b"no"], status=429), Script(), Script([b"yes"])
    opened.allow()
    fan_out = fan(waiting, refused, opened)
    refused.allow(2)
    await fan_out.open()
    assert settled(fan_out) == 429
    assert await rest(fan_out) == b"no"
    assert waiting.closed
    assert opened.closed


async def test_one_that_breaks_off_ends_all_without_an_end() -> None:
    one, two = Script([b"1a", b"error"]), Script([b"2a", b"2b"])
    fan_out = fan(one, two)
    one.allow(2)
    two.allow()
    await fan_out.open()
    await fan_out.read()
    assert fan_out.chunk == b"1a"
    one.broken = True
    one.allow()
    assert await rest(fan_out) == b"error"
    assert two.closed


async def test_a_client_that_leaves_ends_all() -> None:
    one, two = Script([b"1"]), Script([b"2"])
    fan_out = fan(one, two)
    one.allow()
    two.allow()
    await fan_out.open()
    reading = asyncio.create_task(fan_out.read())
    await asyncio.sleep(0)
    reading.cancel()
    fan_out.close()
    await asyncio.gather(reading, return_exceptions=True)
    assert one.closed
    assert two.closed
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)  # all of them end
    await fan_out.read()
    assert fan_out.chunk == b""


async def test_a_client_that_leaves_before_the_beginning_ends_all() -> None:
    one, two = Script(), Script()
    fan_out = fan(one, two)
    opening = asyncio.create_task(fan_out.open())
    await asyncio.sleep(0)
    opening.cancel()
    fan_out.close()
    await asyncio.gather(opening, return_exceptions=True)
    assert one.closed
    assert two.closed
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)


async def test_a_fault_in_one_is_raised() -> None:
    one, two = Script([b"1"]), Script([b"2"])
    one.fails_at = 0
    fan_out = fan(one, two)
    one.allow(2)
    two.allow()
    await fan_out.open()
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await fan_out.read()
    fan_out.close()
    assert two.closed


async def test_an_object_is_joined_when_all_are_whole() -> None:
    one, two = Script([b"{}"]), Script([b"{}"])
    one.allow()
    two.allow()
    fan_out = fan(one, two, stream=False, end=b'{"joined": 1}')
    assert await everything(fan_out) == [b'{"joined": 1}']
    assert fan_out.response
    assert fan_out.response.headers["content-length"] == "13"


async def test_objects_that_cannot_be_joined_are_an_error_in_openais_form() -> None:
    def join() -> bytes:
        raise errors.refuse(400, "No image.", code="image_not_generated")

    one = Script([b"{}"])
    one.allow()
    exchanges: Any = [one]
    fan_out = FanOut(exchanges, join, stream=False)
    (body,) = await everything(fan_out)
    assert settled(fan_out) == 400
    assert orjson.loads(body)["error"]["code"] == "image_not_generated"


# The choices themselves


def asked(stream: bool, api: Any = "chat", **members: Any) -> Asked:
    return Asked(api, stream, "gpt-mine", n=2, **members)


def events(text: str) -> list[Frame]:
    whole = [created(), text_delta(text), done(0, message(text)), completed(output=[message(text)])]
    return [Frame(encode(one)) for one in whole]


def fed(several: Any) -> list[bytes]:
    """Feed each output its own answer, one event of each in turn."""
    parts = []
    scripts = [events(f"text {number}") for number in range(len(several.outputs))]
    for step in zip(*scripts, strict=True):
        for output, frame in zip(several.outputs, step, strict=True):
            parts.append(output.feed(frame))
            if output.done:
                parts.append(output.finish())
    return parts


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_streamed_choices_share_an_id_and_know_their_places(api: str) -> None:
    several = choices(asked(True, api, include_usage=True), 2)
    data = b"".join(fed(several)) + several.join()
    frames = [part.removeprefix(b"data: ") for part in data.split(b"\n\n") if part]
    assert frames.count(b"[DONE]") == 1
    assert frames[-1] == b"[DONE]"
    chunks = [orjson.loads(frame) for frame in frames[:-1]]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    texts = ["", ""]
    reasons: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += (
                choice["text"] if api == "completions" else choice["delta"].get("content")
            ) or ""
            if choice["finish_reason"]:
                reasons[choice["index"]] = choice["finish_reason"]
    assert texts == ["text 0", "text 1"]
    assert reasons == {0: "stop", 1: "stop"}
    assert [chunk["usage"]["total_tokens"] for chunk in chunks if chunk["usage"]] == [30]
    assert chunks[-1]["choices"] == []


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_whole_choices_are_one_object(api: str) -> None:
    several = choices(asked(False, api), 2)
    fed(several)
    joined = orjson.loads(several.join())
    assert [choice["index"] for choice in joined["choices"]] == [0, 1]
    texts = [
        choice["text"] if api == "completions" else choice["message"]["content"]
        for choice in joined["choices"]
    ]
    assert texts == ["text 0", "text 1"]
    assert joined["usage"]["total_tokens"] == 30
