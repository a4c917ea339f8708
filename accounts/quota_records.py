"""What was observed about accounts, in the store: quota snapshots, marks, last use, and who serves whom.

The one idea: observations arrive from several processes in any order, some of them late, so they are merged and
never replaced: quota window by window by its time, a mark, a last use and a pin by the later moment. What was
stamped by a clock that ran ahead counts as never seen.

The rule that must not be broken: an observation is never worth failing for. One about an account that was
removed meanwhile is dropped, and so is news of a conversation that was forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from accounts import quota as quota_rules
from accounts import schema
from accounts.database import Database, reads, writes
from accounts.models import DEFAULT_LIMIT, Credits, Mark, Marks, PollHold, Quota, Window
from accounts.placement import MAX_PINS, Pin
from accounts.quota import SKEW

_q = schema.quotas
_m = schema.marks
_h = schema.poll_holds
_p = schema.pins
_a = schema.accounts


@dataclass(frozen=True, slots=True)
class Observations:
    """What is to be stored at once, each by the account's id."""

    quotas: Mapping[str, Quota] = field(default_factory=dict)
    marks: Marks = field(default_factory=dict)
    """By account id and limit."""
    used: Mapping[str, float] = field(default_factory=dict)
    """When the account last served."""
    pins: Mapping[str, Pin] = field(default_factory=dict)
    """The account that serves a conversation from now on, by hashed session key."""
    touched: Mapping[str, Pin] = field(default_factory=dict)
    """The same, of conversations that went on where they were; one that was forgotten meanwhile stays so."""

    def __bool__(self) -> bool:
        return bool(self.quotas or self.marks or self.used or self.pins or self.touched)


class QuotaRecords(Database):
    """Part of the store."""

    @writes
    def observe(self, connection: Connection, seen: Observations) -> None:
        """Merges observations into the store, in one commit."""
        now = self.clock()
        known = set(connection.scalars(select(_a.c.id)).all())
        for id, quota in seen.quotas.items():
            if id not in known:
                continue
            merged = quota_rules.merge(_quotas(connection, now, id).get(id), quota)
            values = {"seen_at": merged.seen_at, "snapshot": _encoded(merged)}
            connection.execute(
                insert(_q)
                .values(account=id, **values)
                .on_conflict_do_update(index_elements=["account"], set_=values)
            )
        if seen.marks:
            connection.execute(delete(_m).where(_m.c.seen_at > now + SKEW))
        for (id, _), mark in seen.marks.items():
            if id in known:
                values = asdict(mark)
                connection.execute(
                    insert(_m)
                    .values(account=id, **values)
                    .on_conflict_do_update(
                        index_elements=["account", "limit"],
                        set_=values,
                        where=_m.c.seen_at <= mark.seen_at,
                    )
                )
        for id, moment in seen.used.items():
            later = func.max(func.coalesce(_a.c.last_used_at, 0.0), moment)
            connection.execute(update(_a).where(_a.c.id == id).values(last_used_at=later))
        if seen.pins or seen.touched:
            connection.execute(delete(_p).where(_p.c.last_seen_at > now + SKEW))
        for session, pin in seen.touched.items():
            older = (_p.c.session == session) & (_p.c.last_seen_at <= pin.last_seen_at)
            if pin.account in known:
                connection.execute(update(_p).where(older).values(asdict(pin)))
        for session, pin in seen.pins.items():
            if pin.account in known:
                values = asdict(pin)
                connection.execute(
                    insert(_p)
                    .values(session=session, **values)
                    .on_conflict_do_update(
                        index_elements=["session"],
                        set_=values,
                        where=_p.c.last_seen_at <= pin.last_seen_at,
                    )
                )
        if seen.pins:
            newest = select(_p.c.session).order_by(_p.c.last_seen_at.desc()).limit(MAX_PINS)
            connection.execute(delete(_p).where(_p.c.session.not_in(newest)))

    @writes
    def clear_mark(self, connection: Connection, id: str) -> None:
        """The account's own limit was reset."""
        connection.execute(delete(_m).where(_m.c.account == id, _m.c.limit == DEFAULT_LIMIT))

    @reads
    def poll_holds(self, connection: Connection) -> dict[str, PollHold]:
        """Whose usage is not to be asked for in the background, also past ones, by account id."""
        rows = connection.execute(select(_h)).all()
        return {row.account: PollHold(row.until, row.failures, row.generation) for row in rows}

    @writes
    def hold_poll(self, connection: Connection, id: str, hold: PollHold | None) -> None:
        """Leaves an account alone, or (None) does so no longer."""
        connection.execute(delete(_h).where(_h.c.account == id))
        if hold and connection.scalar(select(_a.c.id).where(_a.c.id == id)):
            connection.execute(insert(_h).values(account=id, **asdict(hold)))

    @writes
    def unpin(self, connection: Connection, session: str | None = None) -> int:
        """Forgets which account serves a conversation (hashed session key), or all; returns how many."""
        which = delete(_p) if session is None else delete(_p).where(_p.c.session == session)
        return connection.execute(which).rowcount

    @reads
    def pins(self, connection: Connection) -> dict[str, Pin]:
        """Every pin, also old ones, by hashed session key."""
        seen = select(_p).where(_p.c.last_seen_at <= self.clock() + SKEW)
        rows = connection.execute(seen).all()
        return {
            row.session: Pin(
                account=row.account,
                account_id=row.account_id,
                assigned_at=row.assigned_at,
                last_seen_at=row.last_seen_at,
                input_bytes=row.input_bytes,
                quota_seen_at=row.quota_seen_at,
                model=row.model,
            )
            for row in rows
        }

    @reads
    def quotas(self, connection: Connection) -> dict[str, Quota]:
        """The latest numbers of every account that has some, by account id."""
        return _quotas(connection, self.clock())

    @reads
    def marks(self, connection: Connection) -> dict[tuple[str, str], Mark]:
        """Every mark, also past and disproved ones, by account id and limit."""
        rows = connection.execute(select(_m)).all()
        return {(row.account, row.limit): Mark(row.until, row.reason, row.seen_at, row.limit) for row in rows}


def _quotas(connection: Connection, now: float, id: str | None = None) -> dict[str, Quota]:
    """Of one account, or of all."""
    query = select(_q.c.account, _q.c.snapshot).where(_q.c.seen_at <= now + SKEW)
    rows = connection.execute(query if id is None else query.where(_q.c.account == id))
    return {row.account: _decoded(row.snapshot) for row in rows}


def _encoded(quota: Quota) -> bytes:
    return orjson.dumps(asdict(quota))


def _decoded(snapshot: bytes) -> Quota:
    """Members that this version does not know were written by a later one, and are passed over."""
    values: dict[str, Any] = orjson.loads(snapshot)
    values["windows"] = tuple(Window(**_known(Window, window)) for window in values.get("windows", ()))
    if credits := values.get("credits"):
        values["credits"] = Credits(**_known(Credits, credits))
    return Quota(**_known(Quota, values))


def _known(kind: type[Quota | Window | Credits], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in kind.__dataclass_fields__}
