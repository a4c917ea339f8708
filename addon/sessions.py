"""
Conversations: which thread and which turn a request belongs to.

The backend derives its prompt cache from the thread id, and keeps a turn together by its turn id. So a session
key, whatever it was made from, names one thread for ever: the store keeps it, and two processes agree on it. The
turn lives in memory only: it changes with each user message and stays over the tool loop in between.

One session may have several histories at once: a client asks for a title in the middle of a tool loop, or several
agents share a name. Each has its own turn, and a request continues the longest one that it begins with.

The rule: a request sent again, to another account or after a repair, keeps its turn.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.uuid7 import uuid7
from addon.protocol.identity import Turn, adds_user_message, item_digests

KEPT = 4096
"""Sessions held in memory; one that was let go starts a new turn when it comes back, on its old thread."""
HEADS = 8
"""Turns of a session held in memory: those used last."""


@dataclass(slots=True)
class Head:
    """A turn, and what its last request held: the number of input items and one digest of them all.

    `states` holds, by account, the opaque header that the backend wants back within the turn.
    """

    turn: Turn
    count: int = 0
    digest: int = 0
    states: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """One conversation. `heads` are its turns, the one used last at the end."""

    key: str
    thread_id: str
    heads: list[Head] = field(default_factory=list)

    def turn_states(self, turn: Turn) -> dict[str, str]:
        """See `Head.states`; of no use for a turn that was let go."""
        return next((head.states for head in self.heads if head.turn is turn), {})


class Sessions:
    """The conversations of this process. `thread_id` looks a key up in the store, or makes its thread there."""

    def __init__(self, thread_id: Callable[[str], Awaitable[str]]) -> None:
        self._thread_id = thread_id
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._installation_id = str(uuid.uuid4())  # per start, as nothing ties our starts together

    async def find(self, key: str) -> Session:
        """The session of `key`, a hex digest."""
        if session := self._sessions.get(key):
            self._sessions.move_to_end(key)
            return session
        session = Session(key, await self._thread_id(key))
        session = self._sessions.setdefault(key, session)  # another request may have been faster
        while len(self._sessions) > KEPT:
            self._sessions.popitem(last=False)
        return session

    def turn(self, session: Session, items: list[dict[str, Any]]) -> Turn:
        """The turn that a request with these input items belongs to; remembers the items for the next one.

        A turn begins with a history that continues none, and with a message of the user. Otherwise it is a tool
        loop's next round. Raises Refused (400) for an item nested too deeply.
        """
        digests = item_digests(items)
        continued = [head for head in session.heads if head.digest == hash(tuple(digests[: head.count]))]
        head = max(continued, key=lambda each: each.count, default=None)
        if head is None or adds_user_message(items[head.count :]):
            head = Head(Turn(session.thread_id, uuid7(), int(time.time() * 1000), self._installation_id))
        else:
            session.heads.remove(head)
        head.count, head.digest = len(digests), hash(tuple(digests))
        session.heads.append(head)
        del session.heads[:-HEADS]
        return head.turn

    def remember_turn_state(
        self, session: Session, turn: Turn, account: str, headers: Mapping[str, str]
    ) -> None:
        """Keep the first `x-codex-turn-state` of the turn, for this account only."""
        if state := headers.get("x-codex-turn-state"):
            session.turn_states(turn).setdefault(account, state)
