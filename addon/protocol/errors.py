"""What the backend's refusals mean: every status, body and failure event becomes a `Failure`.

The backend speaks two dialects of error (OpenAI's `error`, FastAPI's `detail`), its edge speaks HTML, and
most failures arrive inside a stream that began with status 200. First all of them are brought to one form
(`dialects.py`), then one table of labels, one list of texts and the status decide, in this
order, what it was: a label is more exact than a text, and a text more exact than a status, which has been
seen wrong (a usage limit as 404).

The rule that must not be broken: what cannot be understood is still a failure with a message; nothing raises
here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from addon.protocol import dialects
from addon.protocol.dialects import Refusal
from addon.protocol.failure import (
    SHORT_WAIT,
    Cause,
    Failure,
    ProtocolError,
    Refused,
    body,
    error_object,
    headers,
    network,
    redact,
    refuse,
)

__all__ = [
    "SHORT_WAIT",
    "Cause",
    "Failure",
    "ProtocolError",
    "Refused",
    "body",
    "error_object",
    "from_event",
    "from_http",
    "headers",
    "network",
    "redact",
    "refuse",
]

# `error.code` or `error.type` → status for the client and cause. Codes seen on the backend and those the
# official client (0.169) tells apart.
_LABELS: dict[str, tuple[int, Cause]] = {
    "usage_limit_reached": (429, Cause.LIMIT),
    "rate_limit_exceeded": (429, Cause.LIMIT),
    "rate_limit_error": (429, Cause.LIMIT),
    "insufficient_quota": (429, Cause.LIMIT),
    "credit_balance_exhausted": (429, Cause.LIMIT),
    "organization_spend_limit_exceeded": (429, Cause.LIMIT),
    "project_spend_limit_exceeded": (429, Cause.LIMIT),
    "usage_not_included": (429, Cause.ACCOUNT),
    "deactivated_workspace": (402, Cause.ACCOUNT),
    "invalid_workspace_selected": (403, Cause.ACCOUNT),
    "account_deactivated": (403, Cause.ACCOUNT),
    "invalid_api_key": (401, Cause.LOGIN),
    "token_invalidated": (401, Cause.LOGIN),
    "token_expired": (401, Cause.LOGIN),
    "token_revoked": (401, Cause.LOGIN),
    "authentication_error": (401, Cause.LOGIN),
    "model_not_found": (404, Cause.MODEL),
    "invalid_encrypted_content": (400, Cause.CIPHERTEXT),
    "unsupported_parameter": (400, Cause.PARAMETER),
    "unknown_parameter": (400, Cause.PARAMETER),
    "context_length_exceeded": (400, Cause.CLIENT),
    "invalid_prompt": (400, Cause.CLIENT),
    "cyber_policy": (400, Cause.CLIENT),
    "bio_policy": (400, Cause.CLIENT),
    "misalignment_policy_violation": (400, Cause.CLIENT),
    "previous_response_not_found": (400, Cause.CLIENT),
    "server_is_overloaded": (503, Cause.OVERLOAD),
    "slow_down": (503, Cause.OVERLOAD),
    "biscuit_baker_service_me_circuit_open": (503, Cause.OVERLOAD),
    "websocket_connection_limit_reached": (503, Cause.NETWORK),
}

_PARAMETERS = re.compile(
    r"(?:Unsupported|Unknown) parameters?\s*:\s*['\"`]?"
    r"(?P<names>[\w.\[\]-]+(?:['\"`]?,\s*['\"`]?[\w.\[\]-]+)*)"
    r"|Unsupported (?P<member>service_tier)\b",
    re.IGNORECASE,
)

# Texts of answers that carry no telling label, most exact first.
_TEXTS: tuple[tuple[re.Pattern[str], int, Cause], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), status, cause)
    for pattern, status, cause in (
        (r"requires a newer version of Codex", 404, Cause.VERSION),
        (r"model is not supported when|model not found|model\b.{0,200} does not exist", 404, Cause.MODEL),
        (r"encrypted[_ ]content", 400, Cause.CIPHERTEXT),
        (r"usage[ _]limit|rate limit (?:reached|exceeded)|exceeded your current quota", 429, Cause.LIMIT),
        (r"(?:maximum|exceeds the) context (?:length|window)", 400, Cause.CLIENT),
    )
)

# Where a text may say more than the status: answers about the request, and failures inside a stream (None).
_TEXT_STATUSES = frozenset({None, 400, 403, 404, 422, 429})


def from_http(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Failure:
    """The failure that an HTTP answer of the backend stands for.

    `headers` may have names in any case. A status below 400 means an answer that should have been a stream
    and was not.
    """
    names = {name.lower(): value for name, value in headers.items()}
    value = dialects.parse(body)
    if isinstance(value, dict):
        if status < 400:
            status = dialects.wrapped_status(value) or status
        names.update(dialects.wrapped_headers(value))
        refusal = dialects.from_json(value)
    else:
        refusal = dialects.from_text(body.decode("utf-8", "replace") if value is None else str(value), names)
    return _classify(status, names, refusal, now)


def from_event(event: dict[str, Any], *, now: float) -> Failure:
    """The failure that `response.failed`, `error`, or an error wrapped with status and headers stands for."""
    refusal = dialects.from_json(event)
    window = dialects.reached_limit(event)
    if window and not (refusal.message or refusal.code or refusal.kind):
        refusal.code = "rate_limit_exceeded"
    failure = _classify(dialects.wrapped_status(event), dialects.wrapped_headers(event), refusal, now)
    return replace(failure, window=window)


def _classify(status: int | None, headers: Mapping[str, str], refusal: Refusal, now: float) -> Failure:
    answer, cause = _cause(status, headers, refusal)
    kind, code = _words(answer, cause, refusal)
    message = refusal.message or _default_message(status, refusal)
    if refusal.html and (ray := headers.get("cf-ray")):
        message = f"{message} (cf-ray {ray})"
    return Failure(
        status=answer,
        message=redact(message),
        type=redact(kind),
        code=redact(code) if code else None,
        param=redact(refusal.param) if refusal.param else None,
        cause=cause,
        upstream_status=status,
        resets_at=dialects.resets_at(refusal.members, now),
        retry_after=dialects.retry_after(headers, refusal, now),
        names=_names(refusal) if cause is Cause.PARAMETER else (),
        limit=headers.get("x-codex-active-limit"),
    )


def _cause(status: int | None, headers: Mapping[str, str], refusal: Refusal) -> tuple[int, Cause]:
    """Status for the client and cause."""
    if _is_cloudflare(status, headers, refusal):
        return 503, Cause.CLOUDFLARE
    for label in (refusal.code, refusal.kind):
        known = _LABELS.get(label or "")
        if known and not (known[1] is Cause.PARAMETER and not _names(refusal)):
            return known
    if status in _TEXT_STATUSES:
        if _PARAMETERS.search(refusal.message):
            return 400, Cause.PARAMETER
        for pattern, answer, cause in _TEXTS:
            if pattern.search(refusal.message):
                return answer, cause
        if status == 404 and refusal.param == "model":
            return 404, Cause.MODEL
    return _by_status(status, refusal)


def _by_status(status: int | None, refusal: Refusal) -> tuple[int, Cause]:
    if status is None or status < 400:
        if "invalid_request_error" in (refusal.code, refusal.kind):
            return 400, Cause.CLIENT
        return 502, Cause.OVERLOAD
    if status >= 500:
        return {503: 503, 529: 503, 504: 504, 524: 504}.get(status, 502), Cause.OVERLOAD
    causes = {401: Cause.LOGIN, 402: Cause.ACCOUNT, 403: Cause.ACCOUNT, 429: Cause.LIMIT}
    return status, causes.get(status, Cause.CLIENT)


def _is_cloudflare(status: int | None, headers: Mapping[str, str], refusal: Refusal) -> bool:
    """The edge's page: HTML where the backend would speak JSON, or its own header."""
    if status is None or status < 400:
        return False
    if "cf-mitigated" in headers:
        return True
    text = refusal.message.lower()
    return status in (403, 429) and (refusal.html or ("cloudflare" in text and "blocked" in text))


