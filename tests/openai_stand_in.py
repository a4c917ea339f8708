"""A stand-in for api.openai.com: it remembers what came, byte for byte, and answers like a simple OpenAI API.

`script` takes answers for the next requests; without one, generating routes answer in their own form (streamed if
asked), and everything else with `{"object": "list", "data": []}`. The rule: it refuses nothing, a test looks at what
arrived.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from tests.codex_fake.gates import Board, Gate

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 107,
}
CHAT_USAGE = {
    "prompt_tokens": 100,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens": 7,
    "total_tokens": 107,
}


@dataclass(slots=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


@dataclass(slots=True)
class Scripted:
    """One answer. `chunks` go out one by one; at `gate` the answer stands still after the first."""

    status: int = 200
    chunks: Sequence[bytes] = ()
    content_type: str = "application/json"
    gate: Gate | None = None
    cut: bool = False


class OpenAIStandIn:
    """Use as an async context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.script: list[Scripted] = []
        self.board = Board()
        self.port = 0
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, auto_decompress=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    def fail(self, status: int, code: str) -> None:
        """Refuse the next request."""
        error = {"message": f"It failed: {code}.", "type": code, "param": None, "code": code}
        self.script.append(Scripted(status, [json.dumps({"error": error}).encode()]))

    def hold(self) -> Gate:
        """The next answer stops after its first chunk."""
        gate = Gate()
        self.script.append(Scripted(200, [b"data: one\n\n", b"data: two\n\n"], "text/event-stream", gate))
        return gate

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, request.raw_path, headers, b"")
        self.requests.append(received)
        self.board.change()
        async for data in request.content.iter_any():
            received.body += data
            self.board.change()
        scripted = self.script.pop(0) if self.script else _ordinary(received)
        response = web.StreamResponse(
            status=scripted.status,
            headers={
                "content-type": scripted.content_type,
                "x-request-id": "req_real",
                "x-ratelimit-limit": "9",
            },
        )
        await response.prepare(request)
        try:
            for number, chunk in enumerate(scripted.chunks):
                if number and scripted.gate:
                    await scripted.gate.passing()
                await response.write(chunk)
            if scripted.cut and request.transport:
                request.transport.abort()
        except BaseException:
            self.board.aborted += 1
            self.board.change()
            raise
        return response


def _ordinary(request: Received) -> Scripted:
    path = request.path.partition("?")[0]
    if path == "/v1/responses":
        whole = response_object(request.json["model"])
        if not request.json.get("stream"):
            return Scripted(chunks=[json.dumps(whole).encode()])
        return Scripted(chunks=list(responses_stream(whole)), content_type="text/event-stream")
    if path == "/v1/chat/completions":
        if not request.json.get("stream"):
            return Scripted(chunks=[json.dumps(chat_object(request.json["model"])).encode()])
        return Scripted(chunks=list(chat_stream(request.json["model"])), content_type="text/event-stream")
    return Scripted(chunks=[b'{"object": "list", "data": []}'])


def response_object(model: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "from the real API", "annotations": []}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }
    return {
        "id": "resp_real",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE,
    }


def responses_stream(whole: dict[str, Any]) -> Sequence[bytes]:
    """A stream that a repair would change: no event lines, a member nobody knows, an item without its parts."""
    events: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": {**whole, "output": []}, "odd": 1},
        {
            "type": "response.output_item.done",
            "sequence_number": 1,
            "output_index": 0,
            "item": whole["output"][0],
        },
        {"type": "response.completed", "sequence_number": 2, "response": whole},
    ]
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]


def chat_object(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "from the real API"}
    return {
        "id": "chatcmpl-real",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": CHAT_USAGE,
    }


def chat_stream(model: str) -> Sequence[bytes]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {
            "id": "chatcmpl-real",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
        }

    usage = {**chunk({}), "choices": [], "usage": CHAT_USAGE}
    chunks = [chunk({"role": "assistant", "content": "from the real API"}), chunk({}, "stop"), usage]
    return [*(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks), b"data: [DONE]\n\n"]
