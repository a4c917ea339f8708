"""Reset credits: spent once, on the account that was confirmed, whatever the network does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from accounts.models import Mark, Quota, Window
from accounts.reset_credits import (
    CONSUME_PATH,
    LIST_PATH,
    Attempt,
    Code,
    Outcome,
    Record,
    ResetCredits,
    ResetRefused,
    best_credit,
    is_limited,
)
from accounts.wham import Wham
from tests.routing_world import mark, roster
from tests.wham_server import NOW, Tokens, WhamServer, usage_answer

A = roster()[0]
ID = "chatgpt-a"
USAGE = "/wham/usage"
PAIR = {"redeem_request_id": "00000000-0000-4000-8000-000000000001", "credit_id": "c1"}


def credit(key: str = "c1", **more: object) -> dict[str, Any]:
    return {
        "id": key,
        "status": "available",
        "expires_at": "2026-08-01T00:00:00.000Z",
        "reset_type": "codex_rate_limits",
        "is_supported_by_plan": True,
    } | more


class Memory:
    """The store's part, in memory; `save` lets the first of two attempts stand."""

    def __init__(self, record: Record | None = None) -> None:
        self.records: dict[str, Record] = {} if record is None else {ID: record}

    async def load(self, account_id: str) -> Record | None:
        return self.records.get(account_id)

    async def save(self, account_id: str, attempt: Attempt) -> Attempt:
        record = self.records.get(account_id, Record())
        standing = record.attempt or attempt
        self.records[account_id] = Record(standing, record.outcome)
        return standing

    async def clear(self, account_id: str, attempt: Attempt, outcome: Outcome) -> None:
        self.records[account_id] = Record(None, outcome)

    @property
    def attempt(self) -> Attempt | None:
        return self.records.get(ID, Record()).attempt


def attempted(age: float, request_id: str = PAIR["redeem_request_id"], credit_id: str = "c1") -> Record:
    return Record(Attempt(request_id, credit_id, NOW - age))


def server(*consumed: object, **change: list[Any]) -> WhamServer:
    return WhamServer(
        {
            USAGE: change.get("usage", [usage_answer(credits={"available_count": 1})]),
            LIST_PATH: change.get("credits", [{"credits": [credit()], "available_count": 1}]),
            CONSUME_PATH: list(consumed) or [{"code": "reset", "windows_reset": 1}],
        }
    )


def resets(wham: Wham, memory: Memory, tokens: Tokens | None = None) -> ResetCredits:
    return ResetCredits(
        wham, tokens or Tokens(), memory, clock=lambda: NOW, new_id=lambda: PAIR["redeem_request_id"]
    )


def sent(asked: WhamServer) -> list[Any]:
    return [each.body for each in asked.asked if each.path == CONSUME_PATH]


class TestBestCredit:
    @pytest.mark.parametrize(
        ("credits", "chosen"),
        [
            ([credit()], "c1"),
            ([credit("late", expires_at="2026-09-01T00:00:00Z"), credit("soon")], "soon"),
            ([credit("never", expires_at=None), credit("soon")], "soon"),
            ([credit("used", status="redeemed")], None),
            ([credit("other", reset_type="something_else")], None),
            ([credit("no", is_supported_by_plan=False)], None),
            ([{key: value for key, value in credit().items() if key != "is_supported_by_plan"}], "c1"),
            ([None, "x", {}, credit(""), credit()], "c1"),
            ([], None),
            (None, None),
            ({"nested": [credit()]}, None),
        ],
    )
    def test_the_first_to_expire_of_those_that_may_be_spent(
        self, credits: object, chosen: str | None
    ) -> None:
        found = best_credit({"credits": credits})
        assert (found.id if found else None) == chosen


