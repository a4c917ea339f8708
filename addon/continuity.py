"""
What the model thought and searched, for clients that cannot send it back.

A Chat Completions client has no place for reasoning, and no client ever saw the searches of our anchor. Both belong to
the prefix that the backend has cached. They are kept here by what does come back, the id of a tool call or the item
that followed, and are put in again where they were.

The rule: memory only, for one client, bounded. What is missing costs thought and cache, never an answer; and who may
read a ciphertext is provenance's business: what another account made is taken out on the way.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import orjson

from addon.protocol import chat_reasoning
from addon.protocol.chat_reasoning import Claimed
from addon.protocol.output import Output
from addon.protocol.search_replay import Lookup, replay_key

MAX_COUNT = 10_000
MAX_BYTES = 64 * 2**20
"""Of JSON, over all conversations."""
MAX_AGE = 24 * 3600.0
"""Seconds since it was last sent back."""

Item = dict[str, Any]


class Continuity:
    """Hidden items by what they led to.

    A call's id is the backend's own and names the call wherever the client sends it, although its conversation may
    have another key by then, with other tools. A search is found by words, which may be said in any conversation.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str], tuple[list[Any], int, float]] = OrderedDict()
        self._bytes = 0
        self._searches = 0

    def remember(self, client: str, session: str, output: Output) -> None:
        """Keep what the client of this answer did not get, or may not send back."""
        for call_id, claimed in chat_reasoning.claims(output.items).items():
            self._keep((client, "call", call_id), claimed)
        for key, items in hidden_searches(output).items():
            self._keep((session, "search", key), items)

    def thoughts(self, client: str) -> Callable[[str], list[Claimed]]:
        """Finds by the id of a tool call what led to it; for `chat_reasoning.insert`."""
        return lambda call_id: self._found((client, "call", call_id))

    def searches(self, session: str) -> Lookup | None:
        """Finds by the key of an item the searches before it; for `search_replay.restore_hidden`.

        None if no search is kept at all, which spares every request the making of keys.
        """
        return (lambda key: self._found((session, "search", key))) if self._searches else None

    def _found(self, key: tuple[str, str, str]) -> list[Any]:
        if key not in self._kept:
            return []
        items, _, used_at = self._kept[key]
        if self._clock() - used_at > MAX_AGE:
            self._drop(key)
            return []
        self._keep(key, items)
        return items

    def _keep(self, key: tuple[str, str, str], items: list[Any]) -> None:
        """Put the items in, as the last to be let go."""
        known = self._kept.get(key)
        size = known[1] if known and known[0] is items else len(orjson.dumps(items))
        if known:
            self._drop(key)
        self._kept[key] = (items, size, self._clock())
        self._bytes += size
        self._searches += key[1] == "search"
        while len(self._kept) > MAX_COUNT or self._bytes > MAX_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, str, str]) -> None:
        self._bytes -= self._kept.pop(key)[1]
        self._searches -= key[1] == "search"


def hidden_searches(output: Output) -> dict[str, list[Item]]:
    """The searches of an answer that its client does not see, by the key of the item they stand before."""
    runs = ((replay_key(follower) if follower else None, run) for run, follower in output.hidden)
    return {key: run for key, run in runs if key is not None}
