"""
Whether an answer has begun.

Most refusals of the backend arrive in an answer with status 200, so events are held back until one proves that
generation started. Until then another account may be asked; after it, never. An answer that is no event stream is a
refusal whatever its status says.

The rule: who does not ask for a stream loses nothing by waiting, so nothing is let go to them without that proof.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from accounts.models import Account
from addon.call import Opened
from addon.protocol import errors, sse
from addon.protocol.aggregate import FAILURES
from addon.protocol.errors import Failure, Refused
from addon.protocol.repair import proves_success
from addon.upstream.http_sse import Reply, UpstreamError

HELD_EVENTS = 16
"""Events held back at most from a client of a stream; an answer that says so much without a proof is let go.

Bytes say nothing here: the first two events repeat the request's instructions and tools, of any size.
"""

_NO_STREAM = ("application/json", "application/problem+json", "text/html")


async def outcome(
    account: Account, reply: Reply, aside: Callable[[Account, sse.Frame], None], *, hold: float | None
) -> Opened | Failure:
    """Read until the answer has begun, or is known to be a refusal. A refused reply is closed.

    `aside` is told the backend's events for its own program. After `hold` seconds a stream is let go without a proof
    (0: it waits); None: the client does not ask for a stream.
    """
    try:
        result = await _outcome(account, reply, aside, hold)
    except UpstreamError as error:
        result = error.failure
    except Refused as refused:
        result = refused.failure
    except BaseException:
        reply.close()
        raise
    if isinstance(result, Failure):
        reply.close()
    return result


async def _outcome(
    account: Account, reply: Reply, aside: Callable[[Account, sse.Frame], None], hold: float | None
) -> Opened | Failure:
    deadline = asyncio.get_running_loop().time() + hold if hold else None
    decoder, held, data = sse.Decoder(), list[sse.Frame](), b""
    refused = not 200 <= reply.status < 300 or _content_type(reply.headers) in _NO_STREAM
    if not refused:
        try:
            async with asyncio.timeout_at(deadline):
                data = await _first_bytes(reply)
        except TimeoutError:
            return Opened(account, reply, decoder, held)
        refused = data.lstrip().startswith(
            (b"{", b"[", b"<")
        )  # the backend's own streams have no content type
    if refused:
        return errors.from_http(reply.status, reply.headers, data + await reply.body(), now=time.time())
    while True:
        frames = decoder.feed(data) if data else decoder.close()
        for position, frame in enumerate(frames):
            kind = frame.type
            if kind in FAILURES:
                return errors.from_event(frame.json(), now=time.time())
            if kind.startswith("codex."):
                aside(account, frame)
            elif proves_success(kind):
                return Opened(account, reply, decoder, held + frames[position:])
            elif not frame.is_comment:
                held.append(frame)
        if not data:
            return errors.network("cut", "The backend's answer ended before it began.")
        if hold is not None and len(held) > HELD_EVENTS:
            return Opened(account, reply, decoder, held)
        try:
            async with asyncio.timeout_at(deadline):
                data = await reply.read()
        except TimeoutError:
            return Opened(account, reply, decoder, held)


async def _first_bytes(reply: Reply) -> bytes:
    """The first bytes that say something; b"" if none ever come."""
    first = b""
    while not first.strip() and (data := await reply.read()):
        first += data
    return first


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
