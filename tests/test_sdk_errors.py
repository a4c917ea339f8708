"""What the official SDK makes of each cause of failure: its exception class, and how often it asks.

The bytes and headers are those of addon/protocol/errors; the SDK is the real one, with its two retries. Waiting
between retries is taken out, so that what is counted are decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import orjson
import pytest

from addon.protocol import errors, unserved
from addon.protocol.asked import Asked
from addon.protocol.chat_stream import ChatStream
from addon.protocol.errors import Failure
from addon.protocol.repair import ResponsesStream

try:
    import httpx2 as httpx
except ModuleNotFoundError:  # SDKs before 3
    import httpx  # type: ignore[no-redef]

NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(openai.AsyncOpenAI, "_sleep_for_retry", at_once)


def http(status: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Failure:
    return errors.from_http(status, headers or {}, body, now=NOW)


def coded(code: str, status: int = 400, **members: Any) -> Failure:
    error = {"message": f"It failed: {code}.", "type": code, "code": code, "param": None} | members
    return http(status, orjson.dumps({"error": error}))


def in_stream(code: str) -> Failure:
    event = {
        "type": "response.failed",
        "response": {"status": "failed", "error": {"code": code, "message": "no"}},
    }
    return errors.from_event(event, now=NOW)


CASES: dict[str, tuple[Failure, type[openai.APIStatusError], int, str | None, int]] = {
    # cause: (failure, exception, status, code, requests)
    "the client's request": (coded("invalid_value"), openai.BadRequestError, 400, "invalid_value", 1),
    "context length": (
        coded("context_length_exceeded"),
        openai.BadRequestError,
        400,
        "context_length_exceeded",
        1,
    ),
    "context length inside a 200": (
        in_stream("context_length_exceeded"),
        openai.BadRequestError,
        400,
        "context_length_exceeded",
        1,
    ),
    "the model is refused": (
        http(400, b'{"detail":"The \'m\' model is not supported when using Codex with a ChatGPT account."}'),
        openai.NotFoundError,
        404,
        "model_not_found",
        1,
    ),
    "a newer version is wanted": (
        http(400, b'{"detail":"The \'m\' model requires a newer version of Codex."}'),
        openai.NotFoundError,
        404,
        "model_not_found",
        1,
    ),
    "policy": (in_stream("cyber_policy"), openai.BadRequestError, 400, "cyber_policy", 1),
    "all logins are dead": (
        errors.refuse(401, "Log in.", code="login_required", type="authentication_error").failure,
        openai.AuthenticationError,
        401,
        "login_required",
        1,
    ),
    "the token is not accepted": (http(401), openai.AuthenticationError, 401, "invalid_api_key", 1),
    "a wrong client key": (
        errors.refuse(401, "No.", code="invalid_api_key").failure,
        openai.AuthenticationError,
        401,
        "invalid_api_key",
        1,
    ),
    "no key at all": (
        errors.refuse(401, "No.", code="missing_authorization").failure,
        openai.AuthenticationError,
        401,
        "missing_authorization",
        1,
    ),
    "the workspace is out": (
        http(403, b'{"detail":{"code":"invalid_workspace_selected"}}'),
        openai.PermissionDeniedError,
        403,
        "invalid_workspace_selected",
        1,
    ),
    "at the limit for long": (
        coded("usage_limit_reached", 429, resets_in_seconds=3600),
        openai.RateLimitError,
        429,
        "usage_limit_reached",
        1,
    ),
    "at the limit for a moment": (
        coded("rate_limit_exceeded", 429, message="Please try again in 1.5s."),
        openai.RateLimitError,
        429,
        "rate_limit_exceeded",
        3,
    ),
    "a limit nobody knows the end of": (
        coded("insufficient_quota", 429),
        openai.RateLimitError,
        429,
        "insufficient_quota",
        1,
    ),
    "a plan without Codex": (
        coded("usage_not_included", 429),
        openai.RateLimitError,
        429,
        "usage_not_included",
        1,
    ),
    "overload": (
        in_stream("server_is_overloaded"),
        openai.InternalServerError,
        503,
        "server_is_overloaded",
        3,
    ),
    "overload by status": (http(503), openai.InternalServerError, 503, "server_is_overloaded", 3),
    "Cloudflare": (
        http(403, b"<html><title>Just a moment</title></html>", {"cf-mitigated": "challenge"}),
        openai.InternalServerError,
        503,
        "upstream_blocked",
        3,
    ),
    "unreachable": (errors.network("connect"), openai.InternalServerError, 502, "upstream_unreachable", 3),
    "cut": (errors.network("cut"), openai.InternalServerError, 502, "upstream_cut", 3),
    "a timeout": (errors.network("timeout"), openai.InternalServerError, 504, "upstream_timeout", 3),
    "the protocol is broken": (
        errors.ProtocolError("Nonsense.").failure,
        openai.InternalServerError,
        502,
        "upstream_protocol",
        3,
    ),
    "too large": (
        errors.refuse(413, "Too large.", code="request_too_large").failure,
        openai.APIStatusError,
        413,
        "request_too_large",
        1,
    ),
}


class Server:
    """Answers every request of a client alike, and counts them."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.asked = 0
        self._answer = status, body, headers

    def client(self) -> openai.AsyncOpenAI:
        def answer(request: httpx.Request) -> httpx.Response:
            self.asked += 1
            status, body, headers = self._answer
            return httpx.Response(status, content=body, headers=headers)

        transport = httpx.MockTransport(answer)
        return openai.AsyncOpenAI(
            api_key="any",
            base_url="http://proxy.test/v1",
            http_client=httpx.AsyncClient(transport=transport),
            max_retries=2,
        )


