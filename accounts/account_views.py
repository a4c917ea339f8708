"""Accounts as people and their scripts see them: rows for `list`, `quota`, mitmproxy commands and pages.

The one idea: what a row says is worked out once, here, as plain values ready for JSON. The rule: names and
meanings of members are public; members may be added, never renamed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from accounts.models import Account, Mark, Marks, Quota, Window
from accounts.quota import active_mark, exhausted_until

State = Literal["ok", "limited", "login_required", "disabled"]


def iso(moment: float | None) -> str | None:
    """Epoch seconds as ISO 8601 UTC."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def limited_until(quota: Quota | None, mark: Mark | None, now: float) -> float | None:
    """When an account that is limited may serve again (epoch seconds); None if it may now. `mark` is an active one."""
    ends = mark.until if mark else None, exhausted_until(quota, now)
    return max(filter(None, ends), default=None)


def login_command(account: Account) -> str:
    """What a person types to log in again with an account."""
    key = ["--api-key"] if account.type == "api_key" else []
    label = ["--label", account.label] if account.label else []
    return shlex.join(["openai-auth", "login", *key, *label])


def state(account: Account, until: float | None) -> State:
    """The first thing that keeps an account from serving."""
    if not account.enabled:
        return "disabled"
    if account.login_error:
        return "login_required"
    return "limited" if until is not None else "ok"


def account_row(account: Account, quota: Quota | None, mark: Mark | None, now: float) -> dict[str, Any]:
    """One account of `list --json`."""
    until = limited_until(quota, mark, now)
    return {
        "id": account.id,
        "label": account.label,
        "role": account.role,
        "type": account.type,
        "account_id": account.account_id,
        "email": account.email,
        "plan": account.plan,
        "enabled": account.enabled,
        "expires_at": iso(account.expires_at),
        "state": state(account, until),
        "limited_until": iso(until),
    }


def quota_row(
    account: Account, quota: Quota | None, mark: Mark | None, now: float, error: str | None = None
) -> dict[str, Any]:
    """One account of `quota --json`; `error` is why its numbers could not be renewed, if so."""
    return {
        "id": account.id,
        "label": account.label,
        "role": account.role,
        "plan": (quota.plan if quota else None) or account.plan,
        "windows": [window_row(window) for window in (quota.windows if quota else ())],
        "limited_until": iso(limited_until(quota, mark, now)),
        "error": error or account.login_error,
    }


def window_row(window: Window) -> dict[str, Any]:
    return {
        "minutes": window.minutes,
        "used_percent": window.used_percent,
        "remaining_percent": window.remaining_percent,
        "resets_at": iso(window.resets_at),
        "seen_at": iso(window.seen_at),
        "source": window.source,
        "limit": window.limit_name or window.limit_id,
    }


def account_rows(
    accounts: list[Account], quotas: Mapping[str, Quota], marks: Marks, now: float
) -> list[dict[str, Any]]:
    """`list --json`, in routing order."""
    return [
        account_row(each, known := quotas.get(each.id), active_mark(marks, each.id, known, now), now)
        for each in accounts
    ]


def quota_rows(
    accounts: list[Account],
    quotas: Mapping[str, Quota],
    marks: Marks,
    now: float,
    errors: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """`quota --json`, in routing order; `errors` by account id."""
    why = errors or {}
    return [
        quota_row(
            each, known := quotas.get(each.id), active_mark(marks, each.id, known, now), now, why.get(each.id)
        )
        for each in accounts
    ]
