"""The dialects of the backend's errors, brought to one form, and the waits they announce.

OpenAI's `{"error": {...}}`, FastAPI's `{"detail": ...}` as text, object or list of validation problems, an
error wrapped with status and headers, a failed response inside an event, HTML, plain text, nothing at all.

The rule that must not be broken: whatever arrives becomes a `Refusal`; nothing raises here.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

_TRY_AGAIN = re.compile(
    r"try again in\s*(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|seconds?|m|minutes?)\b", re.IGNORECASE
)
_UNITS = {"ms": 0.001, "milliseconds": 0.001, "s": 1.0, "seconds": 1.0, "m": 60.0, "minutes": 60.0}
_TITLE = re.compile(r"<title[^<>]*>([^<]{0,500})", re.IGNORECASE)
_TEN_YEARS = 10 * 365 * 86400.0
LONGEST = 16 * 1024
"""Characters of a message that are read."""


@dataclass(slots=True)
class Refusal:
    """A refusal of either dialect in one form. `kind` is the error's type."""

    message: str = ""
    kind: str | None = None
    code: str | None = None
    param: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict)
    html: bool = False

    def __post_init__(self) -> None:
        self.message = self.message[:LONGEST]


def parse(body: bytes) -> Any:
    """The JSON value of a body, None if it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def from_json(value: dict[str, Any]) -> Refusal:
    response = value.get("response")
    inner = response.get("error") if isinstance(response, dict) else None
    for found in (value.get("error"), inner, value.get("detail")):
        if isinstance(found, dict):
            # `error` as a word with `message` beside it is the form of OAuth answers and of some gateways.
            return _from_members(found)
        if isinstance(found, list) and found:
            return _from_validation(found)
        if isinstance(found, str) and found:
            return Refusal(message=found, code=_text(value.get("code")), members=value)
    flat = _from_members(value)
    if str(flat.kind).startswith(("error", "response.")):
        flat.kind = None
    return flat


def _from_members(members: dict[str, Any]) -> Refusal:
    message = next(
        (text for name in ("message", "detail", "error") if (text := _text(members.get(name)))), None
    )
    return Refusal(
        message=message or "",
        kind=_text(members.get("type")),
        code=_text(members.get("code")),
        param=_text(members.get("param")),
        members=members,
    )


def _from_validation(problems: list[Any]) -> Refusal:
    """FastAPI's list of `{"loc": [...], "msg": ...}`."""
    lines: list[str] = []
    param = None
    for problem in problems:
        if not isinstance(problem, dict):
            lines.append(str(problem))
            continue
        loc = problem.get("loc")
        path = [str(step) for step in loc] if isinstance(loc, list) else []
        where = ".".join(path[1:] if path[:1] == ["body"] else path)
        param = param or where or None
        text = _text(problem.get("msg")) or _text(problem.get("message")) or "invalid"
        lines.append(f"{where}: {text}" if where else text)
    return Refusal(message="; ".join(lines), param=param)


def from_text(text: str, headers: Mapping[str, str]) -> Refusal:
    """A page or plain text: of HTML the title, with what else tells a block from an outage."""
    text = text.strip()
    if not (text.startswith("<") or "text/html" in headers.get("content-type", "")):
        return Refusal(message=text[:500])
    title = _TITLE.search(text)
    words = html.unescape(title[1]) if title else ""
    return Refusal(message=" ".join(words.split()) or "The backend's edge answered with a page", html=True)


def wrapped_status(event: dict[str, Any]) -> int | None:
    """The status inside an error frame or body, if it is one of a failure."""
    for name in ("status", "status_code"):
        status = event.get(name)
        if isinstance(status, int) and not 200 <= status < 300 and 100 <= status < 600:
            return status
    return None


def wrapped_headers(event: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    error = event.get("error")
    response = event.get("response")
    inner = response.get("error") if isinstance(response, dict) else None
    for holder in (event, error, inner):
        headers = holder.get("headers") if isinstance(holder, dict) else None
        if isinstance(headers, dict):
            found.update((name.lower(), str(value)) for name, value in headers.items() if value is not None)
    return found


def reached_limit(event: dict[str, Any]) -> str | None:
    """The window that is full: `response.failed` may name nothing else, in a member of its own."""
    response = event.get("response")
    failed = response.get("failed") if isinstance(response, dict) else None
    reached = failed.get("rate_limit_reached_type") if isinstance(failed, dict) else None
    return _text(reached)


# Waits


def resets_at(members: Mapping[str, Any], now: float) -> float | None:
    """Epoch seconds; the backend sends seconds, milliseconds and ISO text were seen elsewhere."""
    at = _moment(members.get("resets_at"))
    if at is None and (wait := _number(members.get("resets_in_seconds"))) is not None:
        at = now + wait
    return at if at is not None and now < at < now + _TEN_YEARS else None


def retry_after(headers: Mapping[str, str], refusal: Refusal, now: float) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _sane(milliseconds / 1000)
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is None and text:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            date = None
        if date is not None:
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    if seconds is not None:
        return _sane(seconds)
    found = _TRY_AGAIN.search(refusal.message)
    if not found:
        return None
    unit = found[2].lower()
    return _sane(float(found[1]) * (_UNITS.get(unit) or _UNITS[unit + "s"]))


def _sane(seconds: float) -> float | None:
    return seconds if 0 < seconds < _TEN_YEARS else None


def _moment(value: object) -> float | None:
    number = _number(value)
    if number is not None:
        return number / 1000 if number > 1e11 else number
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
