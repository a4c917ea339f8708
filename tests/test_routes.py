"""Which requests are ours."""

from __future__ import annotations

import pytest

from addon.protocol.routes import Route, match, segments


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses",
        "/responses",
        "/v1/responses/",
        "/v1/responses?stream=true",
        "/v1/responses?next=/v1/models",
        "//v1//responses",
        "/v1/%72esponses",
    ],
)
def test_a_post_to_responses_is_served_however_it_is_spelled(path: str) -> None:
    assert match("POST", path) is Route.RESPONSES


def test_a_get_of_responses_is_the_websocket_route() -> None:
    assert match("GET", "/v1/responses") is Route.RESPONSES_SOCKET


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses/resp_1"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses%2Fcompact"),
        ("POST", "/v1%2Fresponses"),
        ("POST", "/x/v1/responses"),
        ("POST", "/v1/v1/responses"),
        ("POST", "/v1/responses2"),
        ("POST", "/v1/RESPONSES"),
        ("POST", "/v1/embeddings?x=/v1/responses"),
        ("POST", "/v1/embeddings/../responses"),
        ("POST", "/"),
        ("POST", ""),
        ("DELETE", "/v1/responses"),
        ("PRI", "*"),
    ],
)
def test_anything_else_is_not_ours(method: str, path: str) -> None:
    assert match(method, path) is None


def test_an_encoded_slash_stays_inside_its_segment() -> None:
    assert segments("/v1/responses/a%2Fb") == ("responses", "a/b")
