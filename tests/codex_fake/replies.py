"""The refusals of the backend, with the texts that were seen on the real one.

One idea: a refusal is a value (`Reply`), so a rule raises it, a scenario sends it, and a test compares with
it. The backend speaks two dialects, FastAPI's `{"detail": …}` and OpenAI's `{"error": {…}}`; which one a
refusal uses is part of the text and must not be tidied up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer: JSON when `body` is a dict or list, else text or HTML."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str:
        if isinstance(self.body, str):
            return "text/html; charset=UTF-8" if self.body.startswith("<") else "text/plain; charset=utf-8"
        return "application/json"

    def encoded(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)


class Refused(Exception):
    """A rule of the server was broken; `reply` says how."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.status} {reply.encoded()[:300]!r}")
        self.reply = reply


def detail(text: str | Json, status: int = 400) -> Reply:
    return Reply(status, {"detail": text})


def error(
    message: str,
    *,
    status: int = 400,
    code: str | None = None,
    param: str | None = None,
    type: str = "invalid_request_error",
    **more: Any,
) -> Reply:
    return Reply(status, {"error": {"message": message, "type": type, "param": param, "code": code, **more}})


def unsupported_parameter(name: str) -> Reply:
    return detail(f"Unsupported parameter: {name}")


def unknown_parameter(param: str) -> Reply:
    return error(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def missing(param: str) -> Reply:
    return error(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def invalid_value(value: object, supported: tuple[str, ...], param: str) -> Reply:
    names = [f"'{name}'" for name in supported]
    listed = " and ".join(names) if len(names) == 2 else ", ".join(names)
    text = f"Invalid value: '{value}'. Supported values are: {listed}."
    return error(text, code="invalid_value", param=param)


def too_long(param: str, limit: int, length: int) -> Reply:
    text = (
        f"Invalid '{param}': string too long. Expected a string with maximum length {limit}, "
        f"but got a string with length {length} instead."
    )
    return error(text, code="string_above_max_length", param=param)


def item_not_found(item_id: str) -> Reply:
    text = (
        f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. "
        "Try again with `store` set to true, or remove this item from your input."
    )
    return error(text, status=404, param="input")


def invalid_encrypted_content(ciphertext: str, *, foreign: bool) -> Reply:
    shown = ciphertext if len(ciphertext) < 12 else f"{ciphertext[:4]}...{ciphertext[-4:]}"
    reason = (
        "Encrypted content organization_id did not match the target organization."
        if foreign
        else "Encrypted content could not be decrypted or parsed."
    )
    text = f"The encrypted content {shown} could not be verified. Reason: {reason}"
    return error(text, code="invalid_encrypted_content")


def unsupported_model(model: str) -> Reply:
    return detail(f"The '{model}' model is not supported when using Codex with a ChatGPT account.")


def newer_version(model: str) -> Reply:
    return detail(
        f"The '{model}' model requires a newer version of Codex. "
        "Please upgrade to the latest app or CLI and try again."
    )


def model_not_found(model: str) -> Reply:
    return error(f"Model not found {model}", status=404, param="model")


def unauthorized(code: str = "token_invalidated") -> Reply:
    message = {
        "token_expired": "Provided authentication token is expired. Please try signing in again.",
        "token_revoked": "Encountered invalidated oauth token for user, failing request",
    }.get(code, "Your authentication token has been invalidated. Please try signing in again.")
    body = {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}
    return Reply(401, {**body, "status": 401})


def usage_limit(plan: str = "plus", resets_at: float | None = None, resets_in: float | None = None) -> Reply:
    body: Json = {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": plan,
    }
    if resets_at is not None:
        body["resets_at"] = int(resets_at)
    body["eligible_promo"] = None
    if resets_in is not None:
        body["resets_in_seconds"] = int(resets_in)
    return Reply(429, {"error": body}, {"x-codex-active-limit": "premium"})


def limit_as_404(plan: str = "plus", resets_at: float | None = None, resets_in: float | None = None) -> Reply:
    return Reply(404, usage_limit(plan, resets_at, resets_in).body)


def rate_limited(retry_after: float | None = None, after: float = 1.5) -> Reply:
    text = f"Rate limit reached for requests. Please try again in {after}s."
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return Reply(
        429,
        error(text, type="rate_limit_exceeded", code="rate_limit_exceeded").body,
        headers,
    )


def usage_not_included(plan: str = "free") -> Reply:
    text = "To use Codex with your ChatGPT plan, upgrade to Plus."
    return error(text, status=429, type="usage_not_included", plan_type=plan)


def cloudflare() -> Reply:
    page = (
        "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head><body>"
        "<h1>Sorry, you have been blocked</h1><p>You are unable to access chatgpt.com</p>"
        "<p>Cloudflare Ray ID: 8f0a1b2c3d4e5f60</p></body></html>"
    )
    return Reply(
        403, page, {"cf-mitigated": "challenge", "cf-ray": "8f0a1b2c3d4e5f60-FRA", "server": "cloudflare"}
    )


def overloaded(code: str = "server_is_overloaded", retry_after: float | None = None) -> Reply:
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    text = "Our servers are currently overloaded. Please try again later."
    return Reply(503, error(text, type="service_unavailable_error", code=code).body, headers)


def circuit_open() -> Reply:
    body = {"type": None, "code": "biscuit_baker_service_me_circuit_open", "message": "Service Unavailable"}
    return Reply(503, {"error": {**body, "param": None}})


def server_error() -> Reply:
    text = "The server had an error while processing your request. Sorry about that!"
    return error(text, status=500, type="server_error")


def bad_gateway() -> Reply:
    return Reply(502, "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>")


# What `FakeAccount.refuse(name)` can send; the arguments of each are those of its function.
NAMED: dict[str, Callable[..., Reply]] = {
    "bad_gateway": bad_gateway,
    "circuit_open": circuit_open,
    "cloudflare": cloudflare,
    "deactivated_workspace": lambda: detail({"code": "deactivated_workspace"}, 402),
    "invalid_workspace_selected": lambda: detail({"code": "invalid_workspace_selected"}, 403),
    "limit_as_404": limit_as_404,
    "model_not_found": model_not_found,
    "newer_version": newer_version,
    "overloaded": overloaded,
    "rate_limited": rate_limited,
    "server_error": server_error,
    "unauthorized": unauthorized,
    "unsupported_model": unsupported_model,
    "unsupported_parameter": unsupported_parameter,
    "usage_limit": usage_limit,
    "usage_not_included": usage_not_included,
}
