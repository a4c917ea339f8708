"""The backend around its routes: who is asking, what is recorded, what stands on every answer, who hung up.

Every answer, a refusal too, carries the quota headers of the account, Cloudflare's cookie, a request id and
the turn state, because the real one's do and a proxy has to cope with each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from . import catalogue, replies
from .accounts import FakeAccount, Seen
from .gates import Hold
from .replies import Refused, Reply
from .scenario import stand

if TYPE_CHECKING:
    from .server import CodexFake

Json = dict[str, Any]

_NO_TYPE = "x-fake-no-content-type"  # never leaves: taken out again just before the headers are written
ASKED_BESIDE = frozenset({"models", "usage"})  # whenever a proxy likes: not among an account's requests
_COOKIE = "__cf_bm=fake.{}; path=/; domain=.chatgpt.com; HttpOnly; Secure; SameSite=None"


@dataclass(slots=True)
class OpenStream:
    """`finished` once the terminal event is on its way: a client that leaves after it has aborted nothing."""

    finished: bool = False


async def drop_content_type(request: web.Request, response: web.StreamResponse) -> None:
    """aiohttp gives every answer a content type; the backend's streams have none."""
    if response.headers.pop(_NO_TYPE, None) is not None:
        response.headers.popall(hdrs.CONTENT_TYPE, None)
    response.headers.popall(hdrs.SERVER, None)


class Backend:
    """What the routes share."""

    def __init__(self, fake: CodexFake) -> None:
        self.fake = fake
        self.clock = fake.clock
        self._order = 0

    def record(self, request: web.Request, route: str, raw: bytes) -> Seen:
        """Note a request before anything is decided about it."""
        self._order += 1
        headers = {name.lower(): value for name, value in request.headers.items()}
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        port = peer[1] if peer else 0
        seen = Seen(self._order, route, None, request.method, request.path_qs, headers, raw, connection=port)
        if self.fake.recording:
            self.fake.requests.append(seen)
        return seen

    def remember(self, account: FakeAccount, seen: Seen) -> None:
        """The request is known to be this account's."""
        seen.account = account.name
        if self.fake.recording and seen.route not in ASKED_BESIDE:
            account.requests.append(seen)

    def authenticate(self, request: web.Request) -> FakeAccount:
        """The account of the bearer token. Raises Refused: 401, or 403 for another account's id."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(replies.detail("Unauthorized", 401))
        known = self.fake.issuer.access.get(token)
        if known is None:
            raise Refused(replies.unauthorized())
        if known.dead is not None:
            raise Refused(replies.unauthorized(known.dead))
        if self.clock.now() >= known.expires_at:
            raise Refused(replies.unauthorized("token_expired"))
        named = request.headers.get("chatgpt-account-id")
        if named is not None and named != known.account.account_id:
            raise Refused(replies.detail({"code": "invalid_workspace_selected"}, 403))
        return known.account

    def watch(self, account: FakeAccount, seen: Seen) -> None:
        """Note what the backend would let pass but a proxy must not do."""
        state = seen.headers.get("x-codex-turn-state")
        if state is not None and not state.startswith(f"ts-{account.name}-"):
            self.fake.violations.append(f"{account.name}: turn state of another account")
        for name in seen.headers:
            own_cookie = name == "cookie" and not seen.headers[name].startswith(("__cf", "_cf"))
            if own_cookie or name == "x-api-key" or name.startswith("x-stainless-"):
                self.fake.violations.append(f"{account.name}: header {name} leaked")

    def common_headers(self, seen: Seen | None, account: FakeAccount | None) -> dict[str, str]:
        """What stands on every answer."""
        number = seen.order if seen is not None else 0
        headers = {"x-request-id": f"req-{number:08d}", "cf-ray": f"{number:016x}-FRA"}
        if not self.fake.manners.headers:
            return headers
        headers["set-cookie"] = _COOKIE.format(number)
        headers["alt-svc"] = 'h3=":443"; ma=86400'
        headers["strict-transport-security"] = "max-age=31536000; includeSubDomains; preload"
        if account is not None:
            headers |= account.quota.headers(self.clock.now())
            headers["x-models-etag"] = catalogue.etag(account.models, account.plan)
            if seen is not None:
                sent = seen.headers.get("x-codex-turn-state", f"ts-{account.name}-{number}")
                headers["x-codex-turn-state"] = sent
        return headers

    def answer(self, request: web.Request, seen: Seen | None, reply: Reply) -> web.Response:
        """A whole answer."""
        account = self.fake.accounts.get(seen.account) if seen is not None and seen.account else None
        if seen is not None:
            seen.status = reply.status
            self.fake.board.change()
        headers = {**self.common_headers(seen, account), **reply.headers}
        headers.setdefault("content-type", reply.content_type)
        return web.Response(status=reply.status, body=reply.encoded(), headers=headers)

    def streaming(self, request: web.Request, seen: Seen | None, account: FakeAccount) -> web.StreamResponse:
        """A 200 that is about to stream."""
        self.fake.board.served += 1
        headers = self.common_headers(seen, account)
        headers["openai-model"] = str(seen.json.get("model")) if seen is not None else "gpt-5.5"
        content_type = self.fake.manners.content_type
        headers[_NO_TYPE if content_type is None else "content-type"] = content_type or "1"
        if seen is not None:
            seen.status = 200
        return web.StreamResponse(headers=headers)

    @contextmanager
    def open_stream(self, hold: Hold | None = None) -> Iterator[OpenStream]:
        """Counts a generation in progress, and the client that leaves it before its end."""
        board, stream = self.fake.board, OpenStream()
        board.open_streams += 1
        board.change()
        try:
            yield stream
        except (asyncio.CancelledError, ConnectionError) as gone:
            if not stream.finished and not self.fake.stopping:
                board.aborted += 1
            if isinstance(gone, asyncio.CancelledError):
                raise
        finally:
            board.open_streams -= 1
            board.change()
            if hold is not None:
                hold.finish()

    @staticmethod
    def abort(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
        """Cut the TCP connection."""
        if request.transport is not None:
            request.transport.abort()
        return response if response is not None else web.Response()

    async def scripted(
        self,
        request: web.Request,
        seen: Seen,
        account: FakeAccount,
        carry_out: Callable[[], object] | None = None,
    ) -> web.StreamResponse | None:
        """The scripted answer of a route that does not stream, None when the ordinary one is due."""
        behaviour = account.script_queue.take(seen.route)
        if behaviour is None:
            return None
        if behaviour.carried_out and carry_out is not None:
            carry_out()
        await stand(behaviour)
        if behaviour.cut:
            return self.abort(request)
        return None if behaviour.reply is None else self.answer(request, seen, behaviour.reply)
