"""What is repaired of a refused request, and what of it is remembered for other requests."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from addon.protocol import errors, resend
from addon.protocol.errors import Failure
from addon.repairs import REMEMBERED_NAMES, Learned, Repairs
from tests.codex_fake import replies
from tests.codex_fake.replies import Reply

Body = dict[str, Any]

SEARCH: Body = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
USER: Body = {"type": "message", "role": "user", "content": "hi"}
THOUGHT: Body = {"type": "reasoning", "summary": [], "content": [], "encrypted_content": "g"}


def failure(reply: Reply) -> Failure:
    return errors.from_http(reply.status, {}, reply.encoded(), now=time.time())


def refusal(name: str) -> Failure:
    return failure(replies.unsupported_parameter(name))


def request(learned: Learned, model: str = "m", **members: Any) -> Repairs:
    return Repairs(orjson.dumps({"model": model, "input": [USER], **members}), model, learned)


def body(repairs: Repairs) -> Body:
    parsed: Body = orjson.loads(repairs.body)
    return parsed


def taken_out(repairs: Repairs, names: Iterable[str]) -> list[bool]:
    return [repairs.repair(refusal(name)) for name in names]


def test_a_member_that_was_refused_is_not_sent_to_that_model_again() -> None:
    learned = Learned()
    first = request(learned, reasoning={"effort": "high", "context": "all"})
    assert first.repair(refusal("reasoning.context"))
    again = request(learned, reasoning={"effort": "low", "context": "all"})
    assert body(again)["reasoning"] == {"effort": "low"}
    assert again.stripped == ["reasoning.context"]


def test_many_members_that_were_refused_are_taken_out_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned()
    for name in ("a", "b", "c"):
        learned.refuses("m", name, None)
    steps: list[bytes] = []
    without = resend.without

    def counted(body: bytes, names: Iterable[str]) -> tuple[bytes, list[str]]:
        steps.append(body)
        return without(body, names)

    monkeypatch.setattr(resend, "without", counted)
    again = request(learned, a=1, c=3, d=4)
    assert body(again).keys() == {"model", "input", "d"}
    assert again.stripped == ["a", "c"]
    assert len(steps) == 1


def test_another_model_keeps_the_member() -> None:
    learned = Learned()
    assert request(learned, "small", reasoning={"effort": "high"}).repair(refusal("reasoning.effort"))
    other = request(learned, "large", reasoning={"effort": "high"})
    assert body(other)["reasoning"] == {"effort": "high"}
    assert not other.stripped


def test_a_tier_that_was_refused_says_nothing_of_another_tier() -> None:
    learned = Learned()
    refused = failure(replies.detail("Unsupported service_tier: ultrafast"))
    assert request(learned, service_tier="ultrafast").repair(refused)
    assert "service_tier" not in body(request(learned, service_tier="ultrafast"))
    assert body(request(learned, service_tier="priority"))["service_tier"] == "priority"


def test_a_position_in_one_conversation_means_nothing_in_another() -> None:
    learned = Learned()
    first = request(learned, input=[USER, THOUGHT, USER, THOUGHT])
    assert first.repair(failure(replies.unknown_parameter("input[1].content")))
    less = {name: value for name, value in THOUGHT.items() if name != "content"}
    assert body(first)["input"] == [USER, less, USER, less]
    other = request(learned, input=[USER, USER])
    assert body(other)["input"] == [USER, USER]


def test_a_position_with_more_digits_than_a_number_may_have_means_nothing() -> None:
    assert not request(Learned()).repair(refusal(f"input[{'9' * 5000}].content"))


def test_three_members_are_taken_out_and_no_more() -> None:
    repairs = request(Learned(), a=1, b=1, c=1, d=1)
    assert taken_out(repairs, "abcd") == [True, True, True, False]


def test_what_was_known_before_is_none_of_the_three() -> None:
    learned = Learned()
    assert taken_out(request(learned, a=1, b=1, c=1), "abc") == [True] * 3
    repairs = request(learned, a=1, b=1, c=1, d=1)
    assert repairs.repair(refusal("d"))
    assert body(repairs) == {"model": "m", "input": [USER]}


def test_a_member_that_is_not_there_is_not_remembered() -> None:
    learned = Learned()
    assert not request(learned).repair(refusal("user"))
    assert learned.refused("m") == []


def test_the_oldest_refusal_is_forgotten_when_there_are_too_many() -> None:
    learned = Learned()
    names = [f"reasoning.x{number}" for number in range(REMEMBERED_NAMES + 1)]
    for name in names:
        assert request(learned, reasoning={name.split(".")[1]: 1}).repair(refusal(name))
    assert [name for name, _ in learned.refused("m")] == names[1:]


def test_one_refusal_gives_all_items_of_its_type_their_ids() -> None:
    learned = Learned()
    repairs = request(learned, input=[USER, *[SEARCH] * 6])
    missing = failure(replies.missing("input[1].id"))
    assert repairs.repair(missing)
    items = body(repairs)["input"]
    assert items[0] == USER
    assert all(item["id"].startswith("ws_") for item in items[1:])
    assert not repairs.repair(missing)


def test_an_item_type_that_needs_ids_gets_them_from_then_on() -> None:
    learned = Learned()
    first = request(learned, input=[USER, SEARCH])
    assert first.repair(failure(replies.missing("input[1].id")))
    assert request(learned, input=[USER, SEARCH]).body == first.body


def test_an_id_that_is_demanded_of_no_item_changes_nothing() -> None:
    assert not request(Learned()).repair(failure(replies.missing("input[9].id")))
