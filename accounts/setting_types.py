"""The kinds of values a setting can have, each readable from JSON and from text.

The one idea: a variable and a mitmproxy option are text, the file is JSON, and one type reads both, so a
value means the same wherever it was written. The rule: a validator says what is allowed, never "invalid".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"0", "false", "no", "off", ""})


def _allowed(text: str) -> PydanticCustomError:
    # The braces of an example would be taken for placeholders by pydantic, hence the context.
    return PydanticCustomError("allowed", "{allowed}", {"allowed": text})


def flag(value: object) -> bool:
    """1/true/yes/on and 0/false/no/off/empty, any case, surrounding blanks ignored; else raises."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int):
        word = str(value).strip().lower()
        if word in YES:
            return True
        if word in NO:
            return False
    raise _allowed("true or false (also 1/yes/on, 0/no/off/empty)")


def _switch(value: object) -> bool:
    """A flag that may also be written as an object: `{"enabled": true}`."""
    if isinstance(value, Mapping):
        if set(value) != {"enabled"}:
            raise _allowed('true, false or {"enabled": true}')
        return flag(value["enabled"])
    return flag(value)


def _url(value: str) -> str:
    """An http(s) address without its trailing slash."""
    try:
        parts = urlsplit(value.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _allowed("an address such as https://example.com/path")
    return value.strip().rstrip("/")


def _private(url: str) -> str:
    """An address at which nobody on the way can read along."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not on_this_machine(parts.hostname or ""):
        raise _allowed("https://…, because logins or keys are sent there (http:// on this machine only)")
    return url


def on_this_machine(host: str) -> bool:
    """Whether what is sent to this host of an address stays on this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _parsed(read: Callable[[str], object]) -> BeforeValidator:
    """Text is read as JSON if it looks like it, else by `read`; anything else is left as it is."""

    def validator(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text.startswith(("{", "[")):
            try:
                return json.loads(text)
            except ValueError:
                raise _allowed("JSON, or the short form shown in the settings table") from None
        return read(text)

    return BeforeValidator(validator)


def _pair(text: str) -> object:
    short, _, long = text.partition(",")
    return {"primary": short.strip(), "secondary": long.strip()} if long else text


def _nothing(value: object) -> object:
    """Empty text names no path; as one it would be the folder one happens to be in."""
    return None if isinstance(value, str) and not value.strip() else value


def _not_flag(value: object) -> object:
    if isinstance(value, bool):
        raise _allowed("a number")
    return value


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_not_flag)]
Whole = Annotated[int, BeforeValidator(_not_flag)]
Percent = Annotated[Number, Field(ge=0, le=100)]


class Thresholds(BaseModel):
    """Remaining percent (0-100) below which an account rests: for windows up to 24 h, and for longer ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: Percent = 5
    secondary: Percent = 10

    def __str__(self) -> str:
        return f"{self.primary:g},{self.secondary:g}"


class Minimums(Thresholds):
    """The same with nothing held back unless it is asked for."""

    primary: Percent = 0
    secondary: Percent = 0


LEGACY_SLOTS = {"5h": "primary", "1w": "secondary"}


def _slots(value: object) -> object:
    """Reads the older spelling too, `{"5h": 5, "1w": 10}`; where both are given the newer one counts."""
    if isinstance(value, Mapping):
        older = {LEGACY_SLOTS[key]: amount for key, amount in value.items() if key in LEGACY_SLOTS}
        return older | {key: amount for key, amount in value.items() if key not in LEGACY_SLOTS}
    if isinstance(value, Thresholds):
        return value
    raise _allowed('{"primary": 5, "secondary": 10}, or as text 5,10')


def _named_thresholds(text: str) -> object:
    words = [word.rpartition(":") for word in text.split()]
    if not all(name for name, _, _ in words):
        raise _allowed('{"NAME": {"primary": 5, "secondary": 10}}, or as text NAME:5,10 OTHER:0,20')
    return {name: _pair(pair) for name, _, pair in words}


def _names(text: str) -> object:
    words = [word.partition("=") for word in text.split(",") if word.strip()]
    if not all(name.strip() and other.strip() for name, _, other in words):
        raise _allowed('{"NAME": "OTHER"}, or as text NAME=OTHER,…')
    return {name.strip(): other.strip() for name, _, other in words}


def _list(text: str) -> object:
    return [word.strip() for word in text.split(",") if word.strip()]


@dataclass(frozen=True, slots=True)
class Name:
    """Names that do not follow from the setting's place in the model."""

    name: str = ""
    """Replaces the snake-case path in variable and option."""
    negated: str = ""
    """The variable says the opposite: its name without prefix."""
    default: str = ""
    """How a default that is only known at run time is described."""


@dataclass(frozen=True, slots=True)
class AtStart:
    """Marks a setting that a running proxy does not follow: it goes on with what it was started with."""


@dataclass(frozen=True, slots=True)
class NotBuiltYet:
    """Marks a setting whose feature is still to come: it can be written down, and does nothing."""


Flag = Annotated[bool, BeforeValidator(flag)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Text = Annotated[str, Field(strict=True)]
Line = Annotated[str, Field(strict=True, pattern=r"^[\x20-\x7e]+$")]
"""Text that goes into a header: printable ASCII, not empty."""
OptionalLine = Annotated[str, Field(strict=True, pattern=r"^[\x20-\x7e]*$")]
Url = Annotated[str, Field(strict=True), AfterValidator(_url)]
PrivateUrl = Annotated[Url, AfterValidator(_private)]
"""Where logins or keys are sent."""
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
OptionalPath = Annotated[UserPath | None, BeforeValidator(_nothing)]
Positive = Annotated[Number, Field(gt=0)]
PositiveOrZero = Annotated[Number, Field(ge=0)]
Count = Annotated[Whole, Field(ge=0)]
Hour = Annotated[Whole, Field(ge=0, le=23)]
Limits = Annotated[Thresholds, BeforeValidator(_slots), _parsed(_pair)]
MinimumLimits = Annotated[Minimums, BeforeValidator(_slots), _parsed(_pair)]
AccountLimits = Annotated[Mapping[str, Limits], _parsed(_named_thresholds)]
Names = Annotated[Mapping[str, str], _parsed(_names)]
Statuses = Annotated[tuple[Annotated[Whole, Field(ge=400, le=599)], ...], _parsed(_list)]

Mode = Literal["main-first", "fallback-first", "sticky-balanced"]
Level = Literal["error", "warn", "info", "debug", "trace"]
MODES: tuple[str, ...] = get_args(Mode)
LEVELS: tuple[str, ...] = get_args(Level)
