"""Ciphertexts go to the account that made them, also when another process or another login made them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from accounts.pool import AccountPool
from accounts.routing import Policy, Request
from accounts.store import Store
from addon.background import Background
from addon.call import Opened, Unserved
from addon.provenance import Provenance
from tests.memory_store import EndlessTokens, MemoryStore
from tests.routing_world import HOUR, NOW, account, mark, roster
from tests.store_bench import login
from tests.test_dispatch_properties import NotingUpstream, dispatch
from tests.test_routing_properties import State

THOUGHT = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAthought"}
COMPACTION = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAAsealed"}
USER = {"type": "message", "role": "user", "content": "go on"}


def digest(item: dict[str, Any]) -> str:
    return hashlib.sha256(item["encrypted_content"].encode()).hexdigest()


def state(**marks: float) -> State:
    """Accounts a (main), b and c; marks in seconds from now."""
    limits = {name: mark(seconds) for name, seconds in marks.items()}
    return State(Policy(), roster(), {}, limits, {}, Request(session="s"))


# Who made what


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path, keyring=False) as opened:
        yield opened


async def test_what_another_process_writes_down_is_found_though_it_was_unknown_before(store: Store) -> None:
    a, b = account("a", 0), account("b", 1)
    ours, theirs = Provenance(store, Background()), Provenance(store, Background())
    theirs.remember([THOUGHT], a)
    assert await ours.foreign([digest(THOUGHT)], b) == []
    await theirs.close()
    assert await ours.foreign([digest(THOUGHT)], b) == [digest(THOUGHT)]
    assert await ours.foreign([digest(THOUGHT)], a) == []


async def test_an_account_that_logged_out_and_in_again_reads_its_own(store: Store) -> None:
    before, _ = await store.add(login("acc-1"))
    provenance = Provenance(store, Background())
    provenance.remember([THOUGHT], before)
    await store.remove("main")
    after, _ = await store.add(login("acc-1"))
    assert after.id != before.id
    assert await provenance.foreign([digest(THOUGHT)], after) == []


# Requests


async def test_only_the_thoughts_that_are_known_as_anothers_are_taken_out_after_a_refusal() -> None:
    """Between sending and the refusal the other process has written down whose they are."""

    class Late(dict[str, str]):
        asked = 0

        def __contains__(self, key: object) -> bool:
            self.asked += 1
            return self.asked > 2 and super().__contains__(key)

    other = THOUGHT | {"encrypted_content": "gAAAAother"}
    upstream = NotingUpstream({"a": "cannot read"})
    makers = Late({digest(THOUGHT): "chatgpt-a", digest(other): "chatgpt-b"})
    await dispatch(state(), upstream, history=[THOUGHT, other, USER], makers=makers)
    sent = [orjson.loads(body)["input"] for body in upstream.bodies]
    assert sent == [[THOUGHT, other, USER], [THOUGHT, USER], [USER]]


async def test_a_compacted_history_goes_to_the_account_that_made_it() -> None:
    upstream = NotingUpstream(dict.fromkeys("abc", "serves"))
    served = await dispatch(
        state(), upstream, history=[COMPACTION, USER], makers={digest(COMPACTION): "chatgpt-b"}
    )
    assert isinstance(served, Opened)
    assert upstream.asked == ["b"]


@pytest.mark.parametrize(("marks", "asked"), [({"b": HOUR, "a": 5}, []), ({}, ["b"])])
async def test_if_that_account_cannot_serve_the_client_is_told_whose_history_it_is_and_until_when(
    marks: dict[str, float], asked: list[str]
) -> None:
    current = state(**marks)
    pool = AccountPool(
        cast("Any", MemoryStore(current.accounts, {}, current.marks)),
        cast("Any", EndlessTokens()),
        Policy,
        lambda: NOW,
    )
    upstream = NotingUpstream({"a": "serves", "b": "limit", "c": "serves"})
    makers = {digest(COMPACTION): "chatgpt-b"}
    refused = await dispatch(current, upstream, pool, history=[COMPACTION, USER], makers=makers)
    assert isinstance(refused, Unserved)
    assert upstream.asked == asked
    failure = refused.failure
    assert (failure.status, failure.resets_at) == (429, pool.marks["b", "codex"].until)
    assert "a cannot read this conversation's compacted history, which b made" in failure.message


async def test_a_compacted_history_of_unknown_origin_is_offered_to_one_account_after_the_other() -> None:
    upstream = NotingUpstream({"a": "cannot read", "b": "cannot read", "c": "serves"})
    served = await dispatch(state(), upstream, history=[THOUGHT, COMPACTION, USER])
    assert isinstance(served, Opened)
    assert upstream.asked == ["a", "a", "b", "b", "c"]
    assert all(COMPACTION in orjson.loads(body)["input"] for body in upstream.bodies)


async def test_nobody_reads_it_and_the_client_learns_why() -> None:
    refused = await dispatch(
        state(), NotingUpstream(dict.fromkeys("abc", "cannot read")), history=[COMPACTION]
    )
    assert isinstance(refused, Unserved)
    assert (refused.failure.status, refused.failure.code) == (400, "invalid_encrypted_content")
