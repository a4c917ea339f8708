"""Where a conversation is served: staying while warm, paid keys, pins, and sticky-balanced placement."""

from __future__ import annotations

from typing import ClassVar

import pytest

from accounts.models import Mark, Quota
from accounts.placement import Pin
from accounts.routing import Mode, Policy, Why
from tests.routing_world import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    account,
    mark,
    order,
    pin,
    quota,
    roster,
    route,
)

MAIN_FIRST, FALLBACK_FIRST, STICKY = (Policy(mode=mode) for mode in Mode)
A, B, C = roster()


class TestKeepConversation:
    """A conversation stays while its prompt cache is warm and its account may serve."""

    @pytest.mark.parametrize("policy", [MAIN_FIRST, FALLBACK_FIRST])
    @pytest.mark.parametrize(
        ("ago", "model", "stays"),
        [
            (0, "gpt-5.4", True),
            (5 * MINUTE, "gpt-5.4", True),
            (5 * MINUTE + 1, "gpt-5.4", False),
            (5 * MINUTE + 1, None, False),
            (29 * MINUTE, "gpt-5.6-sol", True),
            (29 * MINUTE, "gpt-6-nova", True),
            (29 * MINUTE, "gpt-5.10", True),
            (31 * MINUTE, "gpt-5.6", False),
        ],
    )
    def test_while_warm(self, policy: Policy, ago: float, model: str | None, stays: bool) -> None:
        decision = route(policy, pins={"s": pin("c", ago=ago)}, session="s", model=model)
        assert order(decision)[0] == ("c" if stays else order(route(policy))[0])
        assert (decision.candidates[0].reason is Why.CONVERSATION) is stays

    @pytest.mark.parametrize(
        ("quotas", "marks"),
        [({}, {"c": mark(5)}), ({"c": quota(100)}, {})],
    )
    def test_not_on_an_account_that_may_not_serve(
        self, quotas: dict[str, Quota], marks: dict[str, Mark]
    ) -> None:
        decision = route(pins={"s": pin("c")}, session="s", quotas=quotas, marks=marks)
        assert order(decision) == "ab"

    def test_only_if_asked_to(self) -> None:
        policy = Policy(keep_conversation=False)
        assert order(route(policy, pins={"s": pin("c")}, session="s")) == "abc"

    def test_other_conversations_and_requests_without_one_are_not_touched(self) -> None:
        assert order(route(pins={"s": pin("c")}, session="t")) == "abc"
        assert order(route(pins={"s": pin("c")})) == "abc"

    def test_a_pin_of_another_login_is_void(self) -> None:
        pins = {"s": pin("c", account_id="chatgpt-former")}
        assert order(route(pins=pins, session="s")) == "abc"


class TestApiKeys:
    """Paid by the token: after every subscription, unless main is one."""

    KEY = account("k", 1, type="api_key")
    LAST = account("z", 2)

    @pytest.mark.parametrize(
        ("policy", "expected"), [(MAIN_FIRST, "azk"), (FALLBACK_FIRST, "zak"), (STICKY, "azk")]
    )
    def test_last_of_all(self, policy: Policy, expected: str) -> None:
        assert order(route(policy, accounts=[A, self.KEY, self.LAST], session="s")) == expected

    @pytest.mark.parametrize(("policy", "expected"), [(MAIN_FIRST, "kbc"), (FALLBACK_FIRST, "bck")])
    def test_as_main_it_is_main(self, policy: Policy, expected: str) -> None:
        assert order(route(policy, accounts=[account("k", 0, type="api_key"), B, C])) == expected

    def test_it_serves_before_accounts_that_are_used_up(self) -> None:
        decision = route(accounts=[A, self.KEY], quotas={"a": quota(100)})
        assert order(decision) == "k"

    @pytest.mark.parametrize("policy", [MAIN_FIRST, FALLBACK_FIRST, STICKY])
    def test_no_conversation_holds_on_to_it(self, policy: Policy) -> None:
        pins = {"s": pin("k", account_id=None)}
        assert order(route(policy, accounts=[A, self.KEY], pins=pins, session="s")) == "ak"


