"""Token counts in the words of Chat Completions.

Cost tools read the two details objects without a guard, so both always stand in the answer, zeros included.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_MOST = 2**53
"""What JSON numbers hold exactly; a count beyond is none."""


def chat_usage(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """The `usage` of a Responses answer as chat's `usage`; None if the backend sent none."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    given = usage.get("input_tokens_details")
    inward = given if isinstance(given, dict) else {}
    given = usage.get("output_tokens_details")
    outward = given if isinstance(given, dict) else {}
    prompt_details = {"cached_tokens": _count(inward, "cached_tokens"), "audio_tokens": 0}
    if "cache_write_tokens" in inward:
        prompt_details["cache_write_tokens"] = _count(inward, "cache_write_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": _count(usage, "total_tokens") or prompt + completion,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": _count(outward, "reasoning_tokens"),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def total(usages: Iterable[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The sum of several chat usages, details included; None if there is none to add."""
    result: dict[str, Any] | None = None
    for usage in usages:
        if usage is not None:
            result = dict(usage) if result is None else _add(result, usage)
    return result


def _add(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    added = {**right, **left}
    for name in left.keys() & right.keys():
        one, other = left[name], right[name]
        added[name] = _add(one, other) if isinstance(one, dict) else one + other
    return added


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and 0 <= value < _MOST else 0
