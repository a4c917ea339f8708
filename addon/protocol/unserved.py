"""What becomes of a request that no subscription serves: on to the real API, or answered here.

A client sends more than generations: embeddings, traces, a look at `/`. What can only be OpenAI's goes there, with the
client's own key and as it came, if that key can be of any use there. All else is answered at once, without a network
call, and the answer names the route and says what to do.

The rule: a request is passed on whole or not at all, and nothing of ours is ever added to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from addon.protocol import errors
from addon.protocol.real_key import bearer, is_ours, looks_real
from addon.protocol.routes import segments

Policy = Literal["auto", "pass", "error"]
"""The setting `unsupported`: pass with a key that looks real, pass always, never pass."""

KNOWN: Final[tuple[tuple[str, ...], ...]] = (
    ("embeddings",),
    ("moderations",),
    ("audio",),
    ("images",),
    ("videos",),
    ("realtime",),
    ("files",),
    ("uploads",),
    ("batches",),
    ("fine_tuning",),
    ("vector_stores",),
    ("assistants",),
    ("threads",),
    ("conversations",),
    ("containers",),
    ("evals",),
    ("organization",),
    ("responses",),
    ("chat", "completions"),
    ("models",),
    ("traces",),
)
"""How the paths of OpenAI's API begin that no subscription serves, or serves in part. A table for the words of the
error only: what is served stands in `routes`."""

TRACES: Final = ("traces", "ingest")
"""Where openai-agents reports its traces, whatever its model calls use."""

WELCOME: Final = b"""This is openai-auth-proxy: an OpenAI API that ChatGPT subscriptions pay for.

Point a client here with OPENAI_BASE_URL=http://<this address>/v1 and any API key, or use this address as
HTTPS_PROXY (`openai-auth env` prints what to set). `openai-auth list` shows the accounts.
"""

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets from us."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(
    method: str, path: str, authorization: str | None, *, direct: bool, policy: Policy
) -> Answer | None:
    """Our answer to a request that is not served, or None: pass it on as it is.

    path: the request target, with its query. authorization: that header, if any. direct: the client took us for the
    server; otherwise it spoke to api.openai.com through us.
    """
    method, parts, token = method.upper(), segments(path), bearer(authorization)
    if direct and method in ("GET", "HEAD") and (page := _PAGES.get(parts)):
        return page if method == "GET" else Answer(page.status, b"", page.headers)
    if method == "OPTIONS" and (direct or policy != "pass"):
        # No word on origins: a web page may not call us, see intercept.
        return Answer(204, b"", {"allow": "GET, HEAD, POST, DELETE, OPTIONS"})
    if passes(token, direct=direct, policy=policy):
        return None
    if method == "POST" and parts == TRACES:
        return Answer(204)
    return _refusal(method, path, parts)


def target(path: str) -> str:
    """The path under which the real API has what a base-URL client asked us for: people leave the `/v1` out."""
    bare = path.partition("?")[0]
    first = next((part for part in bare.split("/") if part), "")
    return path if first == "v1" or not _is_known(segments(path)) else "/v1/" + path.lstrip("/")


def passes(token: str | None, *, direct: bool, policy: Policy) -> bool:
    """Whether a request with this key may go to the real API. Arguments as for `answer`."""
    if policy == "error" or is_ours(token):
        return False
    if policy == "pass":
        # Whoever speaks to api.openai.com through us may do so without a key; nobody can make *us* speak to it.
        return token is not None or not direct
    return looks_real(token)


def _is_known(parts: tuple[str, ...]) -> bool:
    return any(parts[: len(known)] == known for known in KNOWN)


def _refusal(method: str, path: str, parts: tuple[str, ...]) -> Answer:
    route = f"{method} {path.partition('?')[0]}"[:200]
    failure = errors.refuse(
        400 if _is_known(parts) else 404,
        f"{route} is not available on a ChatGPT subscription (Codex backend). Use a real OpenAI API key for this "
        "endpoint; the proxy then forwards it unchanged, unless its setting `unsupported` says otherwise.",
        code="unsupported_endpoint",
    ).failure
    headers = errors.headers(failure, now=time.time()) | {"x-should-retry": "false"}
    return Answer(failure.status, b"" if method == "HEAD" else errors.body(failure), headers)


def _text(status: int, body: bytes) -> Answer:
    return Answer(status, body, {"content-type": _TEXT})


_PAGES: Final[dict[tuple[str, ...], Answer]] = {
    (): _text(200, WELCOME),
    ("favicon.ico",): Answer(204),
    ("health",): _text(200, b"ok\n"),
    ("healthz",): _text(200, b"ok\n"),
}
"""What a person or a monitor finds on our own port. `segments` takes a leading `v1` off: `/v1` is `/`."""
