"""What names a chat answer: its id, its time, its model. The same in every chunk, and in the object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from addon.protocol.asked import Asked

_LATEST = 2**53
"""Times above what JSON numbers hold exactly are none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """id with its prefix; created in whole epoch seconds; model as the client named it."""

    id: str
    created: int
    model: str


def identity(
    prefix: str, asked: Asked, response: Any, *, source: bytes, clock: Callable[[], float]
) -> Identity:
    """The identity of an answer, from any state of its Response object.

    source: bytes of the answer, from which an id is derived if the response names none. clock: epoch seconds,
    asked only if the response names no time.
    """
    response = response if isinstance(response, dict) else {}
    name, created, model = response.get("id"), response.get("created_at"), response.get("model")
    if not (isinstance(name, str) and name):
        name = hashlib.sha256(source).hexdigest()[:24]
    if not (isinstance(created, int | float) and 0 <= created < _LATEST):
        created = clock()
    return Identity(
        id=prefix + name.removeprefix("resp_"),
        created=int(created),
        model=asked.model or (model if isinstance(model, str) else ""),
    )