@pytest.mark.parametrize(
    ("used", "reset", "limit", "limited"),
    [
        (100, NOW + 60, None, True),
        (100, None, None, True),
        (100, NOW - 1, None, False),
        (99.9, NOW + 60, None, False),
        (10, NOW + 60, mark(5), True),
        (10, NOW + 60, mark(-5), False),
    ],
)
def test_there_is_something_to_reset(
    used: float, reset: float | None, limit: Mark | None, limited: bool
) -> None:
    quota = Quota(ID, (Window(300, used, reset, NOW, "usage"),), seen_at=NOW)
    assert is_limited(quota, limit, NOW) is limited


class TestEligibility:
    @pytest.mark.parametrize(
        ("change", "obstacle"),
        [
            ({}, None),
            ({"usage": [usage_answer(99.9, credits={"available_count": 1})]}, "nothing to reset"),
            ({"usage": [usage_answer(credits={"available_count": 0})]}, "no reset credit"),
            ({"usage": [usage_answer(credits=None)]}, "no reset credit"),
            (
                {"usage": [usage_answer(credits={"available_count": 2, "applicable_available_count": 0})]},
                "no reset credit",
            ),
            ({"credits": [{"credits": []}]}, "no reset credit"),
        ],
    )
    async def test_what_stands_in_the_way(self, change: dict[str, list[Any]], obstacle: str | None) -> None:
        asked = server(**change)
        async with asked.running() as wham:
            found = await resets(wham, Memory()).eligibility(A)
        assert found.account_id == ID
        if obstacle is None:
            assert found.obstacle is None
        else:
            assert obstacle in (found.obstacle or "")
        assert sent(asked) == []


class TestRedeem:
    async def test_the_pair_is_recorded_before_it_is_sent(self) -> None:
        memory = Memory()
        recorded: list[Attempt | None] = []

        async def consume(request: web.Request) -> web.Response:
            recorded.append(memory.attempt)
            return web.json_response({"code": "reset"})

        asked = server(consume)
        async with asked.running() as wham:
            done = await resets(wham, memory).redeem(A, ID)
        assert recorded == [Attempt(PAIR["redeem_request_id"], "c1", NOW)]
        assert sent(asked) == [PAIR]
        assert done.outcome.code is Code.RESET
        assert memory.attempt is None

    async def test_after_a_reset_the_quota_is_polled_again(self) -> None:
        asked = server(usage=[usage_answer(credits={"available_count": 1}), usage_answer(0)])
        async with asked.running() as wham:
            done = await resets(wham, Memory()).redeem(A, ID)
        assert asked.paths() == [f"GET {USAGE}", f"GET {LIST_PATH}", f"POST {CONSUME_PATH}", f"GET {USAGE}"]
        assert done.quota is not None
        assert done.quota.windows[0].used_percent == 0

    @pytest.mark.parametrize(
        ("answer", "code", "kept", "cooldown"),
        [
            ({"code": "reset"}, Code.RESET, False, True),
            ({"code": "already_redeemed"}, Code.ALREADY_REDEEMED, False, True),
            ({"code": "nothing_to_reset"}, Code.NOTHING_TO_RESET, False, False),
            ({"code": "no_credit"}, Code.NO_CREDIT, False, False),
            ({"code": "redeeming"}, Code.REDEEMING, True, False),
            ({"code": "cooldown_active"}, Code.COOLDOWN_ACTIVE, True, False),
            ({"code": "something new"}, Code.AMBIGUOUS, True, False),
            ({"code": None}, Code.AMBIGUOUS, True, False),
            ({"code": ["reset"]}, Code.AMBIGUOUS, True, False),
            ({}, Code.AMBIGUOUS, True, False),
            ([], Code.AMBIGUOUS, True, False),
            (500, Code.HTTP_ERROR, True, False),
            (403, Code.HTTP_ERROR, True, False),
        ],
    )
    async def test_only_a_certain_outcome_settles_it(
        self, answer: object, code: Code, kept: bool, cooldown: bool
    ) -> None:
        memory = Memory()
        async with server(answer).running() as wham:
            done = await resets(wham, memory).redeem(A, ID)
        assert done.outcome.code is code
        assert (memory.attempt is not None) is kept
        assert (done.outcome.cooldown_until == NOW + 60) is cooldown

    async def test_a_connection_cut_in_mid_answer_is_uncertain(self) -> None:
        async def cut(request: web.Request) -> web.Response:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        memory = Memory()
        async with server(cut).running() as wham:
            done = await resets(wham, memory).redeem(A, ID)
        assert done.outcome.code is Code.AMBIGUOUS
        assert memory.attempt is not None

    async def test_after_an_uncertain_outcome_the_same_pair_is_sent_again(self) -> None:
        memory = Memory()
        asked = server(500, {"code": "already_redeemed"})
        async with asked.running() as wham:
            spender = resets(wham, memory)
            await spender.redeem(A, ID)
            done = await spender.redeem(A, ID)
        assert sent(asked) == [PAIR, PAIR]
        assert done.outcome.code is Code.ALREADY_REDEEMED
        assert asked.paths().count(f"GET {LIST_PATH}") == 1

    async def test_two_processes_at_once_send_one_pair(self) -> None:
        memory = Memory()
        asked = server()
        async with asked.running() as wham:
            first = ResetCredits(wham, Tokens(), memory, clock=lambda: NOW)
            second = ResetCredits(wham, Tokens(), memory, clock=lambda: NOW)
            await asyncio.gather(first.redeem(A, ID), second.redeem(A, ID), return_exceptions=True)
        assert len({body["redeem_request_id"] for body in sent(asked)}) == 1

    async def test_a_refused_token_is_renewed_and_the_pair_stays(self) -> None:
        asked = server(401, {"code": "reset"})
        async with asked.running() as wham:
            done = await resets(wham, Memory()).redeem(A, ID)
        assert sent(asked) == [PAIR, PAIR]
        assert done.outcome.code is Code.RESET


