"""What an account has used: windows, credits, reset credits, and the three ways the backend tells them.

Percentages are *used* percent, 0 to 100. The same numbers leave as `x-codex-*` headers (minutes, floats), as
the `codex.rate_limits` event (minutes) and as the usage answer (seconds, integers), each in its own spelling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(slots=True)
class Window:
    """One quota window: used percent, length in minutes, end in epoch seconds."""

    used: float
    minutes: int
    reset_at: float | None

    def roll(self, now: float) -> None:
        """Start the next window when this one has ended."""
        if self.reset_at is not None and now >= self.reset_at and self.minutes > 0:
            lengths = (now - self.reset_at) // (self.minutes * 60) + 1
            self.reset_at += lengths * self.minutes * 60
            self.used = 0.0

    def event(self, now: float) -> Json:
        body: Json = {"used_percent": self.used, "window_minutes": self.minutes}
        if self.reset_at is not None:
            body["reset_after_seconds"] = max(0, int(self.reset_at - now))
            body["reset_at"] = int(self.reset_at)
        return body

    def usage(self, now: float) -> Json:
        body: Json = {"used_percent": round(self.used), "limit_window_seconds": self.minutes * 60}
        if self.reset_at is not None:
            body["reset_after_seconds"] = max(0, int(self.reset_at - now))
            body["reset_at"] = int(self.reset_at)
        return body


@dataclass(slots=True)
class Quota:
    """Everything the backend knows about the use of one account."""

    plan: str
    primary: Window | None
    secondary: Window | None
    extra: dict[str, tuple[Window | None, Window | None]] = field(default_factory=dict)  # by limit id
    balance: str = ""
    active_limit: str = "premium"

    def headers(self, now: float) -> dict[str, str]:
        """The `x-codex-*` headers; a slot without a window leaves as zeros and an empty reset."""
        out = {"x-codex-plan-type": self.plan, "x-codex-active-limit": self.active_limit}
        for slot, window in (("primary", self.primary), ("secondary", self.secondary)):
            out |= _slot_headers(f"x-codex-{slot}", window, now)
        for limit_id, windows in self.extra.items():
            prefix = f"x-{limit_id.replace('_', '-')}"
            for slot, window in zip(("primary", "secondary"), windows, strict=True):
                if window is not None:
                    out |= _slot_headers(f"{prefix}-{slot}", window, now)
            out[f"{prefix}-limit-name"] = limit_id
        out["x-codex-credits-has-credits"] = "True" if self.balance else "False"
        out["x-codex-credits-unlimited"] = "False"
        out["x-codex-credits-balance"] = self.balance
        return out

    def event(self, now: float, *, reached: bool) -> Json:
        """The `codex.rate_limits` event."""
        return {
            "type": "codex.rate_limits",
            "plan_type": self.plan,
            "rate_limits": self._pair(self.primary, self.secondary, now, reached, usage=False),
            "code_review_rate_limits": None,
            "additional_rate_limits": {
                limit_id: self._pair(*windows, now, False, usage=False)
                for limit_id, windows in self.extra.items()
            },
            "credits": self._credits(),
            "metered_limit_name": "codex",
            "limit_name": None,
        }

    def usage(self, now: float, *, reached: bool) -> Json:
        """The usage answer, without the reset credits."""
        return {
            "plan_type": self.plan,
            "rate_limit": self._pair(self.primary, self.secondary, now, reached, usage=True),
            "credits": self._credits(),
            "additional_rate_limits": [
                {
                    "limit_name": limit_id,
                    "metered_feature": limit_id,
                    "rate_limit": self._pair(*windows, now, False, usage=True),
                }
                for limit_id, windows in self.extra.items()
            ],
            "rate_limit_reached_type": {"type": "rate_limit_reached"} if reached else None,
        }

    def _credits(self) -> Json:
        return {"has_credits": bool(self.balance), "unlimited": False, "balance": self.balance or None}

    @staticmethod
    def _pair(
        primary: Window | None, secondary: Window | None, now: float, reached: bool, *, usage: bool
    ) -> Json:
        suffix = "_window" if usage else ""
        body: Json = {"allowed": not reached, "limit_reached": reached}
        for slot, window in (("primary", primary), ("secondary", secondary)):
            body[slot + suffix] = window and (window.usage(now) if usage else window.event(now))
        return body


def _slot_headers(prefix: str, window: Window | None, now: float) -> dict[str, str]:
    if window is None:
        return {
            f"{prefix}-used-percent": "0",
            f"{prefix}-window-minutes": "0",
            f"{prefix}-reset-after-seconds": "0",
            f"{prefix}-reset-at": "",
        }
    reset_at = window.reset_at
    return {
        f"{prefix}-used-percent": f"{window.used:g}",
        f"{prefix}-window-minutes": str(window.minutes),
        f"{prefix}-reset-after-seconds": "0" if reset_at is None else str(max(0, int(reset_at - now))),
        f"{prefix}-reset-at": "" if reset_at is None else str(int(reset_at)),
    }
