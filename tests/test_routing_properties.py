"""For any state: who the rules exclude is never asked, and if anyone may serve, someone is asked.

The rules are restated here in the plainest way, as one yes-or-no question about one account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Account, Mark, Quota, Window
from accounts.placement import Pin
from accounts.routing import Decision, Killswitch, Mode, Policy, Request, Thresholds, decide
from tests.routing_world import NOW, by_limit

NAMES = "abcde"
percents = st.sampled_from([0.0, 50.0, 89.0, 91.0, 94.0, 96.0, 99.9, 100.0])
resets = st.sampled_from([None, NOW - 1, NOW, NOW + 1, NOW + 3600])
thresholds = st.builds(Thresholds, st.sampled_from([0.0, 5.0, 50.0]), st.sampled_from([0.0, 10.0]))


@dataclass(frozen=True)
class State:
    policy: Policy
    accounts: list[Account]
    quotas: dict[str, Quota]
    marks: dict[str, Mark]
    pins: dict[str, Pin]
    request: Request

    def decide(self) -> Decision:
        return decide(
            self.policy, self.accounts, self.quotas, by_limit(self.marks), self.pins, self.request, NOW
        )


@st.composite
def snapshots(draw: st.DrawFn) -> Quota:
    seen = NOW - draw(st.sampled_from([0.0, 60.0, 3600.0]))
    lengths = draw(st.lists(st.sampled_from([300, 10_080, None]), unique=True, max_size=3))
    windows = tuple(Window(each, draw(percents), draw(resets), seen, "headers") for each in lengths)
    owner = draw(st.sampled_from([None, "chatgpt-a", "chatgpt-b"]))
    return Quota(owner, windows, seen_at=seen, reset_credits=draw(st.sampled_from([None, 0, 2])))


@st.composite
def accounts(draw: st.DrawFn) -> list[Account]:
    count = draw(st.integers(0, len(NAMES)))
    return [
        Account(
            id=name,
            label=name,
            type=(kind := draw(st.sampled_from(["oauth", "oauth", "oauth", "api_key"]))),
            account_id=None if kind == "api_key" else draw(st.sampled_from([f"chatgpt-{name}", "chatgpt-a"])),
            enabled=draw(st.sampled_from([True, True, True, False])),
            login_error=draw(st.sampled_from([None, None, None, "log in again"])),
            position=position,
        )
        for position, name in enumerate(draw(st.permutations(NAMES))[:count])
    ]


names = st.sampled_from(NAMES)
pins = st.builds(
    Pin,
    account=names,
    account_id=st.sampled_from([None, "chatgpt-a", "chatgpt-b"]),
    assigned_at=st.just(NOW - 9e5),
    last_seen_at=st.sampled_from([NOW, NOW - 400, NOW - 4000, NOW - 7e5]),
    input_bytes=st.integers(0, 10**6),
    quota_seen_at=st.sampled_from([None, NOW]),
)
policies = st.builds(
    Policy,
    mode=st.sampled_from(Mode),
    keep_conversation=st.booleans(),
    killswitch=st.builds(
        Killswitch, st.booleans(), thresholds, st.dictionaries(st.sampled_from([*NAMES, "main"]), thresholds)
    ),
    minimum_remaining=st.none() | thresholds,
    fail_closed=st.booleans(),
)
requests = st.builds(
    Request,
    session=st.sampled_from([None, "s", "t"]),
    body_bytes=st.integers(0, 10**6),
    model=st.sampled_from([None, "gpt-5.4", "gpt-5.6-sol"]),
    exclude=st.frozensets(names, max_size=2),
    inflight=st.dictionaries(names, st.integers(0, 10**7)),
)
states = st.builds(
    State,
    policies,
    accounts(),
    st.dictionaries(names, snapshots()),
    st.dictionaries(
        names,
        st.builds(
            Mark,
            st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 99]),
            st.just("limit"),
            st.sampled_from([NOW - 120, NOW]),
        ),
    ),
    st.dictionaries(st.sampled_from(["s", "t"]), pins),
    requests,
)


def own_quota(state: State, account: Account) -> Quota | None:
    known = state.quotas.get(account.id)
    if known and known.account_id and account.account_id and known.account_id != account.account_id:
        return None
    return known


def too_little_left(known: Quota | None, required: Thresholds, fail_closed: bool) -> bool:
    if known is None:
        return fail_closed
    for window in known.windows:
        if window.resets_at is not None and window.resets_at <= NOW:
            if fail_closed:
                return True
        elif 100 - window.used_percent < required.of(window.minutes):
            return True
    return False


def disproved(mark: Mark, known: Quota | None) -> bool:
    return (
        known is not None
        and known.seen_at > mark.seen_at
        and 0 < len(known.windows) == sum(window.used_percent < 100 for window in known.windows)
    )


def rules_exclude(state: State, account: Account) -> bool:
    policy, known = state.policy, own_quota(state, account)
    mark = state.marks.get(account.id)
    if not account.enabled or account.login_error or account.id in state.request.exclude:
        return True
    if mark is not None and mark.until > NOW and not disproved(mark, known):
        return True
    for other in state.accounts:
        better = other.position < account.position and other.enabled and not other.login_error
        if better and account.account_id and other.account_id == account.account_id:
            return True
    if account.type == "api_key":
        return False
    if policy.killswitch.enabled and too_little_left(
        known, policy.killswitch.thresholds(account), policy.fail_closed
    ):
        return True
    return (
        account.position > 0
        and policy.minimum_remaining is not None
        and too_little_left(known, policy.minimum_remaining, policy.fail_closed)
    )


def used_up(state: State, account: Account) -> bool:
    known = own_quota(state, account)
    return known is not None and any(
        window.used_percent >= 100 and window.resets_at is not None and window.resets_at > NOW
        for window in known.windows
    )


def ids(decision: Decision) -> list[str]:
    return [candidate.account.id for candidate in decision.candidates]


@given(states)
def test_an_excluded_account_is_never_asked(state: State) -> None:
    excluded = {each.id for each in state.accounts if rules_exclude(state, each)}
    assert not excluded & set(ids(state.decide()))


@given(states)
def test_if_any_account_may_serve_someone_is_asked(state: State) -> None:
    able = {each.id for each in state.accounts if not rules_exclude(state, each)}
    free = {each.id for each in state.accounts if each.id in able and not used_up(state, each)}
    assert set(ids(state.decide())) == (free or able)


@given(states)
def test_every_account_is_a_candidate_once_or_skipped_once(state: State) -> None:
    decision = state.decide()
    both = ids(decision) + [skip.account.id for skip in decision.skipped]
    assert sorted(both) == sorted(each.id for each in state.accounts)


@given(states, st.randoms())
def test_the_order_does_not_depend_on_the_order_of_its_inputs(state: State, random: Any) -> None:
    shuffled = list(state.accounts)
    random.shuffle(shuffled)
    again = State(
        state.policy,
        shuffled,
        dict(reversed(state.quotas.items())),
        state.marks,
        dict(reversed(state.pins.items())),
        state.request,
    )
    assert again.decide() == state.decide()


@given(states)
def test_waiting_until_the_announced_moment_is_never_in_vain(state: State) -> None:
    """At `retry_at` the account it stands for is free: numbers and marks have run out by then."""
    decision = state.decide()
    if decision.retry_at is None:
        return
    assert decision.retry_at > NOW
    fresh = Request(session=state.request.session, model=state.request.model)
    policy = Policy(
        state.policy.mode,
        killswitch=state.policy.killswitch,
        minimum_remaining=state.policy.minimum_remaining,
    )
    later = decide(
        policy, state.accounts, state.quotas, by_limit(state.marks), state.pins, fresh, decision.retry_at
    )
    assert later.candidates


@given(states)
def test_pins_name_the_candidate_they_are_for(state: State) -> None:
    for candidate in state.decide().candidates:
        if state.request.session is None:
            assert candidate.pin is None
        else:
            assert candidate.pin is not None
            assert candidate.pin.account == candidate.account.id
            assert candidate.pin.last_seen_at >= NOW
