"""Who serves: the rules of routing as tables. Accounts are a (main), b and c (fallbacks in order)."""

from __future__ import annotations

from typing import ClassVar

import pytest

from accounts.models import Account, Mark, Quota, Window
from accounts.routing import Killswitch, Mode, Policy, Thresholds, Why
from accounts.settings import Settings
from tests.routing_world import (
    HOUR,
    NOW,
    account,
    mark,
    order,
    quota,
    reasons,
    roster,
    route,
)

MAIN_FIRST, FALLBACK_FIRST, STICKY = (Policy(mode=mode) for mode in Mode)
A, B, C = roster()


@pytest.mark.parametrize(
    ("policy", "expected"), [(MAIN_FIRST, "abc"), (FALLBACK_FIRST, "bca"), (STICKY, "abc")]
)
def test_the_order_of_a_mode(policy: Policy, expected: str) -> None:
    assert order(route(policy)) == expected


def test_accounts_go_by_position_not_by_the_order_they_are_given_in() -> None:
    assert order(route(accounts=[C, A, B])) == "abc"


def test_without_accounts_there_is_nobody() -> None:
    decision = route(accounts=[])
    assert (decision.candidates, decision.skipped, decision.retry_at) == ((), (), None)


# Main first, main limited in every way: who is asked, and why main is not.
@pytest.mark.parametrize(
    ("quotas", "marks", "expected", "why"),
    [
        ({"a": quota(99.9)}, {}, "abc", {}),
        ({"a": quota(100)}, {}, "bc", {"a": "exhausted"}),
        ({"a": quota(20, 100)}, {}, "bc", {"a": "exhausted"}),
        ({"a": quota(100, short_reset=-1)}, {}, "abc", {}),
        ({"a": quota(100, short_reset=0)}, {}, "abc", {}),
        ({"a": quota(100, short_reset=None)}, {}, "abc", {}),
        ({"a": quota(100, account_id="chatgpt-somebody-else")}, {}, "abc", {}),
        ({}, {"a": mark(1)}, "bc", {"a": "marked"}),
        ({}, {"a": mark(0)}, "abc", {}),
        ({}, {"a": mark(-1)}, "abc", {}),
        ({"a": quota(100)}, {"a": mark(1)}, "bc", {"a": "marked"}),
        ({"b": quota(100)}, {"a": mark(1)}, "c", {"a": "marked", "b": "exhausted"}),
    ],
)
def test_a_limited_account_is_skipped_and_returns_by_itself(
    quotas: dict[str, Quota], marks: dict[str, Mark], expected: str, why: dict[str, str]
) -> None:
    decision = route(quotas=quotas, marks=marks)
    assert order(decision) == expected
    assert reasons(decision) == why


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (account("b", 1, enabled=False), "disabled"),
        (account("b", 1, login_error="log in again"), "login_required"),
        (account("b", 1, account_id="chatgpt-a"), "same_account"),
    ],
)
def test_an_account_that_cannot_serve_whatever_its_quota(changed: Account, reason: str) -> None:
    decision = route(accounts=[A, changed, C])
    assert order(decision) == "ac"
    assert reasons(decision) == {"b": reason}


@pytest.mark.parametrize("first", [{"enabled": False}, {"login_error": "log in again"}])
def test_a_second_login_of_one_account_serves_when_the_first_cannot(first: dict[str, object]) -> None:
    twins = [account("a", 0, **first), account("b", 1, account_id="chatgpt-a")]
    assert order(route(accounts=twins)) == "b"


def test_an_account_that_failed_this_request_is_not_asked_again() -> None:
    decision = route(exclude=frozenset("a"))
    assert order(decision) == "bc"
    assert reasons(decision) == {"a": "excluded"}


class TestLastPath:
    """Numbers alone never block everybody; verdicts do."""

    USED_UP: ClassVar[dict[str, Quota]] = {name: quota(100) for name in "abc"}

    def test_when_all_are_used_up_by_the_numbers_all_are_asked(self) -> None:
        decision = route(quotas=self.USED_UP)
        assert order(decision) == "abc"
        assert {candidate.reason for candidate in decision.candidates} == {Why.LAST_PATH}
        assert decision.retry_at == NOW + HOUR

    def test_a_mark_is_a_verdict(self) -> None:
        decision = route(quotas=self.USED_UP, marks={"a": mark(5)})
        assert order(decision) == "bc"
        assert reasons(decision) == {"a": "marked"}

    def test_when_all_are_marked_nobody_is_asked(self) -> None:
        decision = route(quotas=self.USED_UP, marks={name: mark(5) for name in "abc"})
        assert order(decision) == ""

    def test_it_opens_when_the_last_free_account_failed(self) -> None:
        quotas = {name: quota(100) for name in "bc"}
        assert order(route(quotas=quotas)) == "a"
        assert order(route(quotas=quotas, exclude=frozenset("a"))) == "bc"

    def test_a_killed_account_is_not_on_it(self) -> None:
        policy = Policy(killswitch=Killswitch(enabled=True))
        assert order(route(policy, quotas=self.USED_UP)) == ""


