"""
One client request's whole life, from the shaped body to the last byte.

`open` finds an account that begins to answer (addon/dispatch.py) and settles the head of the answer. `read` then
turns the backend's events into the client's bytes, one network chunk at a time, through an `Output`. A client that
did not ask for a stream gets everything at the end of `open`.

The rule: the client always gets an answer. Before the first byte a failure is an HTTP error in OpenAI's form; after
it, the error frames that make every SDK raise. Nothing is replayed once the client has seen a byte.
"""

import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any

from mitmproxy import http
from mitmproxy.net.http import status_codes

from addon.answer import Answer
from addon.call import Call, Opened, Unserved
from addon.dispatch import Dispatcher
from addon.protocol import codex_cli, errors, sse
from addon.protocol.aggregate import FAILURES
from addon.protocol.errors import Cause, Failure, Refused
from addon.protocol.output import Output
from addon.protocol.verbatim import Verbatim
from addon.upstream.http_sse import UpstreamError

logger = logging.getLogger(__name__)

ACCOUNT_HEADER = "x-openai-auth-account"
ATTEMPTS_HEADER = "x-openai-auth-attempts"
DROPPED_HEADER = "x-openai-auth-dropped"
NAMED = 64
"""Dropped members that the header names; clients take no header of any length."""
COMMENT = b": keep-alive\n"
"""A line of a stream that every client skips (openai-compat 1.9). No empty line follows: older openai-go would take
that for the end of an event, and fail at its emptiness."""


