"""How the official Codex programs are told from other clients, by what they send in API-key mode.

They get what nobody else wants: the model list in the backend's own form, and refusals in the words that stop them,
because they act on other members of an error than the SDKs do (official client 0.169).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qs

from addon.protocol.failure import SHORT_WAIT, USAGE_LIMIT, Cause, Failure

_NAMES = ("codex_", "codex-", "codex ")
"""How their originators begin: `codex_cli_rs`, `codex_exec`, `codex-tui`, `Codex Desktop`."""


def is_codex(headers: Mapping[str, str]) -> bool:
    """Whether a Codex program sent these headers. `headers` is case-insensitive or in lower case."""
    names = headers.get("originator", ""), headers.get("user-agent", "")
    return any(name.lower().startswith(_NAMES) for name in names)


def speaks_codex(headers: Mapping[str, str]) -> bool:
    """Whether a generation request follows the Codex program's protocol: its name, or its `version` header."""
    return is_codex(headers) or "version" in headers


def failure(failure: Failure, *, now: float) -> Failure:
    """A refusal as these programs have to get it, so that they say it at once; `now` in epoch seconds.

    A 403 or 404 they send again up to six times. After a 429 with a `retry-after` they wait that long, be it a week,
    and say nothing; only one of the type that the backend itself uses ends the turn and shows when to come back.
    """
    if failure.cause in (Cause.MODEL, Cause.VERSION):
        return replace(failure, status=400)
    reset = failure.reset(now)
    if failure.cause is Cause.LIMIT and (reset is None or reset - now > SHORT_WAIT):
        return replace(failure, type=USAGE_LIMIT)
    return failure


def wants_codex_list(headers: Mapping[str, str], path: str) -> bool:
    """Whether a request for the models wants `{"models":[…]}`; `path` carries the query."""
    return is_codex(headers) or "client_version" in parse_qs(path.partition("?")[2], keep_blank_values=True)
