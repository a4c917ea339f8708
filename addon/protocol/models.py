"""The model list: the backend's entries read, and shown in OpenAI's shape or the backend's own.

The one idea: an entry stays the dict the backend sent. `Model` only reads it, so that whatever a new entry carries
reaches a Codex program untouched, and a member that is missing or odd costs nothing but itself.

The rule: no model is known by name here. What may be used is what a ChatGPT login's own catalogue lists for the
account's plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from addon.protocol import errors, versions

Entry = dict[str, Any]

_SHOWN: Final = (
    "display_name",
    "description",
    "context_window",
    "max_context_window",
    "max_output_tokens",
    "default_reasoning_level",
    "supported_reasoning_levels",
    "input_modalities",
)
"""Members of an entry that OpenAI's shape has no word for, shown as the backend sent them."""
_PRICES: Final = ("cost", "price", "prices", "pricing")
_LAST: Final = 1 << 31
"""Where an entry without a priority stands."""


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the catalogue; `slug` is the model's name."""

    slug: str
    entry: Entry

    @property
    def listed(self) -> bool:
        """Whether it is shown in a list; `hide` means usable but not shown."""
        return bool(self.entry.get("visibility", "list") == "list")

    @property
    def usable(self) -> bool:
        return self.entry.get("visibility") != "none"

    @property
    def priority(self) -> float:
        """Smaller comes first; the first listed model is a Codex program's default."""
        given = self.entry.get("priority")
        return given if isinstance(given, int | float) else _LAST

    @property
    def efforts(self) -> tuple[str, ...]:
        """The reasoning efforts it takes, () if it does not say; `[{"effort": "low", …}]` or plain names."""
        given = self.entry.get("supported_reasoning_levels")
        levels = given if isinstance(given, list) else []
        names = (level.get("effort") if isinstance(level, dict) else level for level in levels)
        return tuple(name for name in names if isinstance(name, str))

    @property
    def minimal_version(self) -> str:
        """The protocol version that it is refused below, "" if none; sent as a text or as three numbers."""
        given = self.entry.get("minimal_client_version")
        text = ".".join(map(str, given)) if isinstance(given, list) else str(given)
        return text if versions.numbers(text) else ""

    def offered_to(self, plan: str | None) -> bool:
        """The plan gate. An unknown plan and an entry without plans exclude nothing."""
        plans = self.entry.get("available_in_plans")
        if not plan or not isinstance(plans, list) or not plans:
            return True
        return plan.lower() in {name.lower() for name in plans if isinstance(name, str)}


def read(answer: object) -> tuple[Model, ...] | None:
    """The models of a catalogue answer `{"models":[…]}`; None if it is none."""
    entries = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        return None
    named = ((entry.get("slug"), entry) for entry in entries if isinstance(entry, dict))
    return tuple(Model(slug, entry) for slug, entry in named if isinstance(slug, str) and slug)


def union(catalogues: Iterable[Iterable[Model]]) -> tuple[Model, ...]:
    """Every model once, as the first catalogue that has it says, in the order of priority."""
    found: dict[str, Model] = {}
    for catalogue in catalogues:
        for model in catalogue:
            found.setdefault(model.slug, model)
    return tuple(sorted(found.values(), key=lambda model: (model.priority, model.slug)))


def with_aliases(models: Iterable[Model], aliases: Mapping[str, str]) -> tuple[Model, ...]:
    """The models, and under its own name every alias of one of them. An alias takes the place of a namesake."""
    named = {model.slug: model for model in models}
    named |= {
        alias: Model(alias, named[target].entry) for alias, target in aliases.items() if target in named
    }
    return tuple(named.values())


def codex_list(models: Iterable[Model], *, free: bool = True) -> dict[str, Any]:
    """The backend's own shape: complete entries, hidden ones too. `free` shows prices as zero."""
    return {"models": [_free(model.entry) if free else model.entry for model in models]}


def openai_list(models: Iterable[Model], *, free: bool = True) -> dict[str, Any]:
    """The answer to GET /v1/models: the models that are shown in a list."""
    return {"object": "list", "data": [openai_model(model, free=free) for model in models if model.listed]}


def joined(ours: dict[str, Any], real: object) -> dict[str, Any]:
    """Our list in OpenAI's shape, and behind it what only the real API's list has."""
    known = {model["id"] for model in ours["data"]}
    data = real.get("data") if isinstance(real, dict) else None
    more = [
        model
        for model in (data if isinstance(data, list) else ())
        if isinstance(model, dict) and isinstance(model.get("id"), str) and model["id"] not in known
    ]
    return {**ours, "data": [*ours["data"], *more]}


def openai_model(model: Model, *, free: bool = True) -> dict[str, Any]:
    """One model in OpenAI's shape. The catalogue tells no date, so `created` is 0; prices are zero when `free`."""
    entry = _free(model.entry) if free else model.entry
    extra = {name: entry[name] for name in (*_SHOWN, *_PRICES) if entry.get(name) is not None}
    if model.minimal_version:
        extra["minimal_client_version"] = model.minimal_version
    return {"id": model.slug, "object": "model", "created": 0, "owned_by": "openai", **extra}


def find(models: Iterable[Model], name: str) -> Model:
    """The model of this name, a hidden one too. Raises Refused: 404 `model_not_found`."""
    for model in models:
        if model.slug == name and model.usable:
            return model
    raise errors.refuse(
        404,
        f"The model '{errors.redact(name)[:200]}' does not exist or you do not have access to it.",
        code="model_not_found",
        param="model",
    )


def _free(entry: Entry) -> Entry:
    """The entry with every price in it at zero: a subscription pays no price per token."""
    priced: Entry = {name: _zero(entry[name]) for name in _PRICES if name in entry}
    return {**entry, **priced} if priced else entry


def _zero(price: object) -> object:
    """A number as 0, a number in a text as "0", and so on inside; anything else as it is."""
    match price:
        case dict():
            return {name: _zero(value) for name, value in price.items()}
        case list():
            return [_zero(value) for value in price]
        case bool():
            return price
        case int() | float():
            return 0
        case str() if price.replace(".", "", 1).isdecimal():
            return "0"
    return price
