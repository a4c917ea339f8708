"""How the model shall work: reasoning, text form, service tier, and what the answer includes.

Small members, each by its own table. The rule: what the backend does not know by evidence is left out if
leaving it out only tunes less; values it may learn tomorrow (a new effort, a new verbosity) pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from addon.protocol.errors import refuse

ENCRYPTED: Final = "reasoning.encrypted_content"
_SOURCES: Final = "web_search_call.action.sources"
# The official client's "fast" mode is the tier `priority`. `auto`, `default` and `flex` are refused.
_TIERS: Final = {"priority": "priority", "fast": "priority", "ultrafast": "ultrafast"}
_LADDER: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def shape_reasoning(value: object, levels: Sequence[str], *, lite: bool = False) -> dict[str, Any] | None:
    """`reasoning` with today's member names and an effort the model lists (`levels`, empty = unknown).

    Lite requests must carry `context: "all_turns"`; it is added if absent.
    """
    given = _object(value, "reasoning")
    if "generate_summary" in given:
        summary = given.pop("generate_summary")
        given.setdefault("summary", summary)
    if isinstance(given.get("effort"), str):
        given["effort"] = clamp(given["effort"], levels)
    if lite:
        given.setdefault("context", "all_turns")
    return given or None


def clamp(effort: str, levels: Sequence[str]) -> str:
    """The effort itself if the model lists it or nothing is known of either, else the nearest level it lists.

    `none` and `minimal` go up to a level that thinks at all, the others down first. `ultra` is a name of the
    product that the official client sends as `max`.
    """
    if effort == "ultra":
        effort = "max"
    if not levels or effort in levels or effort not in _LADDER:
        return effort
    at = _LADDER.index(effort)
    below, above = _LADDER[:at][::-1], _LADDER[at + 1 :]
    nearest = above + below if effort in ("none", "minimal") else below + above
    preferred = [level for level in nearest if level in levels and level != "none"]
    return preferred[0] if preferred else next((level for level in nearest if level in levels), effort)


def shape_text(value: object) -> dict[str, Any] | None:
    """`text` with a format in its flat form; a JSON schema gets the name it must have."""
    given = _object(value, "text")
    form = given.get("format")
    if isinstance(form, dict):
        inner = form.get("json_schema")
        if isinstance(inner, dict):
            form = {"type": form.get("type"), **inner}
        form = {key: member for key, member in form.items() if member is not None}
        if form.get("type") == "json_schema":
            form.setdefault("name", "response")
        given["format"] = form
    return given or None


def shape_tier(value: object) -> str | None:
    """The tier to send, None for one the backend refuses."""
    return _TIERS.get(value) if isinstance(value, str) else None


def shape_include(value: object, *, sources: bool) -> list[str]:
    """The encrypted reasoning always, for without it the next turn starts its thinking and its cache anew;
    the sources of searches if the client wants them and declared the search itself."""
    wanted = isinstance(value, list) and _SOURCES in value
    return [ENCRYPTED, _SOURCES] if sources and wanted else [ENCRYPTED]


def _object(value: object, name: str) -> dict[str, Any]:
    """A copy without nulls, {} for null."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(400, f"Invalid type for '{name}': expected an object.", code="invalid_type", param=name)
    return {key: member for key, member in value.items() if member is not None}
