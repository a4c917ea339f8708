"""When a turn begins, which turn a request continues, and what the backend gave for it."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol.identity import item_digests
from addon.sessions import HEADS, Session, Sessions

Item = dict[str, Any]

USER: Item = {"type": "message", "role": "user", "content": "hi"}
ANSWER: Item = {"type": "message", "role": "assistant", "content": "yes"}
CALL: Item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT: Item = {"type": "function_call_output", "call_id": "c", "output": "x"}
TITLE: Item = {"type": "message", "role": "user", "content": "A title for: hi"}


async def thread_id(key: str) -> str:
    return f"thread of {key}"


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(thread_id)


@pytest.fixture
async def session(sessions: Sessions) -> Session:
    return await sessions.find("key")


@pytest.mark.parametrize(
    ("previous", "current", "new"),
    [
        ([], [USER], True),
        ([USER], [USER], False),
        ([USER], [USER, ANSWER, OUTPUT], False),
        ([USER], [USER, ANSWER, USER], True),
        ([USER], [USER, {"role": "developer", "content": "x"}], True),
        ([USER], [USER, {"role": "system", "content": "x"}], True),
        ([USER, ANSWER], [USER], True),
        ([USER, ANSWER], [ANSWER, USER, OUTPUT], True),
        ([USER], [], True),
    ],
)
def test_a_turn_begins_with_what_the_user_adds(
    sessions: Sessions, session: Session, previous: list[Item], current: list[Item], new: bool
) -> None:
    before = sessions.turn(session, previous)
    after = sessions.turn(session, current)
    assert (after.turn_id != before.turn_id) is new
    assert before.thread_id == after.thread_id == "thread of key"


def test_a_title_in_the_middle_of_a_tool_loop_leaves_its_turn_alone(
    sessions: Sessions, session: Session
) -> None:
    loop = sessions.turn(session, [USER])
    sessions.remember_turn_state(session, loop, "main", {"x-codex-turn-state": "s1"})
    title = sessions.turn(session, [TITLE])
    assert title is not loop
    assert session.turn_states(title) == {}
    assert sessions.turn(session, [USER, CALL, OUTPUT]) is loop
    assert session.turn_states(loop) == {"main": "s1"}
    assert sessions.turn(session, [TITLE]) is title


def test_a_question_beside_the_loop_about_the_same_history_leaves_its_turn_alone(
    sessions: Sessions, session: Session
) -> None:
    loop = sessions.turn(session, [USER, CALL, OUTPUT])
    assert sessions.turn(session, [USER, CALL, OUTPUT, TITLE]) is not loop
    assert sessions.turn(session, [USER, CALL, OUTPUT, CALL, OUTPUT]) is loop


def test_the_longest_history_is_the_one_that_goes_on(sessions: Sessions, session: Session) -> None:
    sessions.turn(session, [USER])
    second = sessions.turn(session, [USER, ANSWER, USER])
    assert sessions.turn(session, [USER, ANSWER, USER, CALL, OUTPUT]) is second


def test_the_turns_used_last_are_kept(sessions: Sessions, session: Session) -> None:
    loop = sessions.turn(session, [USER])
    others = [{**TITLE, "content": f"other {number}"} for number in range(HEADS)]
    for other in others[1:]:
        sessions.turn(session, [other])
    assert sessions.turn(session, [USER, CALL, OUTPUT]) is loop
    for other in others:
        sessions.turn(session, [other])
    assert sessions.turn(session, [USER, CALL, OUTPUT, CALL, OUTPUT]) is not loop
    assert len(session.heads) == HEADS


def test_the_first_turn_state_of_an_account_stays_for_its_turn(sessions: Sessions, session: Session) -> None:
    turn = sessions.turn(session, [USER])
    for account, state in (("main", "s1"), ("main", "s2"), ("work", "s3"), ("idle", "")):
        sessions.remember_turn_state(session, turn, account, {"x-codex-turn-state": state})
    assert session.turn_states(turn) == {"main": "s1", "work": "s3"}


def test_another_order_of_members_is_another_item_as_it_is_for_the_prompt_cache() -> None:
    assert item_digests([{"a": 1, "b": 2}]) == item_digests([{"a": 1, "b": 2}])
    assert item_digests([{"a": 1, "b": 2}]) != item_digests([{"b": 2, "a": 1}])
