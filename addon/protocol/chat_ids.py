"""What names an answer of the two older APIs: id, time and model, the same in every chunk and in the object."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from addon.protocol.aggregate import Aggregated
from addon.protocol.asked import Asked

_LATEST = 2**53
"""Times above what JSON numbers hold exactly are none."""


@dataclass(frozen=True, slots=True)
class AnswerName:
    """id with its prefix; created in whole epoch seconds; model as the client named it."""

    id: str
    created: int
    model: str


def answer_name(
    prefix: str, asked: Asked, response: Any, *, source: bytes, clock: Callable[[], float]
) -> AnswerName:
    """The name of an answer, from any state of its Response object.

    source: bytes of the answer, from which an id is derived if the response names none. clock: epoch seconds,
    asked only if the response names no time.
    """
    response = response if isinstance(response, dict) else {}
    name, created, model = response.get("id"), response.get("created_at"), response.get("model")
    if not (isinstance(name, str) and name):
        name = hashlib.sha256(source).hexdigest()[:24]
    if not (isinstance(created, int | float) and 0 <= created < _LATEST):
        created = clock()
    return AnswerName(
        id=prefix + name.removeprefix("resp_"),
        created=int(created),
        model=asked.model or (model if isinstance(model, str) else ""),
    )


class NamedAnswer(Aggregated):
    """An answer of the two older APIs.

    index: which choice this is, where several upstream answers make one client's answer. known: the name all of
    them share; by default it is taken from the answer. clock: epoch seconds, for an answer that names no time.
    """

    prefix: ClassVar[str]
    object_name: ClassVar[str]

    def __init__(
        self,
        asked: Asked,
        *,
        index: int = 0,
        known: AnswerName | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(asked)
        self._index = index
        self._name = known
        self._clock = clock

    def _named(self, response: Any, source: bytes) -> AnswerName:
        """The name: the one that is known, or else the one that this state of the answer gives it."""
        if self._name is None:
            self._name = answer_name(self.prefix, self._asked, response, source=source, clock=self._clock)
        return self._name
