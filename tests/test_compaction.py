"""What /v1/responses/compact sends and answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from addon.protocol.asked import Asked
from addon.protocol.compaction import CompactedObject, request
from addon.protocol.errors import ProtocolError
from addon.protocol.sse import Decoder, encode

HISTORY: list[Any] = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
MADE = {"id": "cmp_1", "type": "compaction", "encrypted_content": "sealed"}


def answered(*items: Any) -> bytes:
    """The answer to the client when the backend's output was this."""
    output, decoder = CompactedObject(Asked(api="responses", stream=False, model="m"), HISTORY), Decoder()
    response = {
        "id": "resp_1",
        "created_at": 5,
        "output": list(items),
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }
    for frame in decoder.feed(encode({"type": "response.completed", "response": response})):
        output.feed(frame)
    return output.finish()


def test_the_request_is_an_ordinary_one_that_ends_with_the_trigger() -> None:
    body = {"model": "m", "stream": True, "input": "ignored"}
    assert request(body, HISTORY) == {
        "model": "m",
        "stream": False,
        "input": [*HISTORY, {"type": "compaction_trigger"}],
    }
    assert body["input"] == "ignored"


def test_the_answer_is_the_users_messages_and_the_compaction() -> None:
    answer = orjson.loads(answered({"id": "rs_1", "type": "reasoning", "summary": []}, MADE))
    kept, made = answer.pop("output")
    assert (kept["role"], kept["content"]) == ("user", [{"type": "input_text", "text": "one"}])
    assert made == MADE
    assert answer.pop("usage")["total_tokens"] == 4
    assert answer == {"id": "resp_1", "object": "response.compaction", "created_at": 5}


@pytest.mark.parametrize("items", [(), ({"id": "cmp_1", "type": "compaction"},)])
def test_an_answer_without_a_compaction_is_a_failure(items: tuple[Any, ...]) -> None:
    with pytest.raises(ProtocolError):
        answered(*items)
