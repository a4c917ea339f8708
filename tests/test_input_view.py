"""The input items of a stored response, listed."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol.errors import Refused
from addon.protocol.input_view import listed, page

SHORT: list[Any] = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"type": "function_call_output", "call_id": "c", "output": "1"},
    {"id": "rs_1", "type": "reasoning", "summary": []},
]


def test_short_forms_are_shown_long_and_the_originals_are_left_alone() -> None:
    before = [dict(item) for item in SHORT]
    user, said, output, thought = listed(SHORT, "resp_1")
    assert user["content"] == [{"type": "input_text", "text": "hello"}]
    assert said["content"] == [{"type": "output_text", "text": "hi", "annotations": []}]
    assert [item["type"] for item in (user, said, output)] == ["message", "message", "function_call_output"]
    assert (user["status"], output["status"]) == ("completed", "completed")
    assert thought == SHORT[3]
    assert before == SHORT


def test_ids_are_the_items_own_or_the_same_at_every_look() -> None:
    ids = [item["id"] for item in listed(SHORT, "resp_1")]
    assert [id.partition("_")[0] for id in ids] == ["msg", "msg", "fco", "rs"]
    assert len(set(ids)) == 4
    assert ids == [item["id"] for item in listed(SHORT, "resp_1")]
    assert ids[0] != listed(SHORT, "resp_2")[0]["id"]


@pytest.mark.parametrize(
    ("query", "shown", "more"),
    [
        ({}, "43210", False),
        ({"order": "asc"}, "01234", False),
        ({"order": "asc", "limit": "2"}, "01", True),
        ({"order": "asc", "limit": "2", "after": "i2"}, "34", False),
        ({"after": "i0"}, "", False),
    ],
)
def test_pages(query: dict[str, str], shown: str, more: bool) -> None:
    result = page([{"id": f"i{n}"} for n in range(5)], query)
    ids = [f"i{n}" for n in shown]
    assert [item["id"] for item in result["data"]] == ids
    assert (result["object"], result["has_more"]) == ("list", more)
    assert (result["first_id"], result["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"order": "up"}, "order"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"after": "nobody"}, "after"),
    ],
)
def test_what_cannot_be_meant_is_refused(query: dict[str, str], param: str) -> None:
    with pytest.raises(Refused) as refusal:
        page([{"id": "i0"}], query)
    assert (refusal.value.failure.status, refusal.value.failure.param) == (400, param)
