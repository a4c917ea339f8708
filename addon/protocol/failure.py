"""One failed attempt: what went wrong, what the client is told, and what we should do about it.

A `Failure` is the answer in OpenAI's form plus a `Cause`, by which the exchange decides whether another
account, a repaired request or nobody can help. This file holds the types and the way to the client; how the
backend's answers become failures stands in `errors.py`, which hands all of this on.

The rule that must not be broken: no account id, e-mail address or token of an account ever stands in a
message.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NoReturn

import orjson

SHORT_WAIT = 60.0
"""Seconds up to which a client may well wait and try again by itself; the SDK waits two minutes at most."""

USAGE_LIMIT = "usage_limit_reached"
"""The error type by which the backend says that a subscription's quota is used up."""


class Cause(StrEnum):
    """Why a request failed, as far as it decides what happens next."""

    LIMIT = "limit"
    """The account has used up its quota, or asks too fast."""
    LOGIN = "login"
    """The token is not accepted: refresh once, then another account."""
    ACCOUNT = "account"
    """The account itself is out: no plan, workspace gone or not allowed."""
    MODEL = "model"
    """The model is refused for this account or plan."""
    VERSION = "version"
    """The model wants a newer Codex version than the `version` header named."""
    PARAMETER = "parameter"
    """Members the backend does not know; `Failure.names` says which."""
    CIPHERTEXT = "ciphertext"
    """Encrypted reasoning that another account made."""
    CLIENT = "client"
    """The client's own mistake; no account would answer it."""
    CLOUDFLARE = "cloudflare"
    """The edge blocked us before any account was looked at."""
    OVERLOAD = "overload"
    """The backend is down or busy."""
    NETWORK = "network"
    """The backend could not be reached, or the connection broke."""
    PROXY = "proxy"
    """Our own refusal or fault."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt.

    `status`, `message`, `type`, `code` and `param` are what the client gets; `upstream_status` is what the
    backend answered, None if it failed inside a stream or was never reached. `resets_at` is in epoch seconds,
    `retry_after` in seconds; `names` are the members a PARAMETER failure is about.
    """

    status: int
    message: str
    type: str
    code: str | None
    param: str | None
    cause: Cause
    upstream_status: int | None = None
    resets_at: float | None = None
    retry_after: float | None = None
    names: tuple[str, ...] = ()
    window: str | None = None
    """The full window as a LIMIT inside a stream may name it: `primary`, `secondary`; it tells no reset itself."""
    limit: str | None = None
    """The limit that a LIMIT is about, as `x-codex-active-limit` names it."""

    def reset(self, now: float) -> float | None:
        """The moment (epoch seconds) this failure ends by itself, None if unknown."""
        if self.resets_at is not None:
            return self.resets_at
        return None if self.retry_after is None else now + self.retry_after


class Refused(Exception):
    """A request ends here; `failure` says with which answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ProtocolError(Refused):
    """The backend broke its protocol: 502 for the client."""

    def __init__(self, problem: str | Failure) -> None:
        if isinstance(problem, str):
            problem = Failure(502, redact(problem), "server_error", "upstream_protocol", None, Cause.NETWORK)
        super().__init__(problem)


def refuse(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    type: str = "invalid_request_error",
) -> Refused:
    """Our own refusal of a request, to be raised."""
    cause = Cause.CLIENT if 400 <= status < 500 else Cause.PROXY
    return Refused(Failure(status, message, type, code, param, cause))


def reject(message: str, param: str, code: str) -> NoReturn:
    """Raise the refusal (400) of a request with a member that cannot be served."""
    raise refuse(400, message, code=code, param=param)


_NETWORK = {
    "connect": (502, "upstream_unreachable", "The backend could not be reached"),
    "timeout": (504, "upstream_timeout", "The backend did not answer in time"),
    "cut": (502, "upstream_cut", "The backend closed the connection before the answer was complete"),
}


def network(kind: Literal["connect", "timeout", "cut"], message: str = "") -> Failure:
    """No answer, or half of one: `connect` means that the request was never sent."""
    status, code, text = _NETWORK[kind]
    detail = redact(message.strip())
    return Failure(
        status, f"{text}: {detail}" if detail else f"{text}.", "server_error", code, None, Cause.NETWORK
    )


def body(failure: Failure) -> bytes:
    """The JSON body in the only form every OpenAI client reads; SDK 3 shows nothing but `error.message`."""
    return orjson.dumps({"error": error_object(failure)})


def error_object(failure: Failure) -> dict[str, Any]:
    """The `error` member of an error body or error frame; a used-up quota says in it when it is there again."""
    shown: dict[str, Any] = {
        "message": failure.message,
        "type": failure.type,
        "param": failure.param,
        "code": failure.code,
    }
    if failure.type == USAGE_LIMIT and failure.resets_at is not None:
        shown["resets_at"] = int(failure.resets_at)
    return shown


def headers(failure: Failure, *, now: float) -> dict[str, str]:
    """The headers of the failure: content type, the wait if it is known, and whether to retry at all.

    OpenAI's SDKs retry 408, 409, 429 and 5xx by themselves, obey `x-should-retry` first and then the wait.
    What cannot succeed soon must say so, or each client multiplies our own attempts.
    """
    result = {"content-type": "application/json"}
    reset = failure.reset(now)
    wait = None if reset is None else reset - now
    if wait is not None and wait > 0:
        result["retry-after"] = str(math.ceil(wait))
        result["retry-after-ms"] = str(math.ceil(wait * 1000))
    if not _may_retry(failure.cause, wait):
        result["x-should-retry"] = "false"
    return result


def _may_retry(cause: Cause, wait: float | None) -> bool:
    if cause is Cause.LIMIT:
        return wait is not None and wait <= SHORT_WAIT
    return cause in (Cause.OVERLOAD, Cause.NETWORK, Cause.PROXY, Cause.CLOUDFLARE) and (
        wait is None or wait <= SHORT_WAIT
    )


_SECRETS = re.compile(
    r"""
      (?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+    # e-mail address; looks back, else long words cost n²
    | \beyJ[\w-]{8,}(?:\.[\w-]*){0,4}             # JSON web token
    | (?<=bearer\ )(?=\S*\d)[\w.~+/-]{6,}=*       # whatever stands after "Bearer"
    | \b(?:sk|sess|rt|at)-[\w-]{12,}              # API key, session key
    | \bgAAAA[\w-]{12,}=*                         # encrypted reasoning
    | \b(?:user|acct|account|org|proj|workspace|ws|sub)[-_](?=\w*\d)\w{8,}  # people and accounts
    | \b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b                       # account ids are UUIDs
    """,
    re.IGNORECASE | re.VERBOSE,
)
_MAX_MESSAGE = 4000


def redact(text: str) -> str:
    """The text without anything that names or opens an account, cut to a readable length."""
    text = _SECRETS.sub("[redacted]", text)
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + "…"
