"""
Conversations: which thread and which turn a request belongs to.

The backend derives its prompt cache from the thread id, and keeps a turn together by its turn id. So a session
key, whatever it was made from, names one thread for ever: the store keeps it, and two processes agree on it. The
turn lives in memory only: it changes with each user message and stays over the tool loop in between.

The rule: a request sent again, to another account or after a repair, keeps its turn.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.uuid7 import uuid7
from addon.protocol import codex_request
from addon.protocol.codex_request import Turn

KEPT = 4096
"""Sessions held in memory; one that was let go starts a new turn when it comes back, on its old thread."""


@dataclass(slots=True)
class Session:
    """One conversation. `turn_states` holds, by account, the opaque header the backend wants back within a turn."""

    key: str
    thread_id: str
    turn: Turn | None = None
    digests: list[int] | None = None
    turn_states: dict[str, str] = field(default_factory=dict)


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
        """The turn that a request with these input items belongs to; remembers the items for the next one."""
        digests = codex_request.item_digests(items)
        if session.turn is None or codex_request.is_new_turn(session.digests, digests, items):
            session.turn = Turn(session.thread_id, uuid7(), int(time.time() * 1000), self._installation_id)
            session.turn_states = {}
        session.digests = digests
        return session.turn

    def remember_turn_state(
        self, session: Session, turn: Turn, account: str, headers: Mapping[str, str]
    ) -> None:
        """Keep the first `x-codex-turn-state` of the turn, for this account only."""
        state = headers.get("x-codex-turn-state")
        if state and session.turn is turn:
            session.turn_states.setdefault(account, state)
