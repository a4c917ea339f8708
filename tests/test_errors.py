"""What the backend's refusals mean, and what the client is told: the table of everything seen on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol import dialects, errors
from addon.protocol.errors import Cause
from tests.error_answers import CLOUDFLARE, NOW, error, http

SEEN: list[tuple[int, Any, int, str | None, Cause]] = [
    # status, body → status for the client, code, cause
    (400, {"detail": "Unsupported parameter: temperature"}, 400, None, Cause.PARAMETER),
    (400, {"detail": "Stream must be set to true"}, 400, None, Cause.CLIENT),
    (
        400,
        {"detail": "The 'm' model is not supported when using Codex with a ChatGPT account."},
        404,
        "model_not_found",
        Cause.MODEL,
    ),
    (
        400,
        {"detail": "The 'm' model requires a newer version of Codex. Please upgrade."},
        404,
        "model_not_found",
        Cause.VERSION,
    ),
    (
        400,
        error(type="invalid_request_error", code="unsupported_value", param="input[3]"),
        400,
        "unsupported_value",
        Cause.CLIENT,
    ),
    (400, error(code="invalid_encrypted_content"), 400, "invalid_encrypted_content", Cause.CIPHERTEXT),
    (
        400,
        error(message="Encrypted content organization_id did not match the target organization."),
        400,
        None,
        Cause.CIPHERTEXT,
    ),
    (400, error(code="context_length_exceeded"), 400, "context_length_exceeded", Cause.CLIENT),
    (400, error(code="cyber_policy"), 400, "cyber_policy", Cause.CLIENT),
    (
        401,
        {
            "error": {"code": "token_invalidated", "type": "invalid_request_error", "message": "m"},
            "status": 401,
        },
        401,
        "token_invalidated",
        Cause.LOGIN,
    ),
    (401, error(code="token_expired"), 401, "token_expired", Cause.LOGIN),
    (401, error(code="token_revoked"), 401, "token_revoked", Cause.LOGIN),
    (401, b"", 401, "invalid_api_key", Cause.LOGIN),
    (402, {"detail": {"code": "deactivated_workspace"}}, 402, "deactivated_workspace", Cause.ACCOUNT),
    (402, b"", 402, None, Cause.ACCOUNT),
    (
        403,
        {"detail": {"code": "invalid_workspace_selected"}},
        403,
        "invalid_workspace_selected",
        Cause.ACCOUNT,
    ),
    (403, {"detail": "Forbidden"}, 403, None, Cause.ACCOUNT),
    (403, CLOUDFLARE, 503, "upstream_blocked", Cause.CLOUDFLARE),
    (404, {"detail": "The usage limit has been reached"}, 429, "rate_limit_exceeded", Cause.LIMIT),
    (404, error(type="usage_limit_reached"), 429, "rate_limit_exceeded", Cause.LIMIT),
    (404, error(message="Model not found m", param="model"), 404, "model_not_found", Cause.MODEL),
    (404, error(message="Item with id rs_1 not found."), 404, None, Cause.CLIENT),
    (413, b"", 413, None, Cause.CLIENT),
    (429, error(type="usage_limit_reached"), 429, "rate_limit_exceeded", Cause.LIMIT),
    (429, error(code="insufficient_quota"), 429, "insufficient_quota", Cause.LIMIT),
    (429, error(type="usage_not_included"), 429, "usage_not_included", Cause.ACCOUNT),
    (429, b"Too many requests", 429, "rate_limit_exceeded", Cause.LIMIT),
    (500, b"", 502, "upstream_error", Cause.OVERLOAD),
    (503, error(code="server_is_overloaded"), 503, "server_is_overloaded", Cause.OVERLOAD),
    (503, error(code="slow_down"), 503, "slow_down", Cause.OVERLOAD),
    (
        503,
        b"<html><title>503 Service Unavailable</title></html>",
        503,
        "server_is_overloaded",
        Cause.OVERLOAD,
    ),
    (504, b"", 504, "upstream_error", Cause.OVERLOAD),
    (302, b"", 502, "upstream_error", Cause.OVERLOAD),
    (200, error(type="usage_limit_reached"), 429, "rate_limit_exceeded", Cause.LIMIT),
]


@pytest.mark.parametrize(("status", "body", "answer", "code", "cause"), SEEN)
def test_an_answer_seen_from_the_backend(
    status: int, body: Any, answer: int, code: str | None, cause: Cause
) -> None:
    failure = http(status, body)
    assert (failure.status, failure.code, failure.cause) == (answer, code, cause)
    assert failure.upstream_status == status
    assert failure.message


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"detail": "text"}, "text", None),
        ({"detail": {"code": "c", "message": "text"}}, "text", None),
        ({"detail": {"code": "c"}}, "The backend refused the request: c.", None),
        (
            {"detail": [{"loc": ["body", "input", 0], "msg": "Field required"}, {"loc": [], "msg": "bad"}]},
            "input.0: Field required; bad",
            "input.0",
        ),
        ({"error": "text"}, "text", None),
        ({"error": {"message": "text", "param": "input[3].content"}}, "text", "input[3].content"),
        ({"type": "error", "error": {"message": "text"}, "status": 400}, "text", None),
        ({"message": "text"}, "text", None),
        ("text", "text", None),
        (["text"], "['text']", None),
        (b"text", "text", None),
        (b"", "The backend answered 400 without saying why.", None),
        (b"{}", "The backend answered 400 without saying why.", None),
        ({"error": None, "detail": None}, "The backend answered 400 without saying why.", None),
        (b"<html><title>Bad &amp;\n worse</title></html>", "Bad & worse", None),
        (b"<html>\xff", "The backend's edge answered with a page", None),
    ],
)
def test_every_form_keeps_its_text(body: Any, message: str, param: str | None) -> None:
    failure = http(400, body)
    assert (failure.message, failure.param) == (message, param)


def test_a_cloudflare_page_is_named_by_title_and_ray() -> None:
    failure = http(403, CLOUDFLARE, CF_RAY="8a1-FRA", cf_mitigated="challenge", content_type="text/html")
    assert failure.message == "Attention Required! | Cloudflare (cf-ray 8a1-FRA)"


@pytest.mark.parametrize("piece", ["model ", "<title", "<title>", "try again in 1", "a@", "user-"])
def test_a_hostile_answer_takes_no_more_than_linear_time(piece: str) -> None:
    """A pattern that tries every end from every start would need minutes for this."""
    text = piece * (1_000_000 // len(piece))
    assert http(404, error(message=text)).message
    assert http(404, text.encode(), content_type="text/html").message


def test_only_the_beginning_of_a_message_is_read() -> None:
    late = " " + "x" * dialects.LONGEST + " usage limit"
    assert http(404, error(message=late)).status == 404
    assert http(404, error(message=late[-100:])).status == 429


def test_a_title_with_an_endless_number_in_it_is_a_title() -> None:
    assert http(502, b"<title>Bad &#" + b"1" * 5000 + b";</title>").message.startswith("Bad ")


def test_a_challenge_is_known_by_its_header_alone() -> None:
    assert http(403, b"", cf_mitigated="challenge").cause is Cause.CLOUDFLARE


def test_the_reached_type_header_decides_nothing() -> None:
    failure = http(400, {"detail": "Input must be a list"}, x_codex_rate_limit_reached_type="primary")
    assert failure.cause is Cause.CLIENT


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"detail": "Unsupported parameter: max_output_tokens"}, ("max_output_tokens",)),
        (error(message="Unknown parameter: 'reasoning.context'."), ("reasoning.context",)),
        (error(message="Unsupported service_tier: flex"), ("service_tier",)),
        (error(message="Unsupported parameters: a, 'b'"), ("a", "b")),
        (error(message="no", code="unsupported_parameter", param="input[0].id"), ("input[0].id",)),
    ],
)
def test_refused_parameters_are_named(body: Any, names: tuple[str, ...]) -> None:
    failure = http(400, body)
    assert (failure.cause, failure.names) == (Cause.PARAMETER, names)


# Failures inside a stream


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("rate_limit_exceeded", 429),
        ("usage_limit_reached", 429),
        ("insufficient_quota", 429),
        ("usage_not_included", 429),
        ("invalid_api_key", 401),
        ("token_invalidated", 401),
        ("token_expired", 401),
        ("authentication_error", 401),
        ("context_length_exceeded", 400),
        ("invalid_prompt", 400),
        ("invalid_request_error", 400),
        ("cyber_policy", 400),
        ("bio_policy", 400),
        ("model_not_found", 404),
        ("server_is_overloaded", 503),
        ("slow_down", 503),
        ("biscuit_baker_service_me_circuit_open", 503),
        ("server_error", 502),
        ("never_heard_of", 502),
    ],
)
def test_codes_in_the_stream(code: str, status: int) -> None:
    inside = {"code": code, "message": "text"}
    for event in (
        {"type": "response.failed", "response": {"id": "resp_1", "error": inside}},
        {"type": "error", "error": inside},
        {"type": "error", **inside},
    ):
        failure = errors.from_event(event, now=NOW)
        assert (failure.status, failure.message, failure.upstream_status) == (status, "text", None)


def test_an_error_type_alone_is_enough() -> None:
    event = {
        "type": "error",
        "error": {"type": "usage_limit_reached", "message": "m", "resets_in_seconds": 60},
    }
    failure = errors.from_event(event, now=NOW)
    assert (failure.cause, failure.type, failure.resets_at) == (Cause.LIMIT, "usage_limit_reached", NOW + 60)
    bad = errors.from_event({"type": "error", "error": {"type": "invalid_request_error"}}, now=NOW)
    assert (bad.status, bad.cause) == (400, Cause.CLIENT)


@pytest.mark.parametrize("member", ["status", "status_code"])
def test_a_wrapped_error_is_the_http_answer_it_wraps(member: str) -> None:
    event = {
        "type": "error",
        member: 429,
        "error": {"type": None, "code": None, "message": "slow"},
        "headers": {"Retry-After": "7", "x-codex-primary-used-percent": "100"},
    }
    failure = errors.from_event(event, now=NOW)
    assert (failure.status, failure.cause) == (429, Cause.LIMIT)
    assert (failure.upstream_status, failure.retry_after) == (429, 7.0)


def test_a_failed_response_may_name_only_the_window() -> None:
    event = {"type": "response.failed", "response": {"failed": {"rate_limit_reached_type": "secondary"}}}
    assert errors.from_event(event, now=NOW).cause is Cause.LIMIT


@pytest.mark.parametrize("event", [{}, {"type": "response.failed", "response": None}, {"type": "error"}])
def test_a_failure_without_a_word_is_one_all_the_same(event: dict[str, Any]) -> None:
    failure = errors.from_event(event, now=NOW)
    assert (failure.status, failure.message) == (502, "The backend failed without saying why.")


def test_codes_clients_match_on_pass_unchanged() -> None:
    for code in ("previous_response_not_found", "websocket_connection_limit_reached"):
        event = {"type": "error", "status": 400, "error": {"code": code, "message": "m"}}
        assert errors.from_event(event, now=NOW).code == code
