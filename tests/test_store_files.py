"""The store's files: who may read them, and what happens to one that is damaged, foreign, or of another version."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from accounts import database, schema
from accounts.models import (
    Secret,
    StoreDamaged,
    StoreTooNew,
    StoreUnavailable,
)
from accounts.store import Store
from tests.store_bench import NOW, login

pytest_plugins = ("tests.store_fixtures",)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# Files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: mode(file) for file in folder.iterdir()}


@pytest.mark.usefixtures("open_umask")
async def test_nothing_is_readable_by_others_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with await Store.open(folder, keyring=False) as store:
        await store.add(login("acc-1"))
        assert mode(folder) == 0o700
        modes = modes_in(folder)
    assert modes == dict.fromkeys(("state.db", "state.db-wal", "state.db-shm", "key"), 0o600)


async def test_files_that_others_could_read_are_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with await Store.open(folder, keyring=False):
        pass
    folder.chmod(0o755)
    (folder / "state.db").chmod(0o644)
    async with await Store.open(folder, keyring=False):
        assert (mode(folder), mode(folder / "state.db")) == (0o700, 0o600)


async def test_tokens_are_not_in_the_files(store: Store) -> None:
    await store.add(login("acc-1", access=Secret("PLAIN-ACCESS"), refresh=Secret("PLAIN-REFRESH")))
    for file in store.file.parent.iterdir():
        assert b"PLAIN" not in file.read_bytes()
    held = await store.credentials((await store.accounts())[0].id)
    assert held.access.reveal() == "PLAIN-ACCESS"
    assert "PLAIN" not in f"{held} {held.access} {held.refresh!r}"


async def test_commits_are_on_the_disk_before_they_return(store: Store) -> None:
    found = await store.read(
        lambda connection: {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    )
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


# Damage


async def made(folder: Path) -> Path:
    async with await Store.open(folder, keyring=False) as store:
        for number in range(20):
            await store.add(login(f"acc-{number}"))
    return folder / "state.db"


def garbage(file: Path) -> None:
    file.write_bytes(b"not a database" * 1000)


def overwritten_pages(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def cut_short(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 8 * 3])


def emptied_beside_its_log(file: Path) -> None:
    file.write_bytes(b"")
    file.with_name("state.db-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(5000))


def contents(folder: Path) -> dict[str, bytes]:
    # The -shm file is SQLite's shared memory, rebuilt at every opening.
    return {
        file.name: file.read_bytes() for file in folder.glob("state.db*") if not file.name.endswith("-shm")
    }


@pytest.mark.parametrize("damage", [garbage, overwritten_pages, cut_short, emptied_beside_its_log])
async def test_a_damaged_database_is_named_and_left_alone(tmp_path: Path, damage: object) -> None:
    file = await made(tmp_path)
    damage(file)  # type: ignore[operator]
    before = contents(tmp_path)
    with pytest.raises(StoreDamaged, match=r"state\.db is damaged.*left as it is.*log in again"):
        async with await Store.open(tmp_path, keyring=False) as store:
            await store.accounts()
    after = contents(tmp_path)
    assert after == before


async def test_a_check_tells_a_sound_file_from_one_with_a_broken_index(tmp_path: Path) -> None:
    async with await Store.open(tmp_path, keyring=False) as store:
        await store.remember([f"{number:064x}" for number in range(100)], "a")
        assert await store.check() is None
        for statement in (
            "PRAGMA writable_schema=ON",
            "DELETE FROM sqlite_master WHERE name='ciphertexts_seen_at'",
        ):
            await store.write(lambda connection, statement=statement: connection.exec_driver_sql(statement))
    async with await Store.open(tmp_path, keyring=False) as store:
        assert await store.check() is not None


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(StoreDamaged, match="another program"):
        await Store.open(tmp_path, keyring=False)


async def test_a_locked_database_is_unavailable_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await made(tmp_path)
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.01)
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        async with await Store.open(tmp_path, keyring=False) as store:
            assert len(await store.accounts()) == 20
            with pytest.raises(StoreUnavailable, match="kept locked"):
                await store.add(login("late"))
    except StoreUnavailable:
        pytest.fail("reading must not need the write lock")
    finally:
        holder.close()


async def test_a_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        await Store.open(tmp_path / "state", keyring=False)


# Versions


async def test_a_newer_schema_is_refused_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = await made(tmp_path)
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE meta SET value='999' WHERE key='schema_version'")
    raw.close()
    before = file.read_bytes()
    with pytest.raises(StoreTooNew, match=r"newer version.*999.*upgrade"):
        await Store.open(tmp_path, keyring=False)
    assert file.read_bytes() == before


async def test_a_database_without_a_version_is_refused(tmp_path: Path) -> None:
    file = await made(tmp_path)
    with sqlite3.connect(file) as raw:
        raw.execute("DELETE FROM meta WHERE key='schema_version'")
    raw.close()
    with pytest.raises(StoreDamaged, match="which version"):
        await Store.open(tmp_path, keyring=False)


async def test_an_older_schema_walks_forward_and_keeps_its_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await made(tmp_path)
    first, second = schema.VERSION, schema.VERSION + 1
    with sqlite3.connect(file) as raw:
        raw.execute("DROP TABLE pins")
    raw.close()

    def step(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE accounts ADD COLUMN note TEXT"))
        connection.execute(text("UPDATE accounts SET note='migrated'"))

    monkeypatch.setattr(schema, "VERSION", second + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {first: step})
    async with await Store.open(tmp_path, keyring=False) as store:
        assert len(await store.accounts()) == 20
        assert (await store.credentials((await store.accounts())[7].id)).access.reveal() == "access of acc-7"
        assert await store.pins() == {}
        notes = text("SELECT DISTINCT note FROM accounts")
        assert await store.read(lambda connection: connection.scalars(notes).all()) == ["migrated"]
        version = text("SELECT value FROM meta WHERE key='schema_version'")
        assert await store.read(lambda connection: connection.scalar(version)) == str(second + 1)


async def test_version_4_keeps_accounts_and_who_made_what(tmp_path: Path) -> None:
    file = await made(tmp_path)
    with sqlite3.connect(file) as raw:
        account, chatgpt = raw.execute("SELECT id, account_id FROM accounts WHERE position=3").fetchone()
        for statement in (
            "UPDATE meta SET value='4' WHERE key='schema_version'",
            "DROP TABLE poll_holds",
            "DROP TABLE marks",
            "CREATE TABLE marks (account TEXT PRIMARY KEY, until FLOAT NOT NULL, reason TEXT NOT NULL)",
            "ALTER TABLE pins DROP COLUMN model",
            f"INSERT INTO marks VALUES ('{account}', 1e12, 'limit')",
            f"INSERT INTO ciphertexts VALUES ('aa', '{account}', {NOW}), ('bb', 'removed', {NOW})",
        ):
            raw.execute(statement)
    raw.close()
    async with await Store.open(tmp_path, keyring=False) as store:
        assert len(await store.accounts()) == 20
        assert await store.owners(["aa", "bb"]) == {"aa": chatgpt}
        assert (await store.marks(), await store.pins(), await store.poll_holds()) == ({}, {}, {})


async def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(tmp_path)

    def step(connection: Connection) -> None:
        connection.execute(text("UPDATE accounts SET label='half done'  WHERE position=0"))
        raise RuntimeError("broken step")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "VERSION", schema.VERSION + 1)
        patched.setattr(schema, "MIGRATIONS", {schema.VERSION - 1: step})
        with pytest.raises(RuntimeError):
            await Store.open(tmp_path, keyring=False)
    async with await Store.open(tmp_path, keyring=False) as store:
        assert (await store.accounts())[0].label is None
