"""What an exchange needs of an answer: events in, bytes for the client out.

One implementation per form of answer (Responses as stream and as object, Chat Completions as stream and as object).
The exchange classifies failures by itself and never feeds them.

The rule: `feed` and `fail` raise nothing but `ProtocolError`, whatever the backend sends. `finish` may raise any
`Refused`: the answer is whole, and still not what was asked for.
"""

from __future__ import annotations

from typing import Any, Protocol

from addon.protocol.failure import Failure
from addon.protocol.sse import Frame


class Output(Protocol):
    """One answer on its way to the client."""

    @property
    def stream(self) -> bool:
        """True if the client asked for a stream."""

    @property
    def done(self) -> bool:
        """True once the terminal event was seen."""

    @property
    def response(self) -> dict[str, Any] | None:
        """The final Response object once done."""

    @property
    def items(self) -> list[dict[str, Any]]:
        """All finished output items as the backend made them, hidden ones and encrypted reasoning too."""

    @property
    def hidden(self) -> list[tuple[list[dict[str, Any]], dict[str, Any] | None]]:
        """Runs of items the client does not see, each with the item after it as the client has it, for replay."""

    def feed(self, frame: Frame) -> bytes:
        """Bytes for the client now; b"" for nothing. Raises ProtocolError."""

    def finish(self) -> bytes:
        """After the terminal event: the trailer of a stream, or the whole JSON body. Raises Refused."""

    def fail(self, failure: Failure) -> bytes:
        """What the client gets when the answer breaks after it began."""
