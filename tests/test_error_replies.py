"""What the client is told of a failure: the wait, the words, and nothing that belongs to an account."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from addon.protocol import errors
from addon.protocol.errors import Cause, Failure, ProtocolError
from tests.error_answers import CLOUDFLARE, NOW, error, http

# Waits


@pytest.mark.parametrize(
    ("members", "at"),
    [
        ({"resets_at": NOW + 100}, NOW + 100),
        ({"resets_at": str(int(NOW + 100))}, NOW + 100),
        ({"resets_at": (NOW + 100) * 1000}, NOW + 100),
        ({"resets_at": datetime.fromtimestamp(NOW + 100, UTC).isoformat()}, NOW + 100),
        ({"resets_in_seconds": 3600}, NOW + 3600),
        ({"resets_at": NOW + 100, "resets_in_seconds": 3600}, NOW + 100),
        ({"resets_at": NOW - 1}, None),
        ({"resets_at": 0}, None),
        ({"resets_at": True}, None),
        ({"resets_at": "soon"}, None),
        ({"resets_at": 1e300}, None),
        ({}, None),
    ],
)
def test_the_moment_a_limit_ends(members: dict[str, Any], at: float | None) -> None:
    assert http(429, error(type="usage_limit_reached", **members)).resets_at == at


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"Retry_After": "3"}, "", 3.0),
        ({"retry_after": "1.5"}, "", 1.5),
        ({"retry_after": "3", "retry_after_ms": "250"}, "", 0.25),
        ({"retry_after": format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)}, "", 90.0),
        ({"retry_after": "nonsense"}, "", None),
        ({"retry_after": "-5"}, "", None),
        ({"retry_after": "nan"}, "", None),
        ({}, "Please try again in 11.054s.", 11.054),
        ({}, "Try again in 250ms", 0.25),
        ({}, "try again in 2 seconds", 2.0),
        ({}, "try again in 1 second", 1.0),
        ({}, "try again in 3 minutes", 180.0),
        ({}, "try again in 5 parsecs", None),
        ({"retry_after": "3"}, "try again in 9s", 3.0),
    ],
)
def test_the_wait(headers: dict[str, str], message: str, seconds: float | None) -> None:
    assert http(429, error(message=message), **headers).retry_after == seconds


def test_reset_is_the_named_moment_or_the_wait_from_now() -> None:
    failure = Failure(429, "m", "t", None, None, Cause.LIMIT, resets_at=NOW + 5, retry_after=9)
    assert failure.reset(NOW) == NOW + 5
    assert Failure(429, "m", "t", None, None, Cause.LIMIT, retry_after=9).reset(NOW) == NOW + 9
    assert Failure(429, "m", "t", None, None, Cause.LIMIT).reset(NOW) is None


# What the client gets


def test_the_body_has_the_four_members() -> None:
    failure = http(400, error(type="invalid_request_error", code="c", param="p"))
    assert json.loads(errors.body(failure)) == {
        "error": {"message": "text", "type": "invalid_request_error", "param": "p", "code": "c"}
    }


def test_waits_are_rounded_up() -> None:
    headers = errors.headers(http(429, b"", retry_after="1.2345"), now=NOW)
    assert headers == {"content-type": "application/json", "retry-after": "2", "retry-after-ms": "1235"}


@pytest.mark.parametrize(
    ("failure", "retry"),
    [
        (http(429, b"", retry_after="60"), True),
        (http(429, b"", retry_after="61"), False),
        (http(429, b""), False),
        (http(429, error(type="usage_not_included")), False),
        (http(401, b""), False),
        (http(403, {"detail": "no"}), False),
        (http(404, error(message="Model not found")), False),
        (http(403, CLOUDFLARE), True),
        (http(503, b""), True),
        (http(503, b"", retry_after="300"), False),
        (errors.network("connect"), True),
    ],
)
def test_clients_are_told_not_to_retry_what_cannot_succeed_soon(failure: Failure, retry: bool) -> None:
    assert (errors.headers(failure, now=NOW).get("x-should-retry") != "false") is retry


def test_network_failures() -> None:
    seen = [(f.status, f.code) for f in map(errors.network, ("connect", "timeout", "cut"))]
    assert seen == [(502, "upstream_unreachable"), (504, "upstream_timeout"), (502, "upstream_cut")]
    assert errors.network("connect", "no route").message == "The backend could not be reached: no route"


def test_our_own_refusals() -> None:
    refused = errors.refuse(400, "no input", code="missing_required_parameter", param="input")
    assert str(refused) == "no input"
    assert (refused.failure.cause, refused.failure.param) == (Cause.CLIENT, "input")
    assert errors.refuse(500, "bug", type="server_error").failure.cause is Cause.PROXY


def test_a_broken_protocol_is_502() -> None:
    failure = ProtocolError("odd").failure
    assert (failure.status, failure.type, failure.message) == (502, "server_error", "odd")


@pytest.mark.parametrize(
    "secret",
    [
        "jane.doe+x@example.co.uk",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "user-AbC123dEf456",
        "user_AbC123dEf456",
        "acct_1a2b3c4d5e",
        "org-1a2b3c4d5e6f",
        "sk-proj-abcdefgh12345678",
        "gAAAAABmverylongciphertext==",
    ],
)
def test_nothing_that_names_or_opens_an_account_is_told(secret: str) -> None:
    for failure in (
        http(400, error(message=f"No access for {secret}, sorry")),
        http(400, error(param=secret)),
        errors.network("cut", f"proxy said {secret}"),
    ):
        assert secret.encode() not in errors.body(failure)
    assert (
        http(400, error(message=f"No access for {secret}, sorry")).message
        == "No access for [redacted], sorry"
    )


def test_bearer_tokens_are_not_told() -> None:
    failure = http(400, error(message="Authorization: Bearer abc.def-123 refused"))
    assert failure.message == "Authorization: Bearer [redacted] refused"


@pytest.mark.parametrize(
    "text",
    [
        "The 'gpt-5.6-codex' model requires a newer version",
        "user-provided input, org-wide policy, account-level",
        "Missing bearer authentication in header",
        "Invalid value: input[12].call_id call_8f3e2a1b9c",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert errors.redact(text) == text


def test_a_code_cannot_carry_what_a_message_may_not() -> None:
    failure = http(400, error(code="jane@example.com", type="eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0"))
    assert b"jane" not in errors.body(failure)
    assert b"eyJ" not in errors.body(failure)


def test_long_texts_are_cut() -> None:
    assert len(http(500, b"x" * 100_000).message) <= 500
    assert len(http(400, error(message="x" * 100_000)).message) < 5000
