"""Answers that were asked to be kept: for `previous_response_id`, references to items, and retrieval.

A response is kept as a link: what its request added, what it answered, and which response it continues. A
conversation of a hundred turns therefore stands here once and not a hundred times; its history is the chain of
links. A link that was deleted, or is out of its time, can no longer be named; what it holds goes when the last
response that continues it goes, so that no conversation loses its beginning.

The rules: these are prompts, so nothing of them is readable on the disk. What a link holds is compressed (zstd) and
encrypted with the store's key (Fernet); beside it stand ids, hashes, times and sizes only. And who asks by another
client key than the one that made a response is told nothing of it.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    literal,
    literal_column,
    not_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from accounts import schema
from accounts.database import Database, reads, writes
from accounts.key import Cipher
from accounts.models import AccountsError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BATCH = 500
"""Ids of one query, well below SQLite's limit of variables."""
LONGEST = 100_000
"""Links of a chain that are followed."""

_r = schema.responses
_i = schema.response_items

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response, and what it adds to the conversation it continues.

    client: digest of the client's key. parent: the response it continues. session: the conversation's hashed session
    key. account: the internal id of the account that answered. input: the items its request added, as the client
    sent them. response: the Response object, its output as the client got it. hidden: searches the client never saw,
    by the key of the item they stood before. size: bytes of its JSON, 0 until it was written once.
    """

    id: str
    client: str
    session: str
    created_at: float
    input: list[Item] = field(repr=False)
    response: dict[str, Any] = field(repr=False)
    parent: str | None = None
    account: str | None = None
    hidden: Mapping[str, list[Item]] = field(default_factory=dict, repr=False)
    size: int = 0

    @property
    def output(self) -> list[Item]:
        """The output items, in order."""
        return [item for item in self.response.get("output") or () if isinstance(item, dict)]

    @property
    def item_ids(self) -> set[str]:
        """The ids by which its output items may be referred to."""
        return {item["id"] for item in self.output if isinstance(item.get("id"), str)}


class ParentGone(AccountsError):
    """The response that one to be saved continues was dropped while it was made."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many responses may be named, how many bytes all of them may take, and seconds since they were last used."""

    count: int
    bytes: int
    age: float


class ResponseRecords(Database):
    """Part of the store."""

    cipher: Cipher

    async def save_response(
        self, record: StoredResponse, limits: Limits, *, uses: Iterable[str] = ()
    ) -> StoredResponse:
        """Keeps a response and drops what is then over the limits; `uses` are responses it was built on.

        Returns the record with its size. Raises ParentGone.
        """
        sealed, size = await asyncio.to_thread(self._sealed, record)
        await self._save_response(record, sealed, limits, uses)
        return replace(record, size=size)

    @writes
    def _save_response(
        self,
        connection: Connection,
        record: StoredResponse,
        sealed: bytes,
        limits: Limits,
        uses: Iterable[str],
    ) -> None:
        now = self.clock()
        row = insert(_r).values(
            id=record.id,
            client=record.client,
            parent=record.parent,
            session=record.session,
            account=record.account,
            created_at=record.created_at,
            used_at=now,
            gone=False,
            size=len(sealed),
            content=sealed,
        )
        items = [{"item": item, "response": record.id} for item in record.item_ids]
        parent = select(_r.c.id).where(_r.c.id == record.parent)
        if record.parent is not None and connection.scalar(parent) is None:
            raise ParentGone(f"Response {record.parent} is no longer stored.")
        connection.execute(row.on_conflict_do_update(index_elements=["id"], set_=dict(row.excluded.items())))
        if items:
            connection.execute(insert(_i).on_conflict_do_nothing(), items)
        for some in _batches(uses):
            connection.execute(update(_r).where(_r.c.id.in_(some)).values(used_at=now))
        _prune(connection, limits, now)

    @writes
    def prune_responses(self, connection: Connection, limits: Limits) -> None:
        """Drops what is over the limits; a count of 0 drops everything."""
        _prune(connection, limits, self.clock())

    @reads
    def response(self, connection: Connection, id: str, client: str, max_age: float) -> StoredResponse | None:
        """This response alone; None as for `response_chain`."""
        query = select(_r).where(_r.c.id == id, _named(client, self.clock() - max_age))
        row = connection.execute(query).one_or_none()
        return self._unsealed(row) if row else None

    @reads
    def response_chain(self, connection: Connection, id: str, client: str, max_age: float) -> list[str]:
        """The ids of the conversation that ends with this response, its beginning first.

        [] if the client has no such response, or it was last used more than `max_age` seconds ago.
        """
        known = _named(client, self.clock() - max_age)
        if connection.scalar(select(_r.c.id).where(_r.c.id == id, known)) is None:
            return []
        return _ancestry(connection, id)

    @reads
    def response_ancestry(self, connection: Connection, id: str) -> list[str]:
        """The same for a link that a newer response of the client is known to continue."""
        return _ancestry(connection, id)

    @reads
    def responses(self, connection: Connection, ids: Iterable[str]) -> dict[str, StoredResponse]:
        """What these ids hold, for those there are."""
        return {
            row.id: self._unsealed(row)
            for some in _batches(ids)
            for row in connection.execute(select(_r).where(_r.c.id.in_(some)))
        }

    @reads
    def responses_of_items(
        self, connection: Connection, items: Iterable[str], client: str, max_age: float
    ) -> dict[str, str]:
        """Item id → the response of this client whose output it is in, for items that are known."""
        found: dict[str, str] = {}
        known = _named(client, self.clock() - max_age)
        for some in _batches(items):
            query = select(_i).join(_r, _r.c.id == _i.c.response).where(_i.c.item.in_(some), known)
            found |= {row.item: row.response for row in connection.execute(query)}
        return found

    @writes
    def delete_response(self, connection: Connection, id: str, client: str) -> bool:
        """Forgets a response of this client; False if there is none. Those that continue it keep their history."""
        mine = and_(_r.c.id == id, _named(client, 0.0))
        deleted = connection.execute(update(_r).where(mine).values(gone=True))
        _drop_unneeded(connection)
        return deleted.rowcount == 1

    def _sealed(self, record: StoredResponse) -> tuple[bytes, int]:
        content = {"input": record.input, "response": record.response, "hidden": record.hidden}
        plain = orjson.dumps(content)
        return self.cipher.seal(zstd.compress(plain)), len(plain)

    def _unsealed(self, row: Row[Any]) -> StoredResponse:
        plain = zstd.decompress(self.cipher.unseal(row.content))
        return StoredResponse(
            id=row.id,
            client=row.client,
            parent=row.parent,
            session=row.session,
            account=row.account,
            created_at=row.created_at,
            size=len(plain),
            **orjson.loads(plain),
        )


