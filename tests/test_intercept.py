"""Who may ask at all, before anything else is looked at."""

import pytest
from mitmproxy import http

from addon.intercept import parse, refuse_pages, require_key
from addon.protocol.errors import Refused


def request(content: bytes = b"", **headers: str) -> http.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.Request.make("POST", "http://127.0.0.1:8080/v1/responses", content, named)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://evil.example:8080", "http://192.168.1.9"])
def test_a_page_of_a_web_site_is_refused_whatever_else_it_sends(origin: str) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_pages(request(origin=origin, authorization="Bearer any"))
    assert refusal.value.failure.status == 403


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://localhost:3000",
        "http://127.0.0.1:5173",
        "http://[::1]:1",
        "app://desktop",
        "file://",
    ],
)
def test_programs_and_pages_of_this_machine_are_not(origin: str) -> None:
    refuse_pages(request(**({"origin": origin} if origin else {})))


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer  ", "Basic abc"])
def test_a_bearer_token_is_wanted(value: str | None) -> None:
    with pytest.raises(Refused) as refusal:
        require_key(request(**({} if value is None else {"authorization": value})))
    assert refusal.value.failure.status == 401


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff"])
def test_a_body_is_a_json_object(content: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        parse(request(content))
    assert refusal.value.failure.status == 400
