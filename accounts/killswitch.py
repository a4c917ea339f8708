"""The killswitch: leave part of an account's quota to the person who owns it.

The one idea: a threshold is *remaining* percent, and which of the two applies depends on the window's
length: one value for windows up to a day, one for longer ones. `5,10` keeps 5 % of the five-hour window and
10 % of the week.

The rule that must not be broken: an account below its threshold is not asked, also when nobody else is
left. The comparison is strict: exactly at the threshold still serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accounts import pacing
from accounts.models import MAIN, Account, Quota, Window
from accounts.quota import past_reset, windows_for

SHORT_WINDOW_MINUTES = 24 * 60
"""Windows up to this length use the first threshold."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Remaining percent (0–100) that must be left: in windows up to 24 hours, and in longer ones."""

    short: float = 5.0
    long: float = 10.0

    def of(self, minutes: int | None) -> float:
        """The threshold of a window of this length.

        A window of unknown length is held to the stricter one.
        """
        if minutes is None:
            return max(self.short, self.long)
        return self.short if minutes <= SHORT_WINDOW_MINUTES else self.long


@dataclass(frozen=True, slots=True)
class Killswitch:
    """The setting: off by default.

    `accounts` holds overrides by id, label or ChatGPT account id (case kept), or `main`.
    """

    enabled: bool = False
    default: Thresholds = field(default_factory=Thresholds)
    accounts: Mapping[str, Thresholds] = field(default_factory=dict)

    def thresholds(self, account: Account) -> Thresholds:
        """What must be left on this account; the most exact name wins.

        Counts as its reserve also while off.
        """
        names = (account.id, account.label, account.account_id, MAIN if account.role == "main" else None)
        for name in names:
            if name is not None and name in self.accounts:
                return self.accounts[name]
        return self.default


@dataclass(frozen=True, slots=True)
class Violation:
    """One window that has less left than it must."""

    window: Window
    threshold: float

    def describe(self, now: float) -> str:
        """For people: `5h window: 3% left, below 5% (resets in 2h13m)`."""
        reset = self.window.resets_at
        when = "" if reset is None else f" (resets in {pacing.countdown(reset - now)})"
        left = f"{self.window.remaining_percent:g}% left, below {self.threshold:g}%"
        return f"{pacing.label(self.window.minutes)} window: {left}{when}"


def violations(
    quota: Quota | None, thresholds: Thresholds, now: float, model: str | None = None
) -> tuple[Violation, ...]:
    """The windows below their threshold.

    A window whose reset is past says nothing about now, and is passed over.
    """
    return tuple(
        Violation(window, thresholds.of(window.minutes))
        for window in windows_for(quota, model)
        if not past_reset(window, now) and window.remaining_percent < thresholds.of(window.minutes)
    )


def ends_at(found: tuple[Violation, ...]) -> float | None:
    """When the last of the violating windows resets; None if one of them does not say."""
    resets = [violation.window.resets_at for violation in found]
    known = [reset for reset in resets if reset is not None]
    return max(known) if known and len(known) == len(resets) else None
