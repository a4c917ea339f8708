"""Conversations as people name them: who serves which, and how to say which one is meant.

The one idea: a conversation is known by the hash of its session key. People have the session id their client
sends, the thread id that stands in the upstream request, or the beginning of either hash or thread id as the
table shows it; all of them lead to the hash. The rule: a name that fits several is refused, never guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from sqlalchemy import or_, select

from accounts import schema
from accounts.models import AccountsError
from accounts.store import Store

SHOWN = 12
"""Digits of a hash that a table shows."""
SHORTEST = 4
"""Characters that the beginning of a name must have."""

_t = schema.threads


class NoSuchConversation(AccountsError):
    """No conversation answers to the given name, or several do."""


async def thread_ids(store: Store, sessions: Collection[str]) -> dict[str, str]:
    """Thread id by hashed session key, for those that have one."""
    query = select(_t.c.session, _t.c.thread_id).where(_t.c.session.in_(sessions))
    rows = await store.read(lambda connection: connection.execute(query).all())
    return {row.session: row.thread_id for row in rows}


async def find(store: Store, name: str) -> str:
    """The hashed session key of the conversation that `name` means. Raises NoSuchConversation."""
    known = select(_t.c.session).where(or_(_t.c.session.in_(_hashes(name)), _t.c.thread_id == _plain(name)))
    seen = await store.read(lambda connection: connection.scalar(known.limit(1)))
    if seen is not None:
        return str(seen)
    pins = list(await store.pins())
    return among(name, pins, await thread_ids(store, pins))


def among(name: str, sessions: Collection[str], threads: Mapping[str, str]) -> str:
    """The one of these conversations that `name` means; `threads` are their thread ids, as far as known.

    Raises NoSuchConversation.
    """
    begin = _plain(name)
    found = [each for each in _hashes(name) if each in sessions] or [
        session
        for session in sessions
        if len(begin) >= SHORTEST
        and (session.startswith(begin) or threads.get(session, "").startswith(begin))
    ]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} conversations begin with" if found else "no conversation is known as"
    raise NoSuchConversation(
        f"{what} {name!r}: give the session id your client sends, or what `openai-auth routing` shows"
    )


def _plain(name: str) -> str:
    return name.strip().lower()


def _hashes(name: str) -> tuple[str, str]:
    """The name as a hash, and the hash of it as a session id."""
    return _plain(name), hashlib.sha256(name.strip().encode()).hexdigest()
