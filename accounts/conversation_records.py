"""What conversations need to survive a restart: the thread of a session, and who made which ciphertext.

The one idea: both are memories, not truth about accounts: insert or get, bounded by age and number, pruned
while writing. Sessions and ciphertexts are known by their SHA-256 only; no content is kept.

The rule that must not be broken: two processes that see a session at once agree on its thread id, because the
backend's prompt cache hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.dialects.sqlite import insert

from accounts import schema
from accounts.database import Database, reads, writes
from accounts.uuid7 import uuid7

DAY = 86_400.0
MAX_AGE = 90 * DAY
"""Seconds since last seen after which a session or a ciphertext is forgotten."""
MAX_ROWS = 100_000
"""Rows of each table; the longest unseen go first."""
BATCH = 500
"""Hashes of one query, well below SQLite's limit of variables."""

_t = schema.threads
_c = schema.ciphertexts


class ConversationRecords(Database):
    """Part of the store."""

    async def thread_id(self, session: str) -> str:
        """The thread id (UUIDv7) of a hashed session key, for ever the same; made when first asked for."""
        return await self._known_thread(session) or await self._thread(session)

    @reads
    def _known_thread(self, connection: Connection, session: str) -> str | None:
        """None too if it was last seen longer than a day ago, which is to be noted."""
        seen_lately = _t.c.seen_at >= self.clock() - DAY
        return connection.scalar(select(_t.c.thread_id).where(_t.c.session == session, seen_lately))

    @writes
    def _thread(self, connection: Connection, session: str) -> str:
        now = self.clock()
        row = insert(_t).values(session=session, thread_id=uuid7(now), seen_at=now)
        thread: str = connection.scalars(
            row.on_conflict_do_update(index_elements=["session"], set_={"seen_at": now}).returning(
                _t.c.thread_id
            )
        ).one()
        _prune(connection, _t, now)
        return thread

    @writes
    def remember(self, connection: Connection, hashes: Iterable[str], account: str) -> None:
        """The account with this identity made the ciphertexts with these SHA-256 digests (hex)."""
        now = self.clock()
        rows = [{"hash": each, "account": account, "seen_at": now} for each in hashes]
        if not rows:
            return
        row = insert(_c)
        connection.execute(
            row.on_conflict_do_update(
                index_elements=["hash"],
                set_={"account": row.excluded.account, "seen_at": row.excluded.seen_at},
            ),
            rows,
        )
        _prune(connection, _c, now)

    @reads
    def owners(self, connection: Connection, hashes: Iterable[str]) -> dict[str, str]:
        """Digest → identity of the account, for those whose maker is known."""
        wanted: Sequence[str] = list(hashes)
        found: dict[str, str] = {}
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            rows = connection.execute(select(_c.c.hash, _c.c.account).where(_c.c.hash.in_(some)))
            found.update({row.hash: row.account for row in rows})
        return found


def _prune(connection: Connection, table: Table, now: float) -> None:
    seen_at = table.c.seen_at
    # The row at MAX_ROWS, counted from the newest; found in the index, so cheap enough for every write.
    oldest_kept = connection.scalar(select(seen_at).order_by(seen_at.desc()).offset(MAX_ROWS - 1).limit(1))
    connection.execute(delete(table).where(seen_at < max(now - MAX_AGE, oldest_kept or 0.0)))
