"""Attempts to spend a reset credit, in the store: one pair at a time, whoever asks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from accounts.database import FILE
from accounts.reset_credits import Attempt, Code, Outcome, Record
from accounts.reset_records import ResetRecords
from accounts.store import Store

NOW = 1_781_600_000.0
ID = "chatgpt-A"
FIRST = Attempt("00000000-0000-4000-8000-000000000001", "credit-1", NOW)
SECOND = Attempt("00000000-0000-4000-8000-000000000002", "credit-2", NOW + 1)
RESET = Outcome(Code.RESET, NOW + 2, "", NOW + 62)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path, keyring=False) as store:
        yield store


@pytest.fixture
def records(store: Store) -> ResetRecords:
    return ResetRecords(store)


async def test_nothing_is_known_of_an_account_that_never_tried(records: ResetRecords) -> None:
    assert await records.load(ID) is None


async def test_the_attempt_that_stands_is_returned_and_survives_the_process(
    records: ResetRecords, store: Store, tmp_path: Path
) -> None:
    assert await records.save(ID, FIRST) == FIRST
    assert await records.save(ID, SECOND) == FIRST
    async with await Store.open(tmp_path, keyring=False) as other:
        assert await ResetRecords(other).load(ID) == Record(FIRST)
        assert await ResetRecords(other).load(ID.lower()) is None


async def test_of_many_at_once_one_pair_stands(tmp_path: Path) -> None:
    attempts = [Attempt(f"00000000-0000-4000-8000-{n:012}", f"credit-{n}", NOW) for n in range(20)]
    async with (
        await Store.open(tmp_path, keyring=False) as one,
        await Store.open(tmp_path, keyring=False) as two,
    ):
        claims = [ResetRecords((one, two)[n % 2]).save(ID, each) for n, each in enumerate(attempts)]
        standing = await asyncio.gather(*claims)
    assert len(set(standing)) == 1


async def test_a_certain_outcome_frees_the_account_when_its_cooldown_is_over(records: ResetRecords) -> None:
    await records.save(ID, FIRST)
    await records.clear(ID, FIRST, RESET)
    assert await records.load(ID) == Record(None, RESET)
    assert await records.save(ID, SECOND) is None
    later = Attempt(SECOND.request_id, SECOND.credit_id, NOW + 62)
    assert await records.save(ID, later) == later
    assert await records.load(ID) == Record(later, RESET)


async def test_settling_an_old_attempt_leaves_a_newer_one(records: ResetRecords) -> None:
    await records.save(ID, FIRST)
    await records.clear(ID, FIRST, Outcome(Code.NO_CREDIT, NOW))
    await records.save(ID, SECOND)
    await records.clear(ID, FIRST, Outcome(Code.ALREADY_REDEEMED, NOW + 5, "", NOW + 65))
    record = await records.load(ID)
    assert record is not None
    assert record.attempt == SECOND


@pytest.mark.parametrize("column", ["request_id", "credit_id"])
async def test_half_a_pair_is_unsettled_but_not_intact_and_can_be_dropped(
    records: ResetRecords, tmp_path: Path, column: str
) -> None:
    await records.save(ID, FIRST)
    with sqlite3.connect(tmp_path / FILE) as raw:
        raw.execute(f"UPDATE reset_credits SET {column}=NULL")
    raw.close()
    record = await records.load(ID)
    assert record is not None
    assert record.attempt is not None
    assert not record.attempt.intact
    await records.clear(ID, record.attempt, Outcome(Code.AMBIGUOUS, NOW))
    assert await records.save(ID, SECOND) == SECOND


async def test_an_outcome_of_a_later_version_is_read_as_uncertain(
    records: ResetRecords, tmp_path: Path
) -> None:
    await records.save(ID, FIRST)
    await records.clear(ID, FIRST, RESET)
    with sqlite3.connect(tmp_path / FILE) as raw:
        raw.execute("UPDATE reset_credits SET outcome_code='something_new'")
    raw.close()
    assert await records.load(ID) == Record(None, Outcome(Code.AMBIGUOUS, NOW + 2, "", NOW + 62))


async def test_a_database_of_the_first_version_gets_the_table(tmp_path: Path) -> None:
    async with await Store.open(tmp_path, keyring=False):
        pass
    with sqlite3.connect(tmp_path / FILE) as raw:
        raw.execute("DROP TABLE reset_credits")
        raw.execute("UPDATE meta SET value='1' WHERE key='schema_version'")
    raw.close()
    async with await Store.open(tmp_path, keyring=False) as store:
        assert await ResetRecords(store).save(ID, FIRST) == FIRST