def _words(answer: int, cause: Cause, refusal: Refusal) -> tuple[str, str | None]:
    """`type` and `code` for the client: the backend's own where clients act on them, OpenAI's elsewhere."""
    match cause:
        case Cause.LIMIT:
            return refusal.kind or "rate_limit_exceeded", refusal.code or "rate_limit_exceeded"
        case Cause.LOGIN:
            return "authentication_error", refusal.code or "invalid_api_key"
        case Cause.ACCOUNT:
            kind = refusal.kind or "invalid_request_error"
            return kind, refusal.code or (kind if kind in _LABELS else None)
        case Cause.MODEL | Cause.VERSION:
            return "invalid_request_error", "model_not_found"
        case Cause.CLOUDFLARE:
            return "server_error", "upstream_blocked"
        case Cause.OVERLOAD | Cause.NETWORK:
            default = "server_is_overloaded" if answer == 503 else "upstream_error"
            return "server_error", refusal.code or default
        case _:
            return refusal.kind or "invalid_request_error", refusal.code


def _default_message(status: int | None, refusal: Refusal) -> str:
    label = refusal.code or refusal.kind
    if label:
        return f"The backend refused the request: {label}."
    if status is None:
        return "The backend failed without saying why."
    return f"The backend answered {status} without saying why."


def _names(refusal: Refusal) -> tuple[str, ...]:
    found = _PARAMETERS.search(refusal.message)
    if not found:
        return (refusal.param,) if refusal.param else ()
    if found["member"]:
        return (found["member"].lower(),)
    return tuple(name.strip(" '\"`.") for name in found["names"].split(","))
