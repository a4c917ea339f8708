"""What processes share through the store: observations, leases, the version, and conversations."""

from __future__ import annotations

import asyncio
import math
import uuid
from pathlib import Path

import pytest
from sqlalchemy.exc import ResourceClosedError

from accounts import conversation_records
from accounts.models import (
    Credits,
    Mark,
    PollHold,
    Quota,
    Window,
)
from accounts.quota_records import Observations
from accounts.store import Store
from tests.store_bench import NOW, Clock, login, pin, quota

pytest_plugins = ("tests.store_fixtures",)


# Observations


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
    await store.observe(Observations({account.id: seen}))
    assert await store.quotas() == {account.id: seen}


async def test_older_numbers_never_replace_newer_ones(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    for numbers in (quota(50, 300, NOW + 10), quota(20, 300, NOW), quota(30, 10_080, NOW)):
        await store.observe(Observations({account.id: numbers}))
    windows = (await store.quotas())[account.id].windows
    assert {window.minutes: window.used_percent for window in windows} == {300: 50, 10_080: 30}


async def test_the_later_word_on_a_limit_stays_until_it_is_cleared(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    plan, spark = (account.id, "codex"), (account.id, "spark")
    later, earlier = Mark(NOW + 50, "later", NOW + 1), Mark(NOW + 100, "earlier", NOW)
    own = Mark(NOW + 9, "x", NOW, "spark")
    await store.observe(Observations(marks={plan: later, spark: own}))
    await store.observe(Observations(marks={plan: earlier}))
    assert await store.marks() == {plan: later, spark: own}
    await store.clear_mark(account.id)
    assert await store.marks() == {spark: own}


async def test_last_use_never_goes_back(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.observe(Observations(used={account.id: NOW + 5}))
    await store.observe(Observations(used={account.id: NOW}))
    assert (await store.accounts())[0].last_used_at == NOW + 5


async def test_pins_are_bounded_and_the_latest_wins(store: Store, clock: Clock) -> None:
    account, _ = await store.add(login("acc-1"))
    clock.now += 300
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
        Observations(
            {ghost: quota(1)},
            {(ghost, "codex"): Mark(NOW, "x", NOW)},
            {ghost: NOW},
            {"s": pin(ghost, NOW)},
            {"t": pin(ghost, NOW)},
        )
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


async def test_a_lease_that_is_kept_lasts_as_long_as_the_work(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: asyncio.Queue[float] = asyncio.Queue()
    woken = asyncio.Event()

    async def sleep(seconds: float) -> None:
        naps.put_nowait(seconds)
        await woken.wait()
        woken.clear()

    with monkeypatch.context() as patched:
        patched.setattr("accounts.database.asyncio.sleep", sleep)
        async with store.lease("poll", 90, keep=True):
            for _ in range(3):
                assert await naps.get() == 30
                clock.now += 60
                woken.set()
            await naps.get()
            async with store.lease("poll", 90) as another:
                assert not another
    async with store.lease("poll", 90) as free:
        assert free


async def test_whom_not_to_poll_is_known_to_all(store: Store) -> None:
    account, _ = await store.add(login("acc-1"))
    await store.hold_poll("0" * 12, PollHold(math.inf, 1, 1))
    for failures in (1, 2):
        await store.hold_poll(account.id, PollHold(math.inf, failures, 1))
    assert await store.poll_holds() == {account.id: PollHold(math.inf, 2, 1)}
    await store.hold_poll(account.id, None)
    assert await store.poll_holds() == {}


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
    store._watcher.close()
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
