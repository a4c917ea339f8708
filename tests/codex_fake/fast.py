"""Ready-made answers for benchmarks: the HTTP chunks of a whole stream, made once for each shape.

The shape is the `stream:` order in the request's raw bytes, found without parsing them; without one, twenty
short deltas. With a pace the deltas carry the moment of sending, so that a client on the same machine can
tell the delay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import lru_cache

from . import plan
from .answers import Answer
from .manners import Manners
from .plan import Stream

_DEFAULT = Stream(20, 8, 0.0)
_STAMP = b"STAMP---------------"  # wider than a monotonic clock in nanoseconds: a chunk keeps its length
_MANNERS = Manners()


@lru_cache(maxsize=32)
def _ready(stream: Stream) -> tuple[bytes, ...]:
    text = f"stream:{stream.deltas}x{stream.size}"
    body = {
        "model": "gpt-5.5",
        "input": [{"role": "user", "content": text}],
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low"},
    }
    answer = Answer(1, "fast", body, plan.make(body), (1000, 0), 1_795_000_000)
    chunks = []
    for event in answer.events():
        if stream.pace and event["type"] == "response.output_text.delta":
            event["delta"] = _STAMP.decode()
        if event["type"] == "response.completed":
            event["response"]["output"] = []
        frame = _MANNERS.encode(event)
        chunks.append(b"%x\r\n%s\r\n" % (len(frame), frame))
    return tuple(chunks)


async def chunks(raw: bytes) -> AsyncIterator[bytes]:
    """The answer to a request body as HTTP chunks, one event each."""
    at = raw.rfind(b"stream:")
    stream = _DEFAULT if at < 0 else Stream.find(raw[at : at + 60].decode("latin-1")) or _DEFAULT
    for chunk in _ready(stream):
        if stream.pace and _STAMP in chunk:
            await asyncio.sleep(stream.pace)
            chunk = chunk.replace(_STAMP, b"%20d" % time.monotonic_ns())
        yield chunk
