"""Reset-credit attempts in the store: what was sent for which ChatGPT account, and what became of it.

The one idea: a row is a claim. Whoever wants to spend a credit inserts one, and gets the one that stands; the
database's write lock makes two processes agree on it.

The rule that must not be broken: while a row holds an unsettled pair, or its cool-down lasts, no other pair
gets in.
"""

from __future__ import annotations

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.sqlite import insert

from accounts import schema
from accounts.database import Database
from accounts.reset_credits import Attempt, Code, Outcome, Record

_r = schema.reset_credits


class ResetRecords:
    """`reset_credits.Attempts` in the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, account_id: str) -> Record | None:
        """The record of a ChatGPT account, or None."""
        row = await self._database.read(lambda connection: _row(connection, account_id))
        return None if row is None else Record(_attempt(row), _outcome(row))

    async def save(self, account_id: str, attempt: Attempt) -> Attempt | None:
        """See `Attempts.save`; the attempt's start is what a cool-down is measured against."""
        return await self._database.write(lambda connection: _claim(connection, account_id, attempt))

    async def clear(self, account_id: str, attempt: Attempt, outcome: Outcome) -> None:
        """See `Attempts.clear`."""
        await self._database.write(lambda connection: _settle(connection, account_id, attempt, outcome))


def _row(connection: Connection, account_id: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(_r).where(_r.c.account_id == account_id)).one_or_none()


def _claim(connection: Connection, account_id: str, attempt: Attempt) -> Attempt | None:
    row = _row(connection, account_id)
    if row is not None:
        if standing := _attempt(row):
            return standing
        if row.cooldown_until is not None and row.cooldown_until > attempt.started_at:
            return None
    pair = {
        "request_id": attempt.request_id,
        "credit_id": attempt.credit_id,
        "started_at": attempt.started_at,
    }
    connection.execute(
        insert(_r)
        .values(account_id=account_id, **pair)
        .on_conflict_do_update(index_elements=["account_id"], set_=pair)
    )
    return attempt


def _settle(connection: Connection, account_id: str, attempt: Attempt, outcome: Outcome) -> None:
    mine = _r.c.account_id == account_id
    settled = mine & (func.coalesce(_r.c.request_id, "") == attempt.request_id)
    said = {
        "outcome_code": str(outcome.code),
        "outcome_at": outcome.at,
        "outcome_detail": outcome.detail,
        "cooldown_until": outcome.cooldown_until,
    }
    connection.execute(update(_r).where(mine).values(**said))
    connection.execute(update(_r).where(settled).values(request_id=None, credit_id=None, started_at=None))


def _attempt(row: Row[tuple[object, ...]]) -> Attempt | None:
    """The unsettled pair. Half a pair is damaged but still unsettled: the caller sees that it is not intact."""
    if row.request_id is None and row.credit_id is None:
        return None
    return Attempt(row.request_id or "", row.credit_id or "", row.started_at or 0.0)


def _outcome(row: Row[tuple[object, ...]]) -> Outcome | None:
    """The last certain outcome; one that this version has no word for is as good as uncertain."""
    if row.outcome_code is None:
        return None
    known = row.outcome_code in set(Code)
    code = Code(row.outcome_code) if known else Code.AMBIGUOUS
    return Outcome(code, row.outcome_at or 0.0, row.outcome_detail or "", row.cooldown_until)