class TestRefused:
    """Nothing is sent."""

    async def refuse(
        self, memory: Memory, tokens: Tokens | None = None, *, confirmed: str = ID, retry: bool = False
    ) -> str:
        asked = server(usage=[usage_answer(10)])
        async with asked.running() as wham:
            with pytest.raises(ResetRefused) as caught:
                await resets(wham, memory, tokens).redeem(A, confirmed, retry=retry)
        assert sent(asked) == []
        return str(caught.value)

    async def test_another_identity_than_the_confirmed_one(self) -> None:
        await self.refuse(Memory(), Tokens(identity={"a": "chatgpt-other"}))
        await self.refuse(Memory(), confirmed="")

    async def test_while_cooling_down(self) -> None:
        outcome = Outcome(Code.RESET, NOW - 20, cooldown_until=NOW + 40)
        assert "wait 40 s" in await self.refuse(Memory(Record(None, outcome)))

    async def test_an_old_attempt_without_a_certain_outcome(self) -> None:
        assert "no certain outcome" in await self.refuse(Memory(attempted(300)))

    async def test_a_repetition_of_nothing(self) -> None:
        assert "no unsettled reset" in await self.refuse(Memory(), retry=True)

    async def test_an_account_with_nothing_to_reset(self) -> None:
        assert "nothing to reset" in await self.refuse(Memory())


@pytest.mark.parametrize(
    ("age", "retry"), [(0, False), (299, False), (300, True), (9999, True), (-60, False)]
)
async def test_an_unsettled_attempt_is_repeated_when_young_or_on_request(age: float, retry: bool) -> None:
    asked = server()
    async with asked.running() as wham:
        await resets(wham, Memory(attempted(age))).redeem(A, ID, retry=retry)
    assert sent(asked) == [PAIR]


@pytest.mark.parametrize("broken", [attempted(0, request_id="x"), attempted(0, credit_id=" ")])
async def test_a_damaged_record_is_dropped_without_any_request(broken: Record) -> None:
    memory = Memory(broken)
    asked = server()
    async with asked.running() as wham:
        done = await resets(wham, memory).redeem(A, ID)
    assert done.outcome.code is Code.AMBIGUOUS
    assert memory.attempt is None
    assert asked.asked == []