class TestPins:
    """The pin to write for whichever candidate serves."""

    def test_a_new_conversation(self) -> None:
        decision = route(session="s", body_bytes=70, quotas={"a": quota(1, account_id="chatgpt-a")})
        assert decision.candidates[0].pin == Pin("a", "chatgpt-a", NOW, NOW, 70, NOW)
        assert [each.pin.account for each in decision.candidates if each.pin] == ["a", "b", "c"]

    def test_a_conversation_that_stays_keeps_its_start_and_its_largest_size(self) -> None:
        decision = route(session="s", body_bytes=70, pins={"s": pin("a", ago=60, input_bytes=900)})
        assert decision.candidates[0].pin == Pin("a", "chatgpt-a", NOW - 60, NOW, 900, None)

    def test_a_conversation_that_moves_starts_anew(self) -> None:
        decision = route(session="s", body_bytes=70, pins={"s": pin("a", ago=60)}, marks={"a": mark(5)})
        assert decision.candidates[0].pin == Pin("b", "chatgpt-b", NOW, NOW, 70, None)

    @pytest.mark.parametrize("session", [None, ""])
    def test_no_session_no_pin(self, session: str | None) -> None:
        assert route(session=session).candidates[0].pin is None


class TestStickyBalanced:
    ROOM: ClassVar[dict[str, Quota]] = {"a": quota(50, 50), "b": quota(10, 10), "c": quota(90, 50)}

    def test_a_new_conversation_goes_where_most_is_left(self) -> None:
        decision = route(STICKY, quotas=self.ROOM, session="s", body_bytes=100)
        assert order(decision) == "bac"
        assert decision.candidates[0].reason is Why.PLACED

    def test_without_a_session_it_is_main_first(self) -> None:
        assert order(route(STICKY, quotas=self.ROOM)) == "abc"

    @pytest.mark.parametrize("ago", [0, HOUR, 6 * DAY])
    def test_a_pin_holds_for_a_week_warm_or_not(self, ago: float) -> None:
        pins = {"s": pin("c", ago=ago)}
        assert order(route(STICKY, quotas=self.ROOM, pins=pins, session="s")) == "cba"

    def test_then_it_is_void(self) -> None:
        pins = {"s": pin("c", ago=8 * DAY)}
        assert order(route(STICKY, quotas=self.ROOM, pins=pins, session="s")) == "bac"

    @pytest.mark.parametrize(
        ("known", "stays"),
        [
            (quota(100, 50), False),
            (quota(100, 50, short_reset=None), False),
            (quota(100, 50, short_reset=None, age=16 * MINUTE), True),
            (quota(99.9, 50), True),
        ],
    )
    def test_a_conversation_moves_when_its_account_is_used_up(self, known: Quota, stays: bool) -> None:
        pins = {"s": pin("c")}
        decision = route(STICKY, quotas=self.ROOM | {"c": known}, pins=pins, session="s")
        assert (order(decision)[0] == "c") is stays

    def test_it_does_not_go_below_its_reserve_while_others_are_unknown(self) -> None:
        quotas = {"a": quota(97, 50)}
        assert order(route(STICKY, quotas=quotas, session="s")) == "bca"

    def test_requests_in_flight_count(self) -> None:
        quotas = {"a": quota(50), "b": quota(50)}
        assert order(route(STICKY, roster(2), quotas=quotas, session="s", body_bytes=10)) == "ab"
        inflight = {"a": 5000}
        decision = route(STICKY, roster(2), quotas=quotas, session="s", body_bytes=10, inflight=inflight)
        assert order(decision) == "ba"

    def test_conversations_placed_since_the_snapshot_count(self) -> None:
        quotas = {"a": quota(50), "b": quota(50)}
        pins = {"t": pin("a", quota_seen_at=NOW)}
        assert order(route(STICKY, roster(2), quotas=quotas, pins=pins, session="s")) == "ba"
        older = {"t": pin("a", quota_seen_at=NOW - 5)}
        assert order(route(STICKY, roster(2), quotas=quotas, pins=older, session="s", body_bytes=1)) == "ab"

    def test_many_new_conversations_spread_over_accounts_nobody_knows(self) -> None:
        pins: dict[str, Pin] = {}
        for number in range(6):
            decision = route(STICKY, pins=pins, session=str(number), body_bytes=10)
            pin = decision.candidates[0].pin
            assert pin is not None
            pins[str(number)] = pin
        assert sorted(each.account for each in pins.values()) == list("aabbcc")
