"""The models that the official client 0.169 shipped with: shown until a catalogue has answered, and offline.

The rule: this table decides nothing for long. It is not asked any more once one account's catalogue is known, and an
answer made from it says so.
"""

from __future__ import annotations

from typing import Any, Final

from addon.protocol.models import Model

_LEVELS: Final = ("low", "medium", "high", "xhigh", "max", "ultra")
_ROOM: Final = 872_000

# slug, context window and its maximum (tokens), minimal version, Lite, default effort, highest effort
_TABLE: Final[tuple[tuple[str, int, int, str, bool, str, str], ...]] = (
    ("gpt-6.1-sol", 272_000, _ROOM, "0.153.0", True, "low", "ultra"),
    ("gpt-6-astra", 272_000, _ROOM, "0.153.0", True, "low", "ultra"),
    ("gpt-6-sol", 272_000, _ROOM, "0.155.0", True, "medium", "ultra"),
    ("gpt-6-luna", 272_000, _ROOM, "0.155.0", True, "medium", "max"),
    ("gpt-5.6-sol", 272_000, _ROOM, "0.144.0", True, "low", "ultra"),
    ("gpt-6.1-terra", 500_000, _ROOM, "0.153.0", True, "low", "ultra"),
    ("gpt-5.6-terra", 272_000, _ROOM, "0.144.0", True, "medium", "ultra"),
    ("gpt-5.6-luna", 272_000, _ROOM, "0.144.0", True, "medium", "max"),
    ("gpt-5.5", 272_000, 272_000, "0.124.0", False, "medium", "xhigh"),
)


def _entry(
    place: int, slug: str, context: int, room: int, version: str, lite: bool, default: str, highest: str
) -> dict[str, Any]:
    """An entry with every member that a Codex program demands: one that lacks any spoils its whole list."""
    levels = _LEVELS[: _LEVELS.index(highest) + 1]
    return {
        "slug": slug,
        "display_name": slug,
        "description": None,
        "visibility": "list",
        "supported_in_api": True,
        "priority": place,
        "minimal_client_version": version,
        "context_window": context,
        "max_context_window": room,
        "effective_context_window_percent": 95,
        "default_reasoning_level": default,
        "supported_reasoning_levels": [{"effort": level, "description": level} for level in levels],
        "supports_reasoning_summaries": True,
        "support_verbosity": True,
        "default_verbosity": "low",
        "input_modalities": ["text", "image"],
        "shell_type": "shell_command",
        "apply_patch_tool_type": "freeform",
        "experimental_supported_tools": [],
        "supports_parallel_tool_calls": True,
        "prefer_websockets": False,
        "use_responses_lite": lite,
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "base_instructions": "",
        "upgrade": None,
    }


MODELS: Final = tuple(Model(row[0], _entry(place, *row)) for place, row in enumerate(_TABLE, 1))
