"""A small vocabulary for the tests of routing: accounts a (main), b, c …, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accounts.models import Account, Mark, Quota, Window
from accounts.placement import Pin
from accounts.routing import Decision, Policy, Request, decide

NOW = 1_781_600_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def account(name: str, position: int, **more: Any) -> Account:
    kind = more.pop("type", "oauth")
    identity = None if kind == "api_key" else more.pop("account_id", f"chatgpt-{name}")
    return Account(id=name, label=name, type=kind, account_id=identity, position=position, **more)


def roster(count: int = 3) -> list[Account]:
    return [account(name, position) for position, name in enumerate("abcdefghij"[:count])]


def quota(
    short: float | None = None,
    long: float | None = None,
    *,
    short_reset: float | None = HOUR,
    long_reset: float | None = 2 * DAY,
    age: float = 0,
    **more: Any,
) -> Quota:
    """A snapshot by used percent of the five-hour and the weekly window; resets in seconds from now."""
    windows = [
        Window(minutes, used, None if reset is None else NOW + reset, NOW - age, "headers")
        for minutes, used, reset in ((300, short, short_reset), (10_080, long, long_reset))
        if used is not None
    ]
    return Quota(more.pop("account_id", None), tuple(windows), seen_at=NOW - age, complete=True, **more)


def mark(seconds: float) -> Mark:
    return Mark(NOW + seconds, "usage limit reached", NOW)


def by_limit(marks: Mapping[str, Mark]) -> dict[tuple[str, str], Mark]:
    """One mark an account, as routing wants them."""
    return {(id, each.limit): each for id, each in marks.items()}


def pin(name: str, *, ago: float = 0, **more: Any) -> Pin:
    values: dict[str, Any] = {
        "account_id": f"chatgpt-{name}",
        "assigned_at": NOW - ago,
        "last_seen_at": NOW - ago,
        "input_bytes": 1000,
        "quota_seen_at": None,
    }
    return Pin(name, **(values | more))


def route(
    policy: Policy | None = None,
    accounts: Sequence[Account] | None = None,
    *,
    quotas: Mapping[str, Quota] | None = None,
    marks: Mapping[str, Mark] | None = None,
    pins: Mapping[str, Pin] | None = None,
    **request: Any,
) -> Decision:
    return decide(
        policy or Policy(),
        roster() if accounts is None else accounts,
        quotas or {},
        by_limit(marks or {}),
        pins or {},
        Request(**request),
        NOW,
    )


def order(decision: Decision) -> str:
    """The candidates as one word: `abc`."""
    return "".join(candidate.account.id for candidate in decision.candidates)


def reasons(decision: Decision) -> dict[str, str]:
    return {skip.account.id: str(skip.reason) for skip in decision.skipped}