def _named(client: str, since: float) -> ColumnElement[bool]:
    """Responses that this client may name: its own, not deleted, used since then."""
    return and_(_r.c.client == client, not_(_r.c.gone), _r.c.used_at >= since)


def _ancestry(connection: Connection, id: str) -> list[str]:
    """The links from the first one to `id`; [] if one is missing, for half a history would be a wrong one."""
    chain = (
        select(_r.c.id, _r.c.parent, _r.c.client, literal(0).label("depth"))
        .where(_r.c.id == id)
        .cte(recursive=True)
    )
    before = select(_r.c.id, _r.c.parent, _r.c.client, (chain.c.depth + 1).label("depth")).where(
        _r.c.id == chain.c.parent, _r.c.client == chain.c.client, chain.c.depth < LONGEST
    )
    links = connection.execute(select(chain.union_all(before)).order_by(literal_column("depth").desc())).all()
    return [link.id for link in links] if links and links[0].parent is None else []


def _prune(connection: Connection, limits: Limits, now: float) -> None:
    live = not_(_r.c.gone)
    too_many = select(_r.c.id).where(live).order_by(_r.c.used_at.desc()).offset(limits.count)
    for over in (_r.c.used_at < now - limits.age, _r.c.id.in_(too_many)):
        connection.execute(update(_r).where(live, over).values(gone=True))
    _drop_unneeded(connection)
    while (excess := int(connection.scalar(select(func.sum(_r.c.size))) or 0) - limits.bytes) > 0:
        oldest = connection.execute(
            select(_r.c.id, _r.c.size).where(live).order_by(_r.c.used_at).limit(BATCH)
        ).all()
        if not oldest:
            return
        freed = itertools.accumulate((row.size for row in oldest), initial=0)
        some = [row.id for row, before in zip(oldest, freed, strict=False) if before < excess]
        connection.execute(update(_r).where(_r.c.id.in_(some)).values(gone=True))
        _drop_unneeded(connection)


def _drop_unneeded(connection: Connection) -> None:
    """Deletes links that can no longer be named and that nothing continues."""
    if connection.scalar(select(_r.c.id).where(_r.c.gone).limit(1)) is None:
        return
    needed = select(_r.c.id, _r.c.parent).where(not_(_r.c.gone)).cte(recursive=True)
    needed = needed.union(select(_r.c.id, _r.c.parent).where(_r.c.id == needed.c.parent))
    connection.execute(delete(_r).where(_r.c.gone, _r.c.id.not_in(select(needed.c.id))))


def _batches(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    return itertools.batched(ids, BATCH)
