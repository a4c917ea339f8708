"""The past that a request names: from memory at once, from the store after a restart, and never somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import StoreUnavailable
from accounts.response_records import Limits, StoredResponse
from accounts.settings import Settings
from accounts.store import Store
from addon.background import Background
from addon.continuity import MAX_AGE, Continuity, hidden_searches
from addon.protocol import codex_request
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.identity import Turn
from addon.protocol.search_replay import replay_key
from addon.protocol.sse import Decoder, encode
from addon.stored import Past, Stored, history, reference

ALICE, BOB = "a" * 64, "b" * 64
SESSION = "5" * 64
Item = dict[str, Any]


def user(text: str) -> Item:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def answer(number: int) -> Item:
    thought = {"id": f"rs_{number}", "type": "reasoning", "summary": [], "encrypted_content": f"c{number}"}
    part = {"type": "output_text", "text": f"answer {number}", "annotations": []}
    said = {
        "id": f"msg_{number}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    return {"id": f"resp_{number}", "created_at": 1, "status": "completed", "output": [thought, said]}


class Half:
    """Some responses, kept by a `Stored` whose settings can be changed."""

    def __init__(self, store: Any) -> None:
        self.settings = Settings()
        self.background = Background()
        self.stored = Stored(store, self.background, lambda: self.settings)

    async def turn(self, number: int, body: Item, client: str = ALICE) -> Past:
        """One request and its answer."""
        past = await self.stored.past(body, client)
        record = past.record(answer(number), client=client, session=past.session or SESSION)
        self.stored.keep(record, past)
        return past


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path, keyring=False) as opened:
        yield opened


@pytest.fixture(params=["at once", "after a restart"])
async def conversation(request: pytest.FixtureRequest, store: Store) -> Half:
    """Two turns, the second by `previous_response_id`."""
    half = Half(store)
    await half.turn(1, {"input": "one"})
    await half.turn(2, {"input": [user("two")], "previous_response_id": "resp_1"})
    if request.param == "at once":
        return half
    await half.stored.close()
    return Half(store)


async def test_the_history_is_what_a_client_would_send_itself(conversation: Half) -> None:
    past = await conversation.stored.past({"input": "three", "previous_response_id": "resp_2"}, ALICE)
    assert past.history == [user("one"), *answer(1)["output"], user("two"), *answer(2)["output"]]
    assert past.items == [user("three")]
    assert (past.parent, past.session) == ("resp_2", SESSION)


async def test_naming_the_past_and_sending_it_make_the_same_bytes(conversation: Half) -> None:
    body = {"model": "gpt-5.5", "instructions": "Be brief.", "tools": [{"type": "function", "name": "f"}]}
    options = codex_request.Options()
    sent = [user("one"), *answer(1)["output"], user("two"), *answer(2)["output"], user("three")]
    whole = codex_request.shape({**body, "input": sent}, options)
    named = {**body, "input": "three", "previous_response_id": "resp_2"}
    references = {
        **body,
        "input": [
            user("one"),
            {"type": "item_reference", "id": "rs_1"},
            {"type": "item_reference", "id": "msg_1"},
            user("two"),
            {"type": "item_reference", "id": "rs_2"},
            {"id": "msg_2"},
            user("three"),
        ],
    }
    turn = Turn("t", "u", 0, "i")
    for short in (named, references):
        past = await conversation.stored.past(short, ALICE)
        shaped = codex_request.shape(short, options, history=past.history, resolve=past.references.get)
        assert codex_request.encode(shaped, turn) == codex_request.encode(whole, turn)


async def test_what_is_unknown_or_anothers_stays_unresolved(conversation: Half) -> None:
    body = {
        "input": [{"type": "item_reference", "id": "msg_1"}, {"type": "item_reference", "id": "msg_9"}],
        "previous_response_id": "resp_1",
    }
    mine = await conversation.stored.past(body, ALICE)
    assert mine.history is not None
    assert list(mine.references) == ["msg_1"]
    assert mine.items == [answer(1)["output"][1], body["input"][1]]
    foreign = await conversation.stored.past(body, BOB)
    assert (foreign.history, dict(foreign.references), foreign.session) == (None, {}, None)
    assert await conversation.stored.chain("resp_1", BOB) == []


async def test_a_deleted_response_is_gone_and_its_children_are_whole(conversation: Half) -> None:
    stored = conversation.stored
    assert not await stored.delete("resp_1", BOB)
    assert await stored.delete("resp_1", ALICE)
    assert await stored.chain("resp_1", ALICE) == []
    assert [record.id for record in await stored.chain("resp_2", ALICE)] == ["resp_1", "resp_2"]
    assert (await stored.past({"previous_response_id": "resp_1"}, ALICE)).history is None


async def test_a_parent_that_goes_while_its_child_is_made_leaves_the_child_whole(conversation: Half) -> None:
    stored = conversation.stored
    past = await stored.past({"input": "three", "previous_response_id": "resp_2"}, ALICE)
    whole = [*(past.history or ()), user("three"), *answer(3)["output"]]
    for gone in ("resp_1", "resp_2"):
        assert await stored.delete(gone, ALICE)
    stored.keep(past.record(answer(3), client=ALICE, session=SESSION), past)
    await conversation.turn(4, {"input": "four", "previous_response_id": "resp_3"})
    for look in (stored, Half(stored._records).stored):
        response = await look.response("resp_3", ALICE)
        assert response is not None
        assert response.response == answer(3)
        assert history(await look.chain("resp_3", ALICE)) == whole
        assert history(await look.chain("resp_4", ALICE)) == [*whole, user("four"), *answer(4)["output"]]
        await stored.close()


async def test_nothing_is_known_when_the_setting_is_off(conversation: Half) -> None:
    conversation.settings = Settings(store_responses=False)
    past = await conversation.stored.past({"input": "x", "previous_response_id": "resp_2"}, ALICE)
    assert past.history is None


async def test_turning_the_setting_off_drops_what_is_there(store: Store) -> None:
    half = Half(store)
    await half.turn(1, {"input": "one"})
    await half.stored.close()
    off = Half(store)
    off.settings = Settings(store_responses=False)
    await off.stored.prune()
    assert await store.responses(["resp_1"]) == {}


async def test_resolved_references_are_stored_with_the_request(store: Store) -> None:
    """What is deleted later must not be missing from a conversation that was made of it."""
    half = Half(store)
    await half.turn(1, {"input": "one"})
    lost = {"type": "item_reference", "id": "rs_unknown"}
    await half.turn(2, {"input": [{"type": "item_reference", "id": "msg_1"}, lost, user("two")]})
    await half.stored.delete("resp_1", ALICE)
    chain = await half.stored.chain("resp_2", ALICE)
    assert chain[0].input == [answer(1)["output"][1], user("two")]


class SlowRecords:
    """A store that writes nothing until it is told to, or fails."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.saved: list[str] = []
        self.error: Exception | None = None

    async def save_response(
        self, record: StoredResponse, limits: Limits, *, uses: Iterable[str] = ()
    ) -> StoredResponse:
        await self.open.wait()
        if self.error:
            raise self.error
        self.saved.append(record.id)
        return record

    async def response_chain(self, id: str, client: str, max_age: float) -> list[str]:
        return []

    async def response_ancestry(self, id: str) -> list[str]:
        return []

    async def responses_of_items(self, items: Iterable[str], client: str, max_age: float) -> dict[str, str]:
        return {}

    async def responses(self, ids: Iterable[str]) -> dict[str, StoredResponse]:
        return {}


