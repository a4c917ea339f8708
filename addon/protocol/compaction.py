"""POST /v1/responses/compact: a conversation made short by the backend.

The official client (0.169) asks for it with an ordinary request whose last input item is a `compaction_trigger`; the
answer holds one `compaction` item, whose ciphertext stands for the history from then on. OpenAI's API has a route
for it, and answers with an object of its own: the user's messages, then that item.

The rule: no half compaction. An answer without the item is a failure, for the client would throw its history away.
"""

from __future__ import annotations

from typing import Any

from addon.protocol.aggregate import ResponsesObject
from addon.protocol.asked import Asked
from addon.protocol.errors import ProtocolError
from addon.protocol.input_view import listed
from addon.protocol.sse import dumps

TRIGGER = {"type": "compaction_trigger"}


def request(body: dict[str, Any], items: list[Any]) -> dict[str, Any]:
    """The body of the ordinary request; `items` is the body's own input as a list."""
    return {**body, "input": [*items, TRIGGER], "stream": False}


class CompactedObject(ResponsesObject):
    """The answer (the Output protocol); `items` are the whole conversation's, of which the user's messages stay."""

    def __init__(self, asked: Asked, items: list[Any]) -> None:
        super().__init__(asked)
        self._history = items

    def finish(self) -> bytes:
        """The JSON body. Raises ProtocolError if the backend made no compaction."""
        super().finish()
        made = next((item for item in reversed(self.items) if item["type"] == "compaction"), None)
        if self.response is None or made is None or not made.get("encrypted_content"):
            raise ProtocolError("The backend ended its answer without a compaction of the conversation.")
        kept = [item for item in listed(self._history, self.response["id"]) if item.get("role") == "user"]
        return dumps(
            {
                "id": self.response["id"],
                "object": "response.compaction",
                "created_at": self.response["created_at"],
                # As the backend takes it back: a status that the aggregation added is not part of it.
                "output": [*kept, {name: value for name, value in made.items() if name != "status"}],
                "usage": self.response["usage"],
            }
        )
