"""What the tests of the store share: a clock that is set by hand, logins, grants and observations."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.models import (
    Login,
    Quota,
    Secret,
    Window,
)
from accounts.placement import Pin

NOW = 1_800_000_000.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Grant:
    access: Secret
    refresh: Secret | None
    expires_at: float


def login(account: str, **more: object) -> Login:
    fields: dict[str, object] = {
        "type": "oauth",
        "access": Secret(f"access of {account}"),
        "refresh": Secret(f"refresh of {account}"),
        "expires_at": NOW + 3600,
        "account_id": account,
    }
    return Login(**(fields | more))  # type: ignore[arg-type]


def quota(used: float, minutes: int | None = 300, seen_at: float = NOW) -> Quota:
    window = Window(minutes, used, seen_at + 60, seen_at, "headers")
    return Quota("acc-1", (window,), seen_at=seen_at)


def pin(account: str, seen_at: float) -> Pin:
    return Pin(account, None, NOW, seen_at, 100, None)
