"""A routing decision in words: who is asked in which order and why, and who is not, why, and until when.

The one idea: this is the very `Decision` that a request gets, written down; nothing is judged here again. The
rule: every account of the decision is named once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounts import pacing
from accounts.account_views import iso
from accounts.routing import Candidate, Decision, Mode, Pin, Request, Why

NEW_CONVERSATION = "new"
"""Stands for a session key that nobody has, where a decision is asked for without a request."""

_ORDER = {
    Mode.MAIN_FIRST: "main, then the fallbacks in order",
    Mode.FALLBACK_FIRST: "the fallbacks in order, then main",
    Mode.STICKY_BALANCED: "each conversation stays where most quota was left when it began",
}
_WHY = {
    Why.CONVERSATION: "this conversation is here, and so is its prompt cache",
    Why.PLACED: "a conversation without an account is placed by quota",
    Why.MAIN: "main",
    Why.FALLBACK: "fallback",
    Why.API_KEY: "an API key is paid by the token and comes last",
    Why.LAST_PATH: "used up by the numbers, but nobody else may serve, so it is asked once",
}


def request(
    session: str | None, model: str | None, pins: Mapping[str, Pin], inflight: Mapping[str, int] | None = None
) -> Request:
    """What a decision is asked for: the next request of a conversation, by its last model unless another is named."""
    pin = pins.get(session or NEW_CONVERSATION)
    last = pin.model if pin else None
    return Request(session=session or NEW_CONVERSATION, model=model or last, inflight=inflight or {})


def mode_line(mode: Mode) -> str:
    """`main-first: main, then the fallbacks in order`."""
    return f"{mode}: {_ORDER[mode]}"


def lines(decision: Decision, now: float) -> list[str]:
    """For people, one line an account, in the order of asking."""
    found = [f"{place}. {_candidate(each)}" for place, each in enumerate(decision.candidates, 1)]
    if not decision.candidates:
        when = decision.retry_at
        wait = (
            "" if when is None else f"; the first may again in {pacing.countdown(when - now)} ({iso(when)})"
        )
        found.append(f"No account may serve{wait}.")
    for skip in decision.skipped:
        until = "" if skip.until is None else f", until {iso(skip.until)}"
        found.append(f"–  {skip.account.name}: skipped ({skip.reason}{until}): {skip.detail}")
    return found


def row(decision: Decision) -> dict[str, Any]:
    """For programs; times are ISO 8601 UTC."""
    return {
        "candidates": [
            {
                "id": each.account.id,
                "account": each.account.name,
                "reason": str(each.reason),
                "detail": each.detail,
            }
            for each in decision.candidates
        ],
        "skipped": [
            {
                "id": skip.account.id,
                "account": skip.account.name,
                "reason": str(skip.reason),
                "detail": skip.detail,
                "until": iso(skip.until),
            }
            for skip in decision.skipped
        ],
        "retry_at": iso(decision.retry_at),
    }


def _candidate(each: Candidate) -> str:
    detail = f" ({each.detail})" if each.detail and each.reason is not Why.CONVERSATION else ""
    return f"{each.account.name}: {_WHY[each.reason]}{detail}"
