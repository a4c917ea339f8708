"""What a request's body has to be."""

import pytest
from mitmproxy import http

from addon.intercept import parse
from addon.protocol.errors import Refused


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff"])
def test_a_body_is_a_json_object(content: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        parse(http.Request.make("POST", "http://127.0.0.1:8080/v1/responses", content))
    assert refusal.value.failure.status == 400
