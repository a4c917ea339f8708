"""The model list and who may use which model: by client version, by plan, by account.

The table is the one bundled in the official client 0.169. Both the list and the generation are gated: an
entry whose `minimal_client_version` is above the caller's is left out of the list and refused when asked for;
`client_version=0.0.0` shows everything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

Json = dict[str, Any]

_EFFORTS = ("low", "medium", "high", "xhigh", "max", "ultra")
_PAID = ("go", "plus", "pro", "prolite", "promax", "team", "business", "enterprise", "edu")
_ALL = ("free", *_PAID)


@dataclass(frozen=True, slots=True)
class Model:
    """One entry. `efforts` are what generation accepts; the list also shows `ultra` where it exists."""

    slug: str
    priority: int
    minimal_version: str
    top_effort: str
    default_effort: str = "medium"
    visibility: str = "list"
    context: int = 272_000
    max_context: int = 872_000
    lite: bool = True
    plans: tuple[str, ...] = _PAID

    @property
    def levels(self) -> tuple[str, ...]:
        return _EFFORTS[: _EFFORTS.index(self.top_effort) + 1]

    @property
    def efforts(self) -> tuple[str, ...]:
        """`ultra` is a product level; on the wire it is `max`."""
        return tuple(level for level in self.levels if level != "ultra")

    def entry(self) -> Json:
        """The list entry with every member the official client requires."""
        return {
            "slug": self.slug,
            "display_name": self.slug,
            "description": "A model of the fake backend.",
            "visibility": self.visibility,
            "supported_in_api": True,
            "priority": self.priority,
            "minimal_client_version": self.minimal_version,
            "available_in_plans": list(self.plans),
            "context_window": self.context,
            "max_context_window": self.max_context,
            "effective_context_window_percent": 95,
            "default_reasoning_level": self.default_effort,
            "supported_reasoning_levels": [{"effort": level, "description": level} for level in self.levels],
            "supports_reasoning_summaries": True,
            "support_verbosity": True,
            "default_verbosity": "low",
            "service_tiers": [{"id": "priority", "name": "Fast", "description": "Faster answers"}],
            "input_modalities": ["text", "image"],
            "shell_type": "shell_command",
            "apply_patch_tool_type": "freeform",
            "experimental_supported_tools": [],
            "supports_parallel_tool_calls": True,
            "prefer_websockets": True,
            "use_responses_lite": self.lite,
            "truncation_policy": {"mode": "tokens", "limit": 10_000},
            "base_instructions": "You are Codex.",
            "upgrade": None,
        }


MODELS: dict[str, Model] = {
    model.slug: model
    for model in (
        Model("gpt-6.1-sol", 1, "0.153.0", "ultra", "low"),
        Model("gpt-6-astra", 2, "0.153.0", "ultra", "low"),
        Model("gpt-6-sol", 3, "0.155.0", "ultra"),
        Model("gpt-6-luna", 4, "0.155.0", "max", plans=_ALL),
        Model("gpt-5.6-sol", 5, "0.144.0", "ultra", "low"),
        Model("gpt-6.1-terra", 7, "0.153.0", "ultra", "low", context=500_000),
        Model("gpt-5.6-terra", 8, "0.144.0", "ultra"),
        Model("gpt-5.6-luna", 9, "0.144.0", "max", plans=_ALL),
        Model("gpt-daybreak-blue-latest", 11, "0.142.2", "ultra", "low", "hide", plans=("enterprise",)),
        Model("gpt-5.5", 13, "0.124.0", "xhigh", max_context=272_000, lite=False, plans=_ALL),
        Model("codex-auto-review", 43, "0.98.0", "max", visibility="hide"),
    )
}


def version(text: str) -> tuple[int, ...]:
    """`0.153.3` as numbers; anything unreadable counts as zero."""
    return tuple(int(part) if part.isdigit() else 0 for part in text.split(".")[:3])


def listed(models: dict[str, Model], plan: str, client_version: str) -> Json:
    """The `/models` answer for a plan and a client version."""
    asked = version(client_version)
    return {
        "models": [
            model.entry()
            for model in models.values()
            if plan in model.plans and (not any(asked) or version(model.minimal_version) <= asked)
        ]
    }


def etag(models: dict[str, Model], plan: str) -> str:
    """Changes when the list of a plan changes."""
    return _etag(tuple(models.values()), plan)


@lru_cache(maxsize=64)
def _etag(models: tuple[Model, ...], plan: str) -> str:
    whole = orjson.dumps(listed({model.slug: model for model in models}, plan, "0.0.0"))
    return f'W/"{hashlib.sha256(whole).hexdigest()[:16]}"'