async def test_what_is_not_written_yet_is_known_already() -> None:
    records = SlowRecords()
    half = Half(records)
    await half.turn(1, {"input": "one"})
    past = await half.turn(2, {"input": "two", "previous_response_id": "resp_1"})
    assert past.parent == "resp_1"
    by_item = await half.stored.past({"input": [{"type": "item_reference", "id": "msg_2"}]}, ALICE)
    assert list(by_item.references) == ["msg_2"]
    assert records.saved == []
    records.open.set()
    await half.background.finish()
    assert records.saved == ["resp_1", "resp_2"]


async def test_what_is_not_written_yet_is_whole_although_its_parent_is_gone() -> None:
    half = Half(SlowRecords())
    past = Past(items=[user("two")], parent="resp_1", history=[user("one")])
    half.stored.keep(past.record(answer(2), client=ALICE, session=SESSION), past)
    chain = await half.stored.chain("resp_2", ALICE)
    assert history(chain) == [user("one"), user("two"), *answer(2)["output"]]


@pytest.mark.parametrize("error", [StoreUnavailable("the disk is full"), TypeError("not JSON")])
async def test_a_store_that_fails_does_not_hold_up_what_comes_after(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    records = SlowRecords()
    records.error = error
    records.open.set()
    half = Half(records)
    await half.turn(1, {"input": "one"})
    await half.background.finish()
    records.error = None
    await half.turn(2, {"input": "two"})
    await half.background.finish()
    assert records.saved == ["resp_2"]
    assert "cannot be stored" in caplog.text
    assert "one" not in caplog.text


async def test_a_writer_that_was_cancelled_is_made_up_for_at_the_end() -> None:
    records = SlowRecords()
    half = Half(records)
    await half.turn(1, {"input": "one"})
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    records.open.set()
    await half.stored.close()
    assert records.saved == ["resp_1"]


@pytest.mark.parametrize(
    ("item", "id"),
    [
        ({"type": "item_reference", "id": "msg_1"}, "msg_1"),
        ({"id": "msg_1"}, "msg_1"),
        ({"id": "msg_1", "type": None}, "msg_1"),
        ({"id": "msg_1", "role": "user", "content": "x"}, None),
        ({"id": "msg_1", "type": "message", "role": "user"}, None),
        ({"type": "item_reference"}, None),
        ("text", None),
    ],
)
def test_which_items_are_references(item: Any, id: str | None) -> None:
    assert reference(item) == id


def test_a_history_is_inputs_and_outputs_in_turn() -> None:
    past = Past(items=[user("one")])
    chain = [past.record(answer(1), client=ALICE, session=SESSION)]
    assert history(chain) == [user("one"), *answer(1)["output"]]


# Continuity


def made(*items: Item, anchored: bool = True) -> ResponsesObject:
    """An answer with these output items."""
    tools = [{"type": "function", "name": "f"}]
    shaped = codex_request.shape(
        {"model": "gpt-5.5", "input": "x", "tools": tools}, codex_request.Options(web_search=anchored)
    )
    output, decoder = ResponsesObject(shaped.asked), Decoder()
    events: list[Item] = [
        {"type": "response.output_item.done", "output_index": index, "item": item}
        for index, item in enumerate(items)
    ]
    events.append({"type": "response.completed", "response": {"id": "r", "created_at": 1, "output": []}})
    for event in events:
        for frame in decoder.feed(encode(event)):
            output.feed(frame)
    return output


def thought(name: str) -> Item:
    return {"id": f"rs_{name}", "type": "reasoning", "summary": [], "encrypted_content": name}


def call(name: str) -> Item:
    return {"id": f"fc_{name}", "type": "function_call", "call_id": name, "name": "f", "arguments": "{}"}


SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}}