CALLS: dict[str, Callable[[openai.AsyncOpenAI], Any]] = {
    "responses": lambda client: client.responses.create(model="m", input="x"),
    "responses streamed": lambda client: client.responses.create(model="m", input="x", stream=True),
    "chat": lambda client: client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}]
    ),
    "completions": lambda client: client.completions.create(model="m", prompt="x"),
    "images": lambda client: client.images.generate(prompt="x"),
    "models": lambda client: client.models.retrieve("m"),
}


@pytest.mark.parametrize("cause", CASES)
@pytest.mark.parametrize("call", CALLS)
async def test_each_cause_raises_its_class_and_is_asked_again_only_if_that_can_help(
    cause: str, call: str
) -> None:
    failure, exception, status, code, requests = CASES[cause]
    server = Server(failure.status, errors.body(failure), errors.headers(failure, now=NOW))
    async with server.client() as client:
        with pytest.raises(exception) as raised:
            await CALLS[call](client)
    assert raised.value.status_code == status
    assert raised.value.code == code
    assert failure.message in str(raised.value)
    assert server.asked == requests


@pytest.mark.parametrize(
    ("path", "exception"), [("/v1/embeddings", openai.BadRequestError), ("/v1/x", openai.NotFoundError)]
)
async def test_a_route_that_is_not_served_raises_and_is_asked_once(
    path: str, exception: type[openai.APIStatusError]
) -> None:
    answer = unserved.answer("POST", path, "Bearer any", direct=True, policy="auto")
    assert answer
    server = Server(answer.status, answer.body, dict(answer.headers))
    async with server.client() as client:
        with pytest.raises(exception, match="not available on a ChatGPT subscription") as raised:
            await client.post(path, cast_to=object, body={})
    assert raised.value.code == "unsupported_endpoint"
    assert server.asked == 1


@pytest.mark.parametrize("cause", CASES)
async def test_in_the_middle_of_a_stream_each_cause_raises_with_its_text(cause: str) -> None:
    failure = CASES[cause][0]
    for output, call in (
        (ResponsesStream(Asked("responses", True, "m")), CALLS["responses streamed"]),
        (
            ChatStream(Asked("chat", True, "m")),
            lambda client: client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], stream=True
            ),
        ),
    ):
        server = Server(200, output.fail(failure), {"content-type": "text/event-stream"})
        async with server.client() as client:
            stream = await call(client)
            with pytest.raises(openai.APIError) as raised:
                async for _ in stream:
                    pass
        assert failure.message in str(raised.value)
        assert raised.value.code == failure.code
        assert server.asked == 1  # what has begun is never asked again
