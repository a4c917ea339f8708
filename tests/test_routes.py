"""Which requests are ours."""

from __future__ import annotations

import pytest

from addon.protocol.routes import Route, match, response_id, segments


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
        ("POST", "/v1/responses/input_tokens"),
        ("PATCH", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/cancel"),
        ("POST", "/v1/responses/resp_1/input_items"),
        ("GET", "/v1/responses/resp_1/input_items/more"),
        ("GET", "/v1/responses%2Fresp_1"),
        ("GET", "/v1/conversations/resp_1"),
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


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v1/responses/resp_1", Route.RESPONSE),
        ("GET", "/responses/resp_1/?stream=true", Route.RESPONSE),
        ("DELETE", "/v1/responses/resp_1", Route.RESPONSE_DELETE),
        ("POST", "/v1/responses/resp_1/cancel", Route.RESPONSE_CANCEL),
        ("GET", "/v1/responses/resp_1/input_items?limit=5", Route.INPUT_ITEMS),
    ],
)
def test_routes_of_one_response_say_which(method: str, path: str, route: Route) -> None:
    assert match(method, path) is route
    assert response_id(path) == "resp_1"


def test_compact_is_a_route_and_no_response() -> None:
    assert match("POST", "/v1/responses/compact") is Route.COMPACT


def test_the_id_of_a_response_is_one_segment_whatever_is_in_it() -> None:
    assert match("GET", "/v1/responses/a%2Fcancel") is Route.RESPONSE
    assert response_id("/v1/responses/a%2Fcancel") == "a/cancel"
