"""Where settings come from: mitmproxy options, environment, file; the strongest source that has one wins.

The one idea: each source becomes a layer of checked values by setting, with the place each was written, so
that every complaint can say where, what was found and what is allowed, and `openai-auth config` where a value
is from. The rule: a wrong file or option changes nothing (`SettingsError`); a wrong variable counts as not
set and is reported, since the variable may be meant for another program.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from accounts import paths
from accounts.models import AccountsError
from accounts.settings import Settings
from accounts.settings_table import Leaf, leaves, shown


class Kind(StrEnum):
    OPTION = "option"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Which source decided, and the name it used: an option, a variable, or the path of the file."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in one source. `where` is the file, or the kind of source; `key` the entry in it."""

    where: str
    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        found = f" found {self.found};" if self.found else ""
        return f"{self.where}: {self.key}:{found} {self.allowed}"


class SettingsError(AccountsError):
    """Settings that cannot be used. The text has one line a problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Layer(PydanticBaseSettingsSource):
    """The checked values of one source, by JSON path."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(Settings)
        self.kind = kind
        self.values: dict[str, object] = {}
        self.names: dict[str, str] = {}
        self.problems: list[Problem] = []

    def take(self, leaf: Leaf, value: object, *, name: str, where: str) -> None:
        """Checks `value` and keeps it, or notes what is wrong with it."""
        try:
            checked = check(leaf, value, where, key=leaf.path if self.kind is Kind.FILE else name)
        except SettingsError as error:
            self.problems.extend(error.problems)
            return
        self.values[leaf.path] = not checked if leaf.negated and self.kind is Kind.ENVIRONMENT else checked
        self.names[leaf.path] = name

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("a layer hands over all its values at once")

    def __call__(self) -> dict[str, Any]:
        """What no stronger layer has set. pydantic would merge two objects; a setting is taken whole."""
        nested: dict[str, Any] = {}
        for path, value in self.values.items():
            if not _has(self.current_state, path):
                _put(nested, path, value)
        return nested


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, where each came from (by JSON path; none = default), and what was ignored."""

    settings: Settings
    origins: Mapping[str, Origin] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()

    def value_and_origin(self, path: str) -> tuple[object, Origin]:
        """The value of a setting and its source. Raises KeyError for an unknown JSON path."""
        return leaves()[path].value(self.settings), self.origins.get(path, Origin(Kind.DEFAULT))


def load(
    *,
    options: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    document: Mapping[str, object] | None = None,
    file: str = "openai-auth.json",
) -> Loaded:
    """Settings from the explicitly set mitmproxy options (by option name; None = not set), the environment
    (None = the process's), and the parsed settings file, whose path is only used in messages.

    Raises SettingsError if the file or an option is wrong, or values do not fit together."""
    option_layer = _options(options or {})
    environment_layer = _environment(os.environ if environ is None else environ)
    file_layer = _file(document or {}, file)
    layers = (option_layer, environment_layer, file_layer)
    if wrong := [*option_layer.problems, *file_layer.problems]:
        raise SettingsError(wrong)
    try:
        settings = Settings.from_layers(layers)
    except ValidationError as error:
        raise SettingsError(_problems(error, "", file)) from None
    origins = {
        path: Origin(layer.kind, name) for layer in reversed(layers) for path, name in layer.names.items()
    }
    return Loaded(settings, origins, tuple(environment_layer.problems))


def find(key: str) -> Leaf:
    """The setting named by its JSON path, or by its variable or option; any case. Raises SettingsError."""
    wanted = key.strip().lower()
    for leaf in leaves().values():
        names = {leaf.path, leaf.option, *(prefix + leaf.variable for prefix in paths.PREFIXES)}
        if wanted in {name.lower() for name in names}:
            return leaf
    raise SettingsError([Problem("settings", key, "", _unknown(key, leaves()))])


def says_opposite(leaf: Leaf, key: str) -> bool:
    """Whether `key`, by which the setting was found, is the variable that means the opposite of it."""
    return leaf.negated and key.strip().upper().endswith(leaf.variable)


PASSWORD = re.compile(r'(//|"(?!\w+://))[^"]*@')
"""What stands before the host, in an address that may lack its scheme, or be wrong in any other way."""


def check(leaf: Leaf, value: object, where: str, *, key: str = "") -> object:
    """The value as the setting holds it. Raises SettingsError; `key` (else the JSON path) names it there."""
    try:
        return leaf.adapter.validate_python(value)
    except ValidationError as error:
        problems = _problems(error, key or leaf.path, where)
        if leaf.secret:
            problems = (replace(each, found=PASSWORD.sub(r"\1***@", each.found)) for each in problems)
        raise SettingsError(problems) from None


def file_problems(document: Mapping[str, object], file: str) -> list[Problem]:
    """What is wrong with a settings file on its own."""
    return _file(document, file).problems


def _options(options: Mapping[str, object]) -> Layer:
    layer = Layer(Kind.OPTION)
    for leaf in leaves().values():
        value = options.get(leaf.option)
        if value is not None and (value != "" or leaf.kind == "boolean"):
            layer.take(leaf, value, name=leaf.option, where="mitmproxy option")
    return layer


def _environment(environ: Mapping[str, str]) -> Layer:
    layer = Layer(Kind.ENVIRONMENT)
    for leaf in leaves().values():
        found = paths.variable(leaf.variable, environ)
        # An empty variable means "no" for a boolean and "not set" for anything else.
        if found and (found[1].strip() or leaf.kind == "boolean"):
            layer.take(leaf, found[1], name=found[0], where="environment")
    ours = paths.PREFIXES[0]
    known = {leaf.variable for leaf in leaves().values()} | paths.PLACES
    for name in environ:
        if name.startswith(ours) and name.removeprefix(ours) not in known:
            allowed = _unknown(name, [ours + variable for variable in known], "variable")
            layer.problems.append(Problem("environment", name, "", allowed))
    return layer


PLUGIN_KEYS = frozenset(
    {
        "$schema",
        "version",
        "main",
        "mainAccountId",
        "accounts",
        "reset",
        "refresh.intervalMinutes",
        "quota.refreshEveryNRequests",
        "quota.showToasts",
    }
)
"""Keys of the OpenCode plugin's file of the same name that mean nothing here: its roster, and settings that
it accepts without effect. They are left alone, so that its file can be used as it is."""


def _file(document: Mapping[str, object], file: str) -> Layer:
    layer = Layer(Kind.FILE)
    _read(layer, document, (), file)
    return layer


def _read(layer: Layer, found: Mapping[str, object], prefix: tuple[str, ...], file: str) -> None:
    inside = ".".join(prefix) + "." if prefix else ""
    siblings = [path.removeprefix(inside).split(".")[0] for path in leaves() if path.startswith(inside)]
    for key, value in found.items():
        path = inside + key
        if path in PLUGIN_KEYS:
            continue
        if leaf := leaves().get(path):
            layer.take(leaf, value, name=file, where=file)
        elif key not in siblings:
            layer.problems.append(Problem(file, path, "", _unknown(key, siblings)))
        elif isinstance(value, Mapping):
            _read(layer, value, (*prefix, key), file)
        else:
            members = ", ".join(
                other.removeprefix(f"{path}.") for other in leaves() if other.startswith(f"{path}.")
            )
            layer.problems.append(Problem(file, path, shown(value), f"allowed: an object with {members}"))


def _unknown(name: str, known: Iterable[str], what: str = "setting") -> str:
    known = sorted(set(known))
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(
        name.lower().replace("_", "") if what == "setting" else name.lower(), lower
    )
    hint = f"did you mean {lower[close[0]]}?" if close else "`openai-auth config` lists them all"
    return f"there is no such {what}; {hint}"


ALLOWED = {
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "string_pattern_mismatch": "printable ASCII text",
    "mapping_type": "an object",
    "tuple_type": "a list",
    "path_type": "a path",
}
"""What pydantic's kinds of error mean to a person; the others say it well enough themselves."""


def _problems(error: ValidationError, key: str, where: str) -> Iterator[Problem]:
    for detail in error.errors(include_url=False, include_context=False):
        inner = ".".join(str(part) for part in detail["loc"] if not str(part).startswith("function-"))
        path = ".".join(part for part in (key, inner) if part)
        if detail["type"] == "extra_forbidden":
            yield Problem(where, path, "", "there is no such key here")
            continue
        allowed = ALLOWED.get(detail["type"]) or detail["msg"].removeprefix("Input should be ")
        found = shown(detail["input"])
        yield Problem(where, path, found if len(found) <= 100 else f"{found[:100]}…", f"allowed: {allowed}")


def _has(state: Mapping[str, Any], path: str) -> bool:
    head, _, rest = path.partition(".")
    if head not in state:
        return False
    inner = state[head]
    return not rest or (isinstance(inner, Mapping) and _has(inner, rest))


def _put(nested: dict[str, Any], path: str, value: object) -> None:
    *groups, last = path.split(".")
    for group in groups:
        nested = nested.setdefault(group, {})
    nested[last] = value
