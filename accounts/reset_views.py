"""Reset credits in words: what would be spent, what stands in the way, what became of it.

The one idea: the command and mitmproxy's `codex.reset` say the same. The rule: before anything is spent, the
text names the account by everything that tells it from another one.
"""

from __future__ import annotations

from typing import Any

from accounts import pacing
from accounts.account_views import iso
from accounts.models import Account, AccountsError
from accounts.reset_credits import REPLAY_SECONDS, Attempt, Code, Credit, Eligibility, Redeemed

_CERTAIN = {
    Code.RESET: "{name} was reset: one credit is spent.",
    Code.ALREADY_REDEEMED: "{name} had been reset by this very request before; nothing more is spent.",
}
_NOTHING = {
    Code.NOTHING_TO_RESET: "{name} has nothing to reset; no credit is spent",
    Code.NO_CREDIT: "{name} has no credit left; nothing is spent",
}


class NotReset(AccountsError):
    """Nothing was reset, or nobody knows; the message says which, and what to do."""


def identity(account: Account, account_id: str | None) -> str:
    """`work (me@example.com, plus, ChatGPT account acc-1)`."""
    facts = [account.email, account.plan, f"ChatGPT account {account_id}" if account_id else None]
    return f"{account.name} ({', '.join(fact for fact in facts if fact)})"


def offer(found: Eligibility, now: float) -> str:
    """What a confirmation spends."""
    assert found.credit
    left = max(0, found.available - 1)
    used = ", ".join(
        f"{pacing.label(window.minutes)} {window.used_percent:.0f}% used"
        for window in found.quota.windows
        if window.used_percent > 0
    )
    return (
        f"For {identity(found.account, found.account_id)} this spends {_credit(found.credit, now)}, to clear its "
        f"used-up limit now ({used or 'marked as limited'}). {left} more would be left. It cannot be undone."
    )


def repetition(account: Account, attempt: Attempt, now: float) -> str:
    """What a confirmation does while an earlier attempt has no certain outcome."""
    return (
        f"A reset of {identity(account, account.account_id)} was sent {_age(attempt, now)} ago and has no certain "
        "outcome. The same request is sent again: if it had worked, nothing more is spent; if not, it spends "
        "that one credit now. It cannot be undone."
    )


def line(found: Eligibility, now: float) -> tuple[str, str]:
    """(credits, what can be done) for a list of accounts."""
    if found.credit is None or found.obstacle is not None:
        return str(found.available), f"no: {found.obstacle}"
    return str(found.available), f"yes: {_credit(found.credit, now)}"


def row(found: Eligibility) -> dict[str, Any]:
    """For programs; times are ISO 8601 UTC."""
    credit = found.credit
    return {
        "id": found.account.id,
        "label": found.account.label,
        "account_id": found.account_id,
        "available": found.available,
        "eligible": credit is not None and found.obstacle is None,
        "obstacle": found.obstacle,
        "credit": credit and {"id": credit.id, "title": credit.title, "expires_at": iso(credit.expires_at)},
    }


def told(account: Account, done: Redeemed) -> str:
    """What a reset brought. Raises NotReset when it brought nothing, or nobody knows."""
    code = done.outcome.code
    if code.spent:
        windows = done.quota.windows if done.quota else ()
        now = ", ".join(f"{pacing.label(each.minutes)} {each.used_percent:.0f}% used" for each in windows)
        return _CERTAIN[code].format(name=account.name) + (f" Now: {now}." if now else "")
    if code in _NOTHING:
        raise NotReset(_NOTHING[code].format(name=account.name))
    why = done.outcome.detail or str(code)
    raise NotReset(
        f"whether {account.name} was reset is not certain ({why}): run `openai-auth reset {account.name}` again; "
        "it repeats the same request, which never spends twice"
    )


def is_old(attempt: Attempt, now: float) -> bool:
    """Whether an unsettled attempt is repeated only because a person asks for it."""
    return now - attempt.started_at >= REPLAY_SECONDS


def _credit(credit: Credit, now: float) -> str:
    name = f"one reset credit ({credit.title})" if credit.title else "one reset credit"
    if credit.expires_at is None:
        return name
    return f"{name} that expires in {pacing.countdown(credit.expires_at - now)}"


def _age(attempt: Attempt, now: float) -> str:
    return pacing.countdown(max(1.0, now - attempt.started_at))
