"""The answer to a chat client that asked for a stream.

`Reader` says what is new; this file writes it as chunks.

The rule of this file: what leaves here, every SDK can add up. The role comes once, in the first chunk; a
call's id and name once, in its first; a delta always exists, empty beside the finish reason.
"""

from __future__ import annotations

from typing import Any

import orjson

from addon.protocol.chat_events import Call
from addon.protocol.chunks import ChunkStream


class ChatStream(ChunkStream):
    """Chat completion chunks."""

    prefix = "chatcmpl-"
    object_name = "chat.completion.chunk"

    def text(self, piece: str) -> None:
        self._out += (self._head, b'{"content":', orjson.dumps(piece), self._tail)

    def refusal(self, piece: str) -> None:
        self._out += (self._head, b'{"refusal":', orjson.dumps(piece), self._tail)

    def reasoning(self, piece: str) -> None:
        self._out += (self._head, b'{"reasoning_content":', orjson.dumps(piece), self._tail)

    def call(self, call: Call) -> None:
        if self._asked.legacy_functions:
            self._delta({"function_call": {"name": call.name, "arguments": ""}})
        elif call.custom:
            custom = {"name": call.name, "input": ""}
            self._call({"index": call.index, "id": call.id, "type": "custom", "custom": custom})
        else:
            function = {"name": call.name, "arguments": ""}
            self._call({"index": call.index, "id": call.id, "type": "function", "function": function})

    def arguments(self, call: Call, piece: str) -> None:
        if self._asked.legacy_functions:
            self._delta({"function_call": {"arguments": piece}})
        elif call.custom:
            self._call({"index": call.index, "custom": {"input": piece}})
        else:
            self._call({"index": call.index, "function": {"arguments": piece}})

    def _ends(self) -> tuple[bytes, bytes]:
        # The tail closes the delta too, so that a delta with one member needs no object built around it.
        return b'{"index":%d,"delta":' % self._index, b'},"finish_reason":null,"logprobs":null}'

    def _begin(self) -> None:
        self._delta({"role": "assistant", "content": ""})

    def _close(self, response: dict[str, Any]) -> None:
        if notes := self._reader.citations():
            # Once and whole: the SDK cannot add up lists whose entries carry no index.
            self._delta({"annotations": notes})
        reason = self._reader.finish_reason(response)
        tier = response.get("service_tier")
        self._last(
            {"index": self._index, "delta": {}, "finish_reason": reason, "logprobs": None},
            {"service_tier": tier} if isinstance(tier, str) else {},
        )

    def _call(self, call: dict[str, Any]) -> None:
        self._delta({"tool_calls": [call]})

    def _delta(self, delta: dict[str, Any]) -> None:
        self._out += (self._head, orjson.dumps(delta)[:-1], self._tail)
