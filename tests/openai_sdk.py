"""The official SDK, talking to bytes: what it makes of an answer is what users get."""

from __future__ import annotations

import openai

try:
    import httpx2 as httpx
except ModuleNotFoundError:  # SDKs before 3
    import httpx  # type: ignore[no-redef]


def client(body: bytes, *, status: int = 200, content_type: str = "text/event-stream") -> openai.OpenAI:
    """A client to which every request is answered with these bytes."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": content_type}, content=body)

    http = httpx.Client(transport=httpx.MockTransport(answer))
    return openai.OpenAI(api_key="any", base_url="http://proxy.test/v1", http_client=http, max_retries=0)