def test_thoughts_come_back_by_the_call_they_led_to_and_to_their_client_only() -> None:
    continuity = Continuity()
    continuity.remember("alice", "s", made(thought("t1"), call("c1")))
    found = continuity.thoughts("alice")("c1")
    assert found == [({"type": "reasoning", "summary": [], "encrypted_content": "t1"}, 0)]
    assert continuity.thoughts("bob")("c1") == []
    assert continuity.thoughts("alice")("c2") == []


def test_hidden_searches_come_back_by_the_item_after_them() -> None:
    continuity = Continuity()
    said = answer(1)["output"][1]
    output = made(SEARCH, said)
    continuity.remember("alice", "s", output)
    key = replay_key(said)
    assert key is not None
    assert hidden_searches(output) == {key: [SEARCH]}
    assert continuity.searches("s")(key) == [SEARCH]


def test_a_search_the_client_asked_for_is_not_hidden() -> None:
    assert hidden_searches(made(SEARCH, answer(1)["output"][1], anchored=False)) == {}


def test_memory_is_bounded_by_count_bytes_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("addon.continuity.MAX_COUNT", 2)
    continuity = Continuity(lambda: now[0])
    thoughts = continuity.thoughts("alice")
    for name in ("c1", "c2"):
        continuity.remember("alice", "s", made(thought(name), call(name)))
    assert thoughts("c1")  # used: c2 is now the longest unused
    continuity.remember("alice", "s", made(thought("c3"), call("c3")))
    assert [bool(thoughts(name)) for name in ("c1", "c2", "c3")] == [True, False, True]
    now[0] = MAX_AGE + 1
    assert thoughts("c1") == []
    monkeypatch.setattr("addon.continuity.MAX_BYTES", 300)
    continuity.remember("alice", "s", made(thought("x" * 200), call("c4")))
    continuity.remember("alice", "s", made(thought("y" * 200), call("c5")))
    assert [bool(thoughts(name)) for name in ("c4", "c5")] == [False, True]