class TestRetryAt:
    """The earliest moment any account may serve again; of one account, the end of its last obstacle."""

    @pytest.mark.parametrize(
        ("quotas", "marks", "seconds"),
        [
            ({}, {"a": mark(90), "b": mark(30), "c": mark(7200)}, 30),
            ({"b": quota(100)}, {"a": mark(7200), "b": mark(30), "c": mark(7200)}, HOUR),
            ({"b": quota(100, 100)}, {"a": mark(7200), "b": mark(30), "c": mark(9000)}, 7200),
        ],
    )
    def test_of_limited_accounts(
        self, quotas: dict[str, Quota], marks: dict[str, Mark], seconds: float
    ) -> None:
        decision = route(quotas=quotas, marks=marks)
        assert decision.retry_at == NOW + seconds

    def test_a_long_mark_is_announced_in_full_with_the_killswitch_off(self) -> None:
        assert route(accounts=[A], marks={"a": mark(7200)}).retry_at == NOW + 7200

    def test_an_account_without_a_known_end_does_not_count(self) -> None:
        accounts = [account("a", 0, enabled=False), B]
        assert route(accounts=accounts, marks={"a": mark(5), "b": mark(60)}).retry_at == NOW + 60

    def test_having_been_asked_ends_with_the_request(self) -> None:
        decision = route(accounts=[A, B], marks={"a": mark(40)}, exclude=frozenset("ab"))
        assert decision.retry_at == NOW + 40

    def test_nobody_knows(self) -> None:
        assert route(accounts=[account("a", 0, enabled=False)]).retry_at is None


class TestThresholds:
    """Minimum remaining binds fallbacks; fail-closed decides what an unknown number means."""

    MINIMUM = Policy(minimum_remaining=Thresholds(20, 30))

    @pytest.mark.parametrize(
        ("known", "serves"),
        [
            (quota(80, 70), True),
            (quota(80.1, 0), False),
            (quota(0, 70.1), False),
            (quota(90, 0, short_reset=-1), True),
            (None, True),
        ],
    )
    def test_minimum_remaining(self, known: Quota | None, serves: bool) -> None:
        decision = route(self.MINIMUM, quotas={"b": known} if known else {})
        assert order(decision) == ("abc" if serves else "ac")
        assert reasons(decision) == ({} if serves else {"b": "minimum_remaining"})

    def test_main_is_not_bound_by_it(self) -> None:
        assert order(route(self.MINIMUM, quotas={"a": quota(99, 99)})) == "abc"

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            (Policy(fail_closed=True, minimum_remaining=Thresholds(0, 0)), "a"),
            (Policy(fail_closed=True, killswitch=Killswitch(enabled=True)), ""),
            (Policy(fail_closed=True), "abc"),
            (Policy(fail_closed=False, killswitch=Killswitch(enabled=True)), "abc"),
        ],
    )
    @pytest.mark.parametrize("known", [None, quota(10, 10, short_reset=-1)])
    def test_fail_closed(self, policy: Policy, expected: str, known: Quota | None) -> None:
        decision = route(policy, quotas=dict.fromkeys("abc", known) if known else {})
        assert order(decision) == expected
        assert set(reasons(decision).values()) <= {"unknown_quota"}

    def test_a_plan_without_windows_is_not_unknown(self) -> None:
        policy = Policy(fail_closed=True, killswitch=Killswitch(enabled=True))
        assert order(route(policy, accounts=[A], quotas={"a": quota()})) == "a"

    def test_an_api_key_has_no_windows_to_judge(self) -> None:
        policy = Policy(fail_closed=True, killswitch=Killswitch(enabled=True))
        assert order(route(policy, accounts=[account("k", 0, type="api_key")])) == "k"


class TestModelLimits:
    """A limit of one model blocks that model only, and that model is blocked by nothing else."""

    SPARK = Window(300, 100, NOW + HOUR, NOW, "usage", "codex_bengalfox", "GPT-5.3-Codex-Spark")

    def test_used_up_for_one_model(self) -> None:
        quotas = {"a": Quota(None, (self.SPARK,), seen_at=NOW)}
        assert order(route(quotas=quotas, model="gpt-5.3-codex-spark")) == "bc"
        assert order(route(quotas=quotas, model="gpt-5.4")) == "abc"


class TestWords:
    """What `explain` and a 429 tell people."""

    @pytest.mark.parametrize(
        ("policy", "known", "limit", "text"),
        [
            (
                Policy(killswitch=Killswitch(enabled=True)),
                quota(97, 20, short_reset=7980),
                None,
                "a: killswitch: 5h window: 3% left, below 5% (resets in 2h13m)",
            ),
            (MAIN_FIRST, quota(100), None, "a: 5h window used up (resets in 1h0m)"),
            (MAIN_FIRST, None, mark(60), "a is limited: usage limit reached (ends in 1m)"),
        ],
    )
    def test_name_window_threshold_and_reset(
        self, policy: Policy, known: Quota | None, limit: Mark | None, text: str
    ) -> None:
        decision = route(policy, quotas={"a": known} if known else {}, marks={"a": limit} if limit else {})
        assert decision.skipped[0].detail == text


def test_the_policy_follows_the_settings() -> None:
    settings = Settings.model_validate(
        {
            "routing": {"mode": "sticky-balanced"},
            "keepConversation": False,
            "killswitch": {"enabled": True, "main": {"primary": 7}, "accounts": {"Work": {"5h": 1, "1w": 2}}},
            "quota": {"minimumRemaining": {"primary": 3}, "failClosedOnUnknownQuota": True},
        }
    )
    assert Policy.from_settings(settings) == Policy(
        mode=Mode.STICKY_BALANCED,
        keep_conversation=False,
        killswitch=Killswitch(True, Thresholds(7, 10), {"Work": Thresholds(1, 2)}),
        minimum_remaining=Thresholds(3, 0),
        fail_closed=True,
    )
    off = Settings.model_validate({"quota": {"enabled": False}})
    assert Policy.from_settings(off).minimum_remaining is None
