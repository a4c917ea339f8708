"""POST /codex/responses and /codex/responses/compact: check, refuse, or stream.

The way of a request: token → account, body → rules, limit, script, then the stream. A request that breaks a
rule is refused even when something else is scripted, so that no test passes with a body the backend would not
take."""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import catalogue, ciphertext, fast, plan, rules
from .accounts import FakeAccount, Limit, Seen
from .answers import Answer
from .manners import TERMINAL
from .replies import Refused, Reply
from .scenario import Behaviour, failure_event, stand

if TYPE_CHECKING:
    from .backend import Backend

Json = dict[str, Any]


def decode(body: bytes, encoding: str) -> bytes:
    """A request body without its content-encoding: zstd and gzip, as the backend takes them."""
    match encoding.lower():
        case "" | "identity":
            return body
        case "gzip":
            return zlib.decompress(body, 31)
        case "zstd":
            return zstd_decompress(body)
    raise Refused(Reply(415, {"detail": f"Unsupported content encoding: {encoding}"}))


def zstd_decompress(body: bytes) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd
    result: bytes = zstd.decompress(body)
    return result


class Generation:
    """The two generation routes of a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._numbers = itertools.count(1)

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/backend-api/codex/responses", self.responses)
        app.router.add_post("/backend-api/codex/responses/compact", self.compact)

    async def responses(self, request: web.Request) -> web.StreamResponse:
        backend = self._backend
        raw = await request.read()
        if backend.fake.fast:
            return await self._fast(request, raw)
        seen = backend.record(request, "responses", raw)
        try:
            account = backend.authenticate(request)
            backend.remember(account, seen)
            seen.body = decode(raw, request.headers.get("content-encoding", ""))
            seen.json = rules.parse(seen.body)
            backend.watch(account, seen)
            rules.check(rules.Request(account, seen.headers, seen.json))
        except Refused as refused:
            return backend.answer(request, seen, refused.reply)
        limit = account.limited(seen.json.get("model"))
        behaviour = account.script_queue.take("responses") or Behaviour()
        with backend.open_stream():
            await stand(behaviour)
        if behaviour.cut and behaviour.after is None:
            return backend.abort(request)
        if behaviour.reply is not None:
            return backend.answer(request, seen, behaviour.reply)
        if not behaviour.mild:
            limit = None
        elif limit is not None and limit.form in ("429", "404"):
            return backend.answer(request, seen, account.limit_reply(limit))
        return await self._stream(request, seen, account, behaviour, limit)

    def _said(
        self, account: FakeAccount, seen: Seen, behaviour: Behaviour, limit: Limit | None
    ) -> tuple[Iterable[Json], float]:
        """(the events as they leave, the seconds between them)."""
        if behaviour.events is not None:
            return behaviour.events, behaviour.pace
        backend, body, now = self._backend, seen.json, self._backend.clock.now()
        pace = behaviour.pace
        if limit is not None:
            events: Iterable[Json] = (self._limit_event(account, limit),)
        else:
            tokens = backend.fake.cache.usage(account.account_id, seen.headers.get("session-id"), body, now)
            made = plan.make(body)
            pace = pace or made.pace
            answer = Answer(next(self._numbers), account.account_id, body, made, tokens, int(now))
            events = answer.events()
        etag = catalogue.etag(account.models, account.plan)
        return backend.fake.manners.dress(events, account.quota, now, limit is not None, etag), pace

    def _limit_event(self, account: FakeAccount, limit: Limit) -> Json:
        now = self._backend.clock.now()
        more: Json = {"plan_type": account.plan, "resets_at": int(limit.until)}
        more["resets_in_seconds"] = int(limit.until - now)
        form = limit.form if limit.form in ("error", "wrapped") else "failed"
        if form == "wrapped":
            more["headers"] = account.quota.headers(now)
        return failure_event("usage_limit_reached", "The usage limit has been reached", form, more)

    async def _stream(
        self,
        request: web.Request,
        seen: Seen,
        account: FakeAccount,
        behaviour: Behaviour,
        limit: Limit | None,
    ) -> web.StreamResponse:
        backend, manners, hold = self._backend, self._backend.fake.manners, behaviour.hold
        said, pace = self._said(account, seen, behaviour, limit)
        response = backend.streaming(request, seen, account)
        with backend.open_stream(hold) as stream:
            await response.prepare(request)
            if manners.bom:
                await response.write(b"\xef\xbb\xbf")
            async for event in self._paced(said, behaviour, pace):
                if event["type"] in ("response.failed", "error"):
                    seen.failure = str(event)
                if event["type"] in TERMINAL:
                    stream.finished = True
                for piece in manners.split(manners.encode(event)):
                    await response.write(piece)
                    if manners.chunk is not None:
                        await asyncio.sleep(0)
                if hold is not None:
                    hold.wrote()
            stream.finished = True
            if behaviour.cut:
                return backend.abort(request, response)
            if manners.done_marker:
                await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
            if seen.failure is None:
                account.charge()
        return response

    @staticmethod
    async def _paced(events: Iterable[Json], behaviour: Behaviour, pace: float) -> AsyncIterator[Json]:
        """The events with the behaviour's waits between them, up to the point where it ends them."""
        written, deltas, output = 0, 0, False
        ends = behaviour.failure is not None or behaviour.cut or behaviour.end
        started: Json = {}
        gate = behaviour.gate

        def reached() -> bool:
            if behaviour.after is None:
                return False
            if behaviour.counting == "events":
                return written >= behaviour.after
            return output if behaviour.after == 0 else deltas >= behaviour.after

        for event in events:
            kind = event["type"]
            output = output or kind.startswith("response.output_item")
            if gate is not None and reached():
                await gate.passing()
                gate = None
            if ends and (reached() or kind in TERMINAL):
                break
            if behaviour.hold is not None:
                await behaviour.hold.before()
            if pace and written:
                await asyncio.sleep(pace)
            yield event
            written += 1
            deltas += kind.endswith(".delta")
            if kind == "response.created":
                started = event["response"]
        for number, event in enumerate(behaviour.failure or (), written):
            if event["type"] == "response.failed":
                event = {**event, "response": {**started, **event["response"]}}
            yield {"type": event["type"], "sequence_number": number, **event}

    async def compact(self, request: web.Request) -> web.StreamResponse:
        backend = self._backend
        raw = await request.read()
        seen = backend.record(request, "compact", raw)
        try:
            account = backend.authenticate(request)
            backend.remember(account, seen)
            seen.body = decode(raw, request.headers.get("content-encoding", ""))
            seen.json = rules.parse(seen.body)
            rules.check(rules.Request(account, seen.headers, seen.json, compact=True))
        except Refused as refused:
            return backend.answer(request, seen, refused.reply)
        limit = account.limited()
        scripted = await backend.scripted(request, seen, account)
        if scripted is not None:
            return scripted
        if limit is not None:
            return backend.answer(request, seen, account.limit_reply(limit))
        number = next(self._numbers)
        kept = [item for item in seen.json["input"] if item.get("role") == "user"]
        sealed = ciphertext.seal(account.account_id, f"cmp_{number}")
        item = {"type": "compaction", "id": f"cmp_{number:048x}", "encrypted_content": sealed}
        body = {"id": f"resp_{number:048x}", "object": "response.compaction", "output": [*kept, item]}
        return backend.answer(request, seen, Reply(200, body))

    async def _fast(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        """The benchmark's way: token, limit, ready-made bytes; no checks, no records."""
        backend = self._backend
        if request.headers.get("content-encoding"):
            raw = decode(raw, request.headers["content-encoding"])
        try:
            account = backend.authenticate(request)
        except Refused as refused:
            return backend.answer(request, None, refused.reply)
        limit = account.limited()
        behaviour = account.script_queue.take("responses")
        if behaviour is not None:
            with backend.open_stream():
                await stand(behaviour)
            if behaviour.cut:
                return backend.abort(request)
            if behaviour.reply is not None:
                return backend.answer(request, None, behaviour.reply)
        if limit is not None:
            return backend.answer(request, None, account.limit_reply(limit))
        response = backend.streaming(request, None, account)
        with backend.open_stream() as stream:
            writer = await response.prepare(request)
            async for chunk in fast.chunks(raw):
                if writer is None or request.transport is None:
                    raise ConnectionResetError("the client is gone")
                request.transport.write(chunk)  # chunked already: half the cost of response.write
                await writer.drain()
            stream.finished = True
            await response.write_eof()
            account.charge()
        return response