class Exchange(Answer):
    """Answers one request with the events of one account."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        call: Call,
        output: Output,
        *,
        http2: bool = False,
        chunked: bool = True,
    ) -> None:
        super().__init__()
        self._dispatcher = dispatcher
        self._call = call
        self._output = output
        self._http2 = http2
        self._chunked = chunked and not http2
        self._opened: Opened | None = None
        self.broken = False
        """The answer broke off, and its last bytes say so."""

    async def open(self) -> None:
        try:
            self._opened = await self._dispatcher.open(self._call)
            if self._opened.verbatim:
                self._output = Verbatim(self._output)
            if self._output.stream:
                self._ready = self._translate(self._opened.frames)
            else:
                self._ready = await self._whole(self._opened)
                self._over = True
            if self._output.stream and not self._opened.verbatim:  # whose chunks may end within an event
                self.sign_of_life = COMMENT
            self._answer(200, self._success_headers(self._opened))
        except Unserved as unserved:
            self._refuse(unserved.failure, self._attempt_headers(unserved), final=unserved.final)
        except Refused as refused:
            served_by = {ACCOUNT_HEADER: self._opened.account.name} if self._opened else {}
            self._refuse(refused.failure, served_by, final=False)
        except Exception:
            logger.exception("A request could not be answered.")
            self._refuse(
                errors.refuse(
                    500,
                    "The proxy failed to handle this request; its log says why.",
                    code="proxy_error",
                    type="server_error",
                ).failure,
                {},
                final=True,
            )

    def close(self) -> None:
        super().close()
        if self._opened:
            if not self._opened.complete:
                self._dispatcher.unfinished(self._opened, self._output)
            self._opened.close()
            self._opened = None

    def abort(self, failure: Failure) -> bytes:
        """End the answer where it is. Returns what tells the client of a stream."""
        self.close()
        return self._output.fail(failure)

    async def _next(self) -> bytes:
        """The client's bytes of the next chunk from upstream; may be none."""
        assert self._opened
        try:
            data = await self._opened.reply.read()
        except UpstreamError as error:
            return self._break_off(error.failure)
        if isinstance(self._output, Verbatim):
            self._output.saw(data)
            if not data:
                self._complete()
            return data
        if data:
            return self._translate(self._opened.decoder.feed(data))
        done = self._translate(self._opened.decoder.close())
        if not self._over:
            done += self._break_off(errors.network("cut", "The backend's answer ended in the middle."))
        return done

    def _translate(self, frames: list[sse.Frame]) -> bytes:
        """What the client gets of these events. Sets `_over` at the terminal one."""
        assert self._opened
        parts: list[bytes] = []
        for frame in frames:
            kind = frame.type
            if kind.startswith("codex."):
                self._dispatcher.side_channel(self._opened.account, frame)
            elif kind in FAILURES:
                parts.append(self._break_off(errors.from_event(frame.json(), now=time.time())))
            else:
                try:
                    parts.append(self._output.feed(frame))
                except Refused as refused:
                    parts.append(self._break_off(refused.failure))
                else:
                    if self._output.done:
                        self._complete()
                        parts.append(self._output.finish())
            if self._over:
                break
        return b"".join(parts)

    def _complete(self) -> None:
        """The terminal event is through: keep what later requests need, give the connection back."""
        assert self._opened
        self._over = self._opened.complete = True
        self._dispatcher.completed(self._call, self._opened, self._output)

    def _break_off(self, failure: Failure) -> bytes:
        """The answer fails in the middle. Raises Refused where an HTTP status can still say so."""
        assert self._opened
        self._over = self.broken = True
        self._dispatcher.interrupted(self._call, self._opened.account, failure)
        logger.warning(
            "%s broke off its answer: %s (%s)", self._opened.account.name, failure.message, self._call.manner
        )
        if not self._output.stream:
            raise Refused(failure)
        return self._output.fail(failure)

    async def _whole(self, opened: Opened) -> bytes:
        """The complete answer for a client that did not ask for a stream."""
        parts = [self._translate(opened.frames)]
        while not self._over:
            parts.append(await self._next())
        return b"".join(parts)

    def _success_headers(self, opened: Opened) -> dict[str, str]:
        upstream = opened.reply.headers
        headers = {name: value for name, value in upstream.items() if _passes(name)}
        headers["content-type"] = "application/json"
        if self._output.stream:
            headers["content-type"] = "text/event-stream; charset=utf-8"
            headers["cache-control"] = "no-cache"
            headers["x-accel-buffering"] = "no"
        if opened.verbatim:
            headers["content-type"] = upstream.get("content-type", headers["content-type"])
        headers["x-request-id"] = (
            upstream.get("x-request-id") or upstream.get("x-oai-request-id") or new_request_id()
        )
        headers[ACCOUNT_HEADER] = opened.account.name
        if opened.attempts:
            served = (opened.account.name, opened.reply.status)
            headers[ATTEMPTS_HEADER] = _history(
                [*((a.account.name, a.status) for a in opened.attempts), served]
            )
        return headers | self._dropped(opened.stripped)

    def _attempt_headers(self, unserved: Unserved) -> dict[str, str]:
        headers: dict[str, str] = {}
        if unserved.attempts:
            last = unserved.attempts[-1]
            headers |= {name: value for name, value in last.headers.items() if _passes(name)}
            headers["x-request-id"] = last.headers.get("x-request-id") or new_request_id()
            headers[ACCOUNT_HEADER] = last.account.name
        if len(unserved.attempts) > 1:
            headers[ATTEMPTS_HEADER] = _history([(a.account.name, a.status) for a in unserved.attempts])
        return headers | self._dropped()

    def _dropped(self, stripped: tuple[str, ...] = ()) -> dict[str, str]:
        names = [*self._call.shaped.dropped, *stripped]
        if len(names) > NAMED:
            names[NAMED:] = [f"and {len(names) - NAMED} more"]
        return {DROPPED_HEADER: ",".join(names)} if names else {}

    def _refuse(self, failure: Failure, headers: Mapping[str, str], *, final: bool) -> None:
        if self._call.speaks_codex:
            failure = codex_cli.failure(failure, now=time.time())
        self._ready = errors.body(failure)
        self._over = True
        advice = errors.headers(failure, now=time.time())
        if final and failure.cause is Cause.LIMIT:
            advice["x-should-retry"] = "false"
        self._answer(failure.status, {"x-request-id": new_request_id(), **headers, **advice})

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        if self._over and not (self._output.stream and status == 200):
            headers["content-length"] = str(len(self._ready))
        elif self._chunked:
            headers["transfer-encoding"] = "chunked"
        elif not self._http2:  # HTTP/1.0: the end of the connection is the end of the answer
            headers["connection"] = "close"
        encoded = Remembered([(name.encode("latin-1"), _latin(value)) for name, value in headers.items()])
        self.response = http.Response(
            http_version=b"HTTP/1.1",
            status_code=status,
            reason=b"" if self._http2 else status_codes.RESPONSES.get(status, "").encode(),
            headers=encoded,
            content=None,
            trailers=None,
            timestamp_start=time.time(),
            timestamp_end=None,
        )


class Remembered(http.Headers):
    """Headers that remember a look-up: mitmproxy asks for the transfer encoding with every chunk it sends."""

    _known: tuple[object, dict[str, Any]] = ((), {})

    def get(self, key: str, default: Any = None) -> Any:
        if self._known[0] is not self.fields:  # a new tuple whenever somebody changed them
            self._known = (self.fields, {})
        known = self._known[1]
        if key not in known:
            known[key] = super().get(key)
        return default if known[key] is None else known[key]


def new_request_id() -> str:
    """A request id of our own, for answers that have none from the backend."""
    return f"req_{uuid.uuid4().hex}"


def _history(attempts: list[tuple[str, int]]) -> str:
    """`main=429, work=200`."""
    return ", ".join(f"{name}={status}" for name, status in attempts)


def _passes(name: str) -> bool:
    """Whether a header of the backend goes on to the client: quota and timing, never cookies or routing."""
    name = name.lower()
    if name in ("x-codex-turn-state", "openai-model"):
        return False
    return name.startswith(("x-codex-", "openai-", "x-ratelimit-")) or name == "x-reasoning-included"


def _latin(value: str) -> bytes:
    """A header's bytes; labels may hold any character, a header may not."""
    return value.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace")
