"""Kept answers in the store: chains, bounds, privacy, and what lies on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accounts.models import KeyUnavailable
from accounts.response_records import Limits, ParentGone, StoredResponse
from accounts.store import Store
from tests.store_bench import Clock

ALICE, BOB = "a" * 64, "b" * 64
DAY = 86_400.0
ROOMY = Limits(count=100, bytes=10**8, age=DAY)


pytest_plugins = ("tests.store_fixtures",)


def record(id: str, parent: str | None = None, *, client: str = ALICE, text: str = "hello") -> StoredResponse:
    message = {"id": f"msg_{id}", "type": "message", "role": "assistant", "content": []}
    return StoredResponse(
        id=id,
        client=client,
        session="5" * 64,
        created_at=1.0,
        input=[{"role": "user", "content": text}],
        response={"id": id, "output": [message]},
        parent=parent,
        account="acc",
        hidden={"k": [{"type": "web_search_call"}]},
    )


async def chain(store: Store, id: str, client: str = ALICE) -> list[str]:
    return await store.response_chain(id, client, DAY)


async def save(store: Store, clock: Clock, *records: StoredResponse, limits: Limits = ROOMY) -> None:
    """One second apart; each uses its parent, as requests do."""
    for each in records:
        clock.now += 1
        await store.save_response(each, limits, uses=[each.parent] if each.parent else [])


async def test_what_is_read_is_what_was_written(store: Store, clock: Clock) -> None:
    written = await store.save_response(record("r1"), ROOMY)
    assert written.size > 0
    assert await store.responses(["r1", "unknown"]) == {"r1": written}


async def test_a_chain_is_its_links_in_order(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"), record("r2", "r1"), record("r3", "r2"), record("fork", "r1"))
    assert await chain(store, "r3") == ["r1", "r2", "r3"]
    assert await chain(store, "fork") == ["r1", "fork"]
    assert await chain(store, "unknown") == []


async def test_another_client_is_told_nothing(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"))
    assert await chain(store, "r1", BOB) == []
    assert await store.responses_of_items(["msg_r1"], BOB, DAY) == {}
    assert not await store.delete_response("r1", BOB)
    assert await chain(store, "r1") == ["r1"]


async def test_an_item_names_its_response(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"), record("r2"))
    found = await store.responses_of_items(["msg_r2", "msg_r1", "msg_x"], ALICE, DAY)
    assert found == {"msg_r1": "r1", "msg_r2": "r2"}


async def test_a_deleted_response_can_no_longer_be_named(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"))
    assert await store.delete_response("r1", ALICE)
    assert await chain(store, "r1") == []
    assert await store.responses_of_items(["msg_r1"], ALICE, DAY) == {}
    assert await store.responses(["r1"]) == {}
    assert not await store.delete_response("r1", ALICE)


async def test_a_deleted_parent_stays_for_its_children_and_goes_with_the_last(
    store: Store, clock: Clock
) -> None:
    await save(store, clock, record("r1"), record("r2", "r1"), record("r3", "r2"))
    await store.delete_response("r1", ALICE)
    await store.delete_response("r2", ALICE)
    assert await chain(store, "r2") == []
    assert await chain(store, "r3") == ["r1", "r2", "r3"]
    await store.delete_response("r3", ALICE)
    assert await store.responses(["r1", "r2", "r3"]) == {}


async def test_the_longest_unused_go_when_there_are_too_many(store: Store, clock: Clock) -> None:
    two = Limits(count=2, bytes=10**8, age=DAY)
    await save(store, clock, record("r1"), record("r2"), limits=two)
    await save(store, clock, record("r3", "r1"), limits=two)  # r1 is in use
    assert await chain(store, "r2") == []
    assert await chain(store, "r3") == ["r1", "r3"]
    assert await store.responses(["r2"]) == {}


async def test_a_conversation_longer_than_the_count_keeps_its_beginning(store: Store, clock: Clock) -> None:
    two = Limits(count=2, bytes=10**8, age=DAY)
    links = [record("r0"), *(record(f"r{n}", f"r{n - 1}") for n in range(1, 6))]
    await save(store, clock, *links, limits=two)
    assert await chain(store, "r5") == [f"r{n}" for n in range(6)]
    assert await chain(store, "r1") == []


async def test_bytes_are_a_hard_limit_also_for_one_long_conversation(store: Store, clock: Clock) -> None:
    noise = "".join(chr(33 + (n * 7919) % 90) for n in range(4000))
    small = Limits(count=100, bytes=10_000, age=DAY)
    links = [record("r0", text=noise), *(record(f"r{n}", f"r{n - 1}", text=noise[n:]) for n in range(1, 9))]
    for each in links:
        await save(store, clock, each, limits=small)
        total = await store.read(
            lambda connection: connection.exec_driver_sql(
                "SELECT coalesce(sum(size),0) FROM responses"
            ).scalar_one()
        )
        assert total <= small.bytes
    await save(store, clock, record("last", text="short"), limits=small)
    assert await chain(store, "last") == ["last"]


async def test_age_counts_from_the_last_use(store: Store, clock: Clock) -> None:
    await save(store, clock, record("used"), record("unused"))
    clock.now += DAY - 10
    await save(store, clock, record("r2", "used"))
    clock.now += 20
    assert await chain(store, "unused") == []  # not even before anything is dropped
    assert await chain(store, "used") == ["used"]
    await store.prune_responses(ROOMY)
    assert await store.responses(["unused"]) == {}


async def test_a_count_of_zero_drops_everything(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"), record("r2", "r1"))
    await store.prune_responses(Limits(count=0, bytes=10**8, age=DAY))
    assert await store.responses(["r1", "r2"]) == {}


async def test_one_response_is_read_without_what_it_continues(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"), record("r2", "r1"))
    found = await store.response("r2", ALICE, DAY)
    assert found is not None
    assert replace(found, size=0) == record("r2", "r1")
    assert await store.response("r2", BOB, DAY) is None
    assert await store.response("r3", ALICE, DAY) is None
    clock.now += DAY + 1
    assert await store.response("r2", ALICE, DAY) is None


async def test_a_response_whose_parent_is_gone_is_not_saved_as_its_child(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"))
    await store.delete_response("r1", ALICE)
    with pytest.raises(ParentGone):
        await store.save_response(record("r2", "r1"), ROOMY)
    assert await store.responses(["r2"]) == {}


async def test_a_chain_does_not_pass_through_another_client(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1", client=BOB), record("r2", "r1"))
    assert await chain(store, "r2") == []


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_nothing_readable_lies_on_the_disk(tmp_path: Path) -> None:
    words = "the secret plans of the client"
    async with await Store.open(tmp_path, keyring=False) as store:
        await store.save_response(record("r1", text=words), ROOMY)
        found = on_disk(tmp_path)
    assert b"r1" in found
    assert b"secret plans" not in found
    assert b"assistant" not in found


async def test_content_of_another_key_is_an_error_not_a_crash(store: Store, clock: Clock) -> None:
    await save(store, clock, record("r1"))
    await store.write(lambda connection: connection.exec_driver_sql("UPDATE responses SET content = x'00'"))
    with pytest.raises(KeyUnavailable):
        await store.responses(["r1"])


async def test_a_store_of_the_version_before_gets_the_tables(tmp_path: Path) -> None:
    async with await Store.open(tmp_path, keyring=False) as store:
        for statement in (
            "DROP TABLE response_items",
            "DROP TABLE responses",
            "UPDATE meta SET value='2' WHERE key='schema_version'",
        ):
            await store.write(lambda connection, statement=statement: connection.exec_driver_sql(statement))
    async with await Store.open(tmp_path, keyring=False) as store:
        await store.save_response(record("r1"), ROOMY)
        assert await chain(store, "r1") == ["r1"]


async def test_every_question_is_answered_from_an_index(store: Store) -> None:
    """Contents are large: a question about times or links must not read through them."""
    questions: list[tuple[str, tuple[Any, ...]]] = [
        ("SELECT sum(size) FROM responses", ()),
        ("SELECT id, size FROM responses WHERE NOT gone ORDER BY used_at", ()),
        ("SELECT id, parent FROM responses WHERE NOT gone", ()),
    ]
    for question, values in questions:
        asked = (f"EXPLAIN QUERY PLAN {question}", values)
        plan = await store.read(lambda connection, asked=asked: connection.exec_driver_sql(*asked).all())
        assert "COVERING INDEX" in str(plan), (question, plan)
