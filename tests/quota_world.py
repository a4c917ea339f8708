"""Short builders for the tests of quota: windows and snapshots around one moment."""

from __future__ import annotations

from typing import Any

from accounts.models import Quota, Source, Window

NOW = 1_781_600_000.0
FIVE_HOURS, WEEK, MONTH = 300, 10_080, 43_200
ACCOUNT = "acct-1"


def window(
    minutes: int | None,
    used: float,
    resets_in: float | None = 3600,
    *,
    seen: float = 0,
    source: Source = "headers",
    limit: str = "codex",
    name: str | None = None,
) -> Window:
    resets_at = None if resets_in is None else NOW + resets_in
    return Window(minutes, used, resets_at, NOW + seen, source, limit, name)


def snapshot(*windows: Window, seen: float = 0, complete: bool = True, **more: Any) -> Quota:
    return Quota(more.pop("account_id", ACCOUNT), windows, seen_at=NOW + seen, complete=complete, **more)
