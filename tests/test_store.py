"""The store: accounts, order, tokens at rest, observations, and what happens to files that are not ours."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ResourceClosedError

from accounts import conversation_records, database, schema
from accounts.account_records import resolve
from accounts.models import (
    Account,
    AmbiguousAccount,
    Credits,
    InvalidLabel,
    Login,
    Mark,
    NoSuchAccount,
    Quota,
    RefreshError,
    Secret,
    StoreDamaged,
    StoreTooNew,
    StoreUnavailable,
    Window,
)
from accounts.placement import Pin
from accounts.quota_records import Observations
from accounts.store import Store

NOW = 1_800_000_000.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Grant:
    access: Secret
    refresh: Secret | None
    expires_at: float


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path / "state", keyring=False, clock=clock) as opened:
        yield opened


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def login(account: str, **more: object) -> Login:
    fields: dict[str, object] = {
        "type": "oauth",
        "access": Secret(f"access of {account}"),
        "refresh": Secret(f"refresh of {account}"),
        "expires_at": NOW + 3600,
        "account_id": account,
    }
    return Login(**(fields | more))  # type: ignore[arg-type]


async def names(store: Store) -> list[str]:
    return [each.name for each in await store.accounts()]


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
    async with store.reading() as connection:
        found = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
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
        async with store.writing() as connection:
            await connection.exec_driver_sql("PRAGMA writable_schema=ON")
            await connection.exec_driver_sql("DELETE FROM sqlite_master WHERE name='ciphertexts_seen_at'")
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
        async with store.reading() as connection:
            rows = await connection.execute(text("SELECT DISTINCT note FROM accounts"))
            assert rows.scalars().all() == ["migrated"]
            version = await connection.execute(text("SELECT value FROM meta WHERE key='schema_version'"))
            assert version.scalar_one() == str(second + 1)


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


# Accounts


async def test_the_first_account_is_main_and_later_ones_are_fallbacks(store: Store) -> None:
    first, created = await store.add(login("acc-1", email="a@example.com", plan="plus"))
    second, _ = await store.add(login("acc-2"), "work")
    assert (first.role, first.name, created) == ("main", "main", True)
    assert (second.role, second.name, second.position) == ("fallback", "work", 1)
    assert (first.email, first.plan, first.added_at, first.expires_at) == (
        "a@example.com",
        "plus",
        NOW,
        NOW + 3600,
    )


async def test_the_same_chatgpt_account_is_updated_never_added(store: Store) -> None:
    first, _ = await store.add(login("acc-1", email="old@example.com", plan="plus"), "home")
    await store.add(login("acc-2"))
    again, created = await store.add(login("acc-1", access=Secret("new"), plan="pro"))
    assert not created
    assert (again.id, again.label, again.position, again.plan) == (first.id, "home", 0, "pro")
    assert again.email == "old@example.com"
    assert again.generation > first.generation
    assert (await store.credentials(first.id)).access.reveal() == "new"
    assert len(await store.accounts()) == 2


async def test_a_label_changes_only_if_it_is_given(store: Store) -> None:
    await store.add(login("acc-1"), "home")
    assert (await store.add(login("acc-1")))[0].label == "home"
    assert (await store.add(login("acc-1", label="source's")))[0].label == "home"
    assert (await store.add(login("acc-1"), "flat"))[0].label == "flat"


async def test_a_new_login_clears_what_the_old_one_died_of(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.save_refresh_error(account.id, failure("refresh of acc-1"))
    assert (await store.accounts())[0].login_error == "gone"
    assert (await store.add(login("acc-1")))[0].login_error is None


async def test_an_api_key_is_the_same_account_as_itself(store: Store) -> None:
    key = Login("api_key", Secret("sk-1"))
    first, _ = await store.add(key, "paid")
    again, created = await store.add(key)
    other, _ = await store.add(Login("api_key", Secret("sk-2")))
    assert (again.id, created) == (first.id, False)
    assert other.id != first.id
    assert (first.type, first.account_id, first.expires_at) == (
        "api_key",
        None,
        None,
    ) or first.expires_at is None


@pytest.mark.parametrize("label", ["main", "MAIN", " Main ", "", "  ", "a\nb", "x" * 65])
async def test_labels_that_cannot_be(store: Store, label: str) -> None:
    account, _ = await store.add(login("acc-1"))
    with pytest.raises(InvalidLabel):
        await store.add(login("acc-2"), label)
    with pytest.raises(InvalidLabel):
        await store.rename(account.id, label)
    assert len(await store.accounts()) == 1


async def test_a_label_never_names_two_accounts(store: Store) -> None:
    first, _ = await store.add(login("acc-1"), "work")
    second, _ = await store.add(login("acc-2"))
    for taken in ("work", first.id, "acc-1"):
        with pytest.raises(InvalidLabel, match="already names"):
            await store.rename(second.id, taken)
    assert (await store.rename(first.id, "work")).label == "work"
    assert (await store.rename(second.id, "acc-2")).label == "acc-2"


async def test_a_label_from_the_source_is_taken_if_it_is_free(store: Store) -> None:
    assert (await store.add(login("acc-1", label="work")))[0].label == "work"
    assert (await store.add(login("acc-2", label="work")))[0].label is None
    assert (await store.add(login("acc-3", label="main")))[0].label is None


ROSTER = [
    Account("0123456789ab", None, "oauth", "acc-main", position=0),
    Account("aaaaaaaaaaaa", "Work", "oauth", "acc-work", position=1),
    Account("bbbbbbbbbbbb", "work", "oauth", "12345678-aaaa", position=2),
    Account("cccccccccccc", None, "oauth", "87654321-bbbb", position=3),
    Account("dddddddddddd", "Play", "oauth", "87654321-cccc", position=4),
]


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("main", 0),
        ("MAIN", 0),
        ("0123456789ab", 0),
        ("acc-work", 1),
        ("Work", 1),
        ("work", 2),
        (" work ", 2),
        ("play", 4),
        ("87654321", 3),
        ("87654321-CCCC", 4),
    ],
)
def test_names_people_use(name: str, position: int) -> None:
    assert resolve(ROSTER, name).position == position


def test_a_name_that_fits_several_accounts_lists_them() -> None:
    with pytest.raises(AmbiguousAccount, match=r"Work \(id aaaaaaaaaaaa\), work \(id bbbbbbbbbbbb\)"):
        resolve(ROSTER, "WORK")


@pytest.mark.parametrize("name", ["nobody", "", "acc"])
def test_a_name_that_fits_none(name: str) -> None:
    with pytest.raises(NoSuchAccount, match="known are main, Work"):
        resolve(ROSTER, name)


def test_main_of_an_empty_store() -> None:
    with pytest.raises(NoSuchAccount, match="openai-auth login"):
        resolve([], "main")


async def three(store: Store) -> None:
    for name in "abc":
        await store.add(login(f"acc-{name}"), name)


async def test_switch_makes_main_and_switching_back_restores_the_order(store: Store) -> None:
    await three(store)
    assert (await store.switch("c")).role == "main"
    assert await names(store) == ["c", "b", "a"]
    await store.switch("a")
    assert await names(store) == ["a", "b", "c"]
    await store.switch("main")
    assert await names(store) == ["a", "b", "c"]


async def test_order_exchanges_two_places(store: Store) -> None:
    await three(store)
    assert [each.name for each in await store.order("b", "c")] == ["a", "c", "b"]


async def test_removing_main_makes_the_next_one_main(store: Store) -> None:
    await three(store)
    gone, main = await store.remove("main")
    assert (gone.name, main and main.name) == ("a", "b")
    gone, main = await store.remove("c")
    assert (gone.name, main) == ("c", None)
    assert (await store.remove("b"))[1] is None
    assert await store.accounts() == []
    with pytest.raises(NoSuchAccount):
        await store.remove("b")


async def test_removal_takes_everything_about_the_account_with_it(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.observe(
        Observations({account.id: quota(10)}, {account.id: Mark(NOW, "x")}, {}, {"s": pin(account.id, NOW)})
    )
    await store.remove("main")
    assert (await store.quotas(), await store.marks(), await store.pins()) == ({}, {}, {})
    with pytest.raises(NoSuchAccount):
        await store.credentials(account.id)


async def test_positions_have_no_gaps(store: Store) -> None:
    await three(store)
    await store.remove("b")
    await store.add(login("acc-d"), "d")
    assert [(each.name, each.position) for each in await store.accounts()] == [("a", 0), ("c", 1), ("d", 2)]


async def test_disabling_keeps_place_and_tokens(store: Store) -> None:
    await three(store)
    assert not (await store.enable("a", False)).enabled
    assert not (await store.add(login("acc-a")))[0].enabled
    assert (await store.enable("a")).enabled
    assert await names(store) == ["a", "b", "c"]


async def test_a_label_can_be_taken_away(store: Store) -> None:
    await three(store)
    assert (await store.rename("b", None)).name == "acc-b"


# Tokens


def failure(token: str, permanent: bool = True) -> RefreshError:
    return RefreshError("gone", permanent, NOW, None if permanent else NOW + 300, 1, Secret(token).hash)


async def test_a_rotation_replaces_the_tokens(store: Store, clock: Clock) -> None:
    account, _ = await store.add(login("acc-1"))
    spent = Secret("refresh of acc-1").hash
    held = await store.rotate(account.id, spent, Grant(Secret("a2"), Secret("r2"), NOW + 7200))
    assert held == await store.credentials(account.id)
    assert held.access.reveal() == "a2"
    assert held.refresh == Secret("r2")
    assert (held.expires_at, held.refreshed_at) == (NOW + 7200, NOW)
    assert (await store.accounts())[0].generation == held.generation > account.generation


async def test_a_rotation_without_a_refresh_token_keeps_the_old_one(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    spent = Secret("refresh of acc-1").hash
    held = await store.rotate(account.id, spent, Grant(Secret("a2"), None, NOW))
    assert held.refresh == Secret("refresh of acc-1")


async def test_a_rotation_never_overwrites_a_newer_login(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    spent = Secret("refresh of acc-1").hash
    await store.add(login("acc-1", access=Secret("fresh"), refresh=Secret("fresh refresh")))
    held = await store.rotate(account.id, spent, Grant(Secret("late"), Secret("late"), NOW))
    assert held.access.reveal() == "fresh"
    assert (await store.credentials(account.id)).refresh == Secret("fresh refresh")


async def test_a_failure_counts_for_the_token_it_happened_with(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.save_refresh_error(account.id, failure("an older token"))
    assert await store.refresh_error(account.id) is None
    await store.save_refresh_error(account.id, failure("refresh of acc-1", permanent=False))
    assert await store.refresh_error(account.id) == failure("refresh of acc-1", permanent=False)
    assert (await store.accounts())[0].login_error is None
    await store.rotate(account.id, Secret("refresh of acc-1").hash, Grant(Secret("a"), Secret("r"), NOW))
    assert await store.refresh_error(account.id) is None


async def test_a_cancelled_caller_does_not_cut_a_write(store: Store) -> None:
    tasks = [asyncio.ensure_future(store.add(login(f"acc-{number}"))) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.add(login("last"))
    found = await store.accounts()
    assert len(found) == 21
    assert [each.position for each in found] == list(range(21))


# Observations


def quota(used: float, minutes: int | None = 300, seen_at: float = NOW) -> Quota:
    window = Window(minutes, used, seen_at + 60, seen_at, "headers")
    return Quota("acc-1", (window,), seen_at=seen_at)


def pin(account: str, seen_at: float) -> Pin:
    return Pin(account, "acc-1", NOW, seen_at, 100, None)


async def test_quota_comes_back_as_it_was_seen(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    seen = Quota(
        "acc-1",
        (Window(300, 12.5, NOW + 1, NOW, "usage"), Window(None, 1, None, NOW, "frame", "spark", "Spark")),
        "pro",
        Credits(True, False, "12.50"),
        3,
        1,
        NOW,
        True,
    )
    await store.save_quota(account.id, seen)
    assert await store.quotas() == {account.id: seen}


async def test_older_numbers_never_replace_newer_ones(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.save_quota(account.id, quota(50, 300, NOW + 10))
    await store.save_quota(account.id, quota(20, 300, NOW))
    await store.save_quota(account.id, quota(30, 10_080, NOW))
    windows = (await store.quotas())[account.id].windows
    assert {window.minutes: window.used_percent for window in windows} == {300: 50, 10_080: 30}


async def test_the_later_mark_stays_until_it_is_disproved(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.save_mark(account.id, Mark(NOW + 100, "long"))
    await store.save_mark(account.id, Mark(NOW + 50, "short"))
    assert await store.marks() == {account.id: Mark(NOW + 100, "long")}
    await store.clear_mark(account.id)
    assert await store.marks() == {}


async def test_last_use_never_goes_back(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.observe(Observations(used={account.id: NOW + 5}))
    await store.observe(Observations(used={account.id: NOW}))
    assert (await store.accounts())[0].last_used_at == NOW + 5


async def test_pins_are_bounded_and_the_latest_wins(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    pins = {f"session {number}": pin(account.id, NOW + number) for number in range(300)}
    await store.observe(Observations(pins=pins))
    await store.observe(Observations(pins={"session 299": pin(account.id, NOW)}))
    found = await store.pins()
    assert len(found) == 256
    assert found["session 299"] == pins["session 299"]
    assert "session 43" not in found
    assert await store.unpin("session 299") == 1
    assert await store.unpin() == 255
    assert await store.pins() == {}


async def test_observations_about_a_removed_account_are_dropped(store: Store) -> None:
    ghost = "0" * 12
    await store.observe(
        Observations({ghost: quota(1)}, {ghost: Mark(NOW, "x")}, {ghost: NOW}, {"s": pin(ghost, NOW)})
    )
    assert (await store.quotas(), await store.marks(), await store.pins()) == ({}, {}, {})


# Between processes


async def test_only_one_holds_a_lease(store: Store, tmp_path: Path, clock: Clock) -> None:
    async with await Store.open(tmp_path / "state", keyring=False, clock=clock) as other:
        async with store.lease("refresh", 90) as mine, other.lease("refresh", 90) as theirs:
            assert (mine, theirs) == (True, False)
            async with other.lease("something else", 90) as unrelated:
                assert unrelated
        async with other.lease("refresh", 90) as free_again:
            assert free_again


async def test_a_lease_that_was_not_given_back_runs_out(store: Store, clock: Clock) -> None:
    async with store.lease("refresh", 90) as killed:
        assert killed
        clock.now += 89
        async with store.lease("refresh", 90) as early:
            assert not early
        clock.now += 1
        async with store.lease("refresh", 90) as late:
            assert late
            # The first one wakes up and gives back what is no longer its own.
            await asyncio.shield(store._give_lease_back("refresh", "the first owner"))
            async with store.lease("refresh", 90) as third:
                assert not third


async def test_a_lease_from_a_clock_far_ahead_does_not_last_for_ever(store: Store, clock: Clock) -> None:
    clock.now += 365 * 86_400
    async with store.lease("refresh", 90):
        clock.now -= 365 * 86_400
        async with store.lease("refresh", 90) as mine:
            assert mine


async def test_the_version_changes_with_every_commit_of_anyone(store: Store, tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "state", keyring=False) as other:
        before = await store.version()
        assert await store.version() == before
        await other.add(login("acc-1"))
        after_other = await store.version()
        await store.add(login("acc-2"))
        assert len({before, after_other, await store.version()}) == 3


async def test_a_broken_look_at_the_version_is_an_error_once_and_no_change_is_missed(store: Store) -> None:
    before = await store.version()
    assert store._watcher is not None
    await store._watcher.close()
    with pytest.raises(ResourceClosedError):
        await store.version()
    assert await store.version() != before


async def test_callers_that_hang_up_cost_no_connection(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))

    async def leased() -> None:
        async with store.lease("refresh", 90):
            await asyncio.sleep(0)

    for turns in range(40):
        calls = [
            asyncio.ensure_future(call)
            for call in (
                store.accounts(),
                store.credentials(account.id),
                store.quotas(),
                store.owners(["hash"]),
                store.thread_id(f"session {turns}"),
                store.version(),
                leased(),
            )
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await store.version()
    async with store.lease("refresh", 90) as free:
        assert free
    assert store.engine.pool.checkedout() == 1  # type: ignore[attr-defined]  # the one that watches the version
    assert len(await store.accounts()) == 1


# Conversations


async def test_a_session_has_one_thread_for_ever(store: Store, tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "state", keyring=False) as other:
        both = await asyncio.gather(*(each.thread_id("session") for each in [store, other] * 5))
    assert len(set(both)) == 1
    assert uuid.UUID(both[0]).version == 7
    assert await store.thread_id("another") != both[0]


async def test_a_session_in_use_outlives_one_that_is_not(store: Store, clock: Clock) -> None:
    used, unused = await store.thread_id("used"), await store.thread_id("unused")
    for _ in range(2):
        clock.now += conversation_records.MAX_AGE / 2 + 1
        assert await store.thread_id("used") == used
    await store.thread_id("new")
    assert await store.thread_id("used") == used
    assert await store.thread_id("unused") != unused


async def test_ciphertexts_know_their_account(store: Store) -> None:
    await store.remember(["h1", "h2"], "a")
    await store.remember(["h2"], "b")
    await store.remember([], "b")
    assert await store.owners(["h1", "h2", "h3"]) == {"h1": "a", "h2": "b"}


async def test_many_ciphertexts_are_looked_up_at_once(store: Store) -> None:
    hashes = [f"{number:064x}" for number in range(1200)]
    await store.remember(hashes, "a")
    assert len(await store.owners(hashes)) == 1200


async def test_ciphertexts_are_bounded_by_number_and_age(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_records, "MAX_ROWS", 3)
    for number in range(5):
        clock.now += 1
        await store.remember([f"h{number}"], "a")
    assert set(await store.owners([f"h{number}" for number in range(5)])) == {"h2", "h3", "h4"}
    clock.now += conversation_records.MAX_AGE + 1
    await store.remember(["late"], "a")
    assert set(await store.owners(["h4", "late"])) == {"late"}
