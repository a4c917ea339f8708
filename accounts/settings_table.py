"""The settings as a table: what each is called in the file, the environment and mitmproxy, and what it holds.

The one idea: the table is read off the model, so file, variables, options, command and README
cannot disagree. The rule: nothing about a single setting is written here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from accounts.setting_types import AtStart, Name, NotBuiltYet, Thresholds
from accounts.settings import Group, Settings


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: what it is called everywhere, and what it may hold."""

    attributes: tuple[str, ...]
    path: str
    """Its place in the file, such as `quota.checkIntervalMinutes`."""
    variable: str
    """Name of its variable without prefix."""
    option: str
    """Name of its mitmproxy option."""
    negated: bool
    kind: str
    choices: tuple[str, ...]
    default: object
    default_text: str
    help: str
    at_start: bool
    """A running proxy does not follow it."""
    built: bool
    """False: its feature is still to come."""
    secret: bool
    """It may hold a password."""
    adapter: TypeAdapter[Any]

    def value(self, settings: Settings) -> object:
        found: object = settings
        for attribute in self.attributes:
            found = getattr(found, attribute)
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the settings table, all text. `default` is JSON, or words for one known only at run time."""

    name: str
    json_path: str
    env: str
    option: str
    type: str
    choices: tuple[str, ...]
    default: str
    help: str
    built: bool


def _unwrapped(annotation: object) -> object:
    """`X | None` and `Annotated[X, …]` are about X."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif type(None) in get_args(annotation):
            annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
        else:
            return annotation


KINDS: dict[object, str] = {bool: "boolean", int: "integer", float: "number", str: "text", Path: "path"}


def _kind(annotation: object) -> tuple[str, tuple[str, ...]]:
    bare = _unwrapped(annotation)
    if get_origin(bare) is Literal:
        return "choice", get_args(bare)
    if isinstance(bare, type) and issubclass(bare, Thresholds):
        return "percent pair", ()
    if get_origin(bare) is tuple:
        return "list", ()
    return KINDS.get(bare, "object"), ()


NOT_BUILT = "not built yet"


def _leaf(attributes: tuple[str, ...], path: str, field: FieldInfo) -> Leaf:
    names = next((item for item in field.metadata if isinstance(item, Name)), Name())
    snake = names.name or "_".join(attributes)
    kind, choices = _kind(field.annotation)
    default = field.get_default(call_default_factory=False)
    annotation: Any = field.annotation
    at_start, built = AtStart() in field.metadata, NotBuiltYet() not in field.metadata
    for check in field.metadata:
        annotation = Annotated[annotation, check]
    return Leaf(
        attributes=attributes,
        path=path,
        variable=names.negated or snake.upper(),
        option=snake if snake.startswith("codex_") else f"codex_{snake}",
        negated=bool(names.negated),
        kind=kind,
        choices=choices,
        default=default,
        default_text=names.default or shown(default),
        help=(field.description or "")
        + ("; read at the start" if at_start else "")
        + ("" if built else f" ({NOT_BUILT})"),
        at_start=at_start,
        built=built,
        secret=not field.repr,
        adapter=TypeAdapter(annotation),
    )


def _walk(model: type[BaseModel], attributes: tuple[str, ...], path: tuple[str, ...]) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        here, there = (*attributes, name), (*path, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            yield from _walk(field.annotation, here, there)
        else:
            yield _leaf(here, ".".join(there), field)


CREDENTIALS = re.compile(r"//[^/\s\"]+@")


@cache
def leaves() -> Mapping[str, Leaf]:
    """Every setting by its JSON path, in the order of the model."""
    return {leaf.path: leaf for leaf in _walk(Settings, (), ())}


def plain(value: object) -> Any:
    """A value as it stands in the file: ready for JSON, and a whole number without `.0`."""

    def whole(found: Any) -> Any:
        if isinstance(found, dict):
            return {key: whole(inner) for key, inner in found.items()}
        if isinstance(found, list):
            return [whole(inner) for inner in found]
        return int(found) if isinstance(found, float) and found.is_integer() else found

    return whole(to_jsonable_python(value))


def shown(value: object) -> str:
    """A value as JSON text for people, without the credentials an address may hold."""
    return CREDENTIALS.sub("//***@", json.dumps(plain(value), ensure_ascii=False))


def describe() -> list[Row]:
    """One row a setting: for `openai-auth config`, the README's table and the mitmproxy options."""
    return [
        Row(
            name="_".join(leaf.attributes),
            json_path=leaf.path,
            env=f"OPENAI_AUTH_{leaf.variable}",
            option=leaf.option,
            type=leaf.kind,
            choices=leaf.choices,
            default=leaf.default_text,
            help=leaf.help,
            built=leaf.built,
        )
        for leaf in leaves().values()
    ]


def markdown() -> str:
    """The table as it stands in the README."""
    lines = [
        "| Setting | Variable | mitmproxy option | Default | Meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in describe():
        default = f"`{row.default}`"
        choices = f" ({', '.join(row.choices)})" if row.choices else ""
        cells = (f"`{row.json_path}`", f"`{row.env}`", f"`{row.option}`", default, row.help + choices)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
