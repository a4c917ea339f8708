"""How the official Codex programs are told from other clients, by what they send in API-key mode.

They get two things that nobody else wants: the model list in the backend's own form, and a 400 where an SDK gets a
404, because they send a 403 or 404 again up to six times (official client 0.169).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

_NAMES = ("codex_", "codex-", "codex ")
"""How their originators begin: `codex_cli_rs`, `codex_exec`, `codex-tui`, `Codex Desktop`."""


def is_codex(headers: Mapping[str, str]) -> bool:
    """Whether a Codex program sent these headers. `headers` is case-insensitive or in lower case."""
    names = headers.get("originator", ""), headers.get("user-agent", "")
    return any(name.lower().startswith(_NAMES) for name in names)


def speaks_codex(headers: Mapping[str, str]) -> bool:
    """Whether a generation request follows the Codex program's protocol: its name, or its `version` header."""
    return is_codex(headers) or "version" in headers


def wants_codex_list(headers: Mapping[str, str], path: str) -> bool:
    """Whether a request for the models wants `{"models":[…]}`; `path` carries the query."""
    return is_codex(headers) or "client_version" in parse_qs(path.partition("?")[2], keep_blank_values=True)
