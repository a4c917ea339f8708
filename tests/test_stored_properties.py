"""Whatever the conversation: a past that is named makes the bytes of one that is sent, and begins as before."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol import codex_request
from addon.protocol.identity import Turn
from addon.protocol.search_replay import replay_key
from addon.stored import Past, history

Item = dict[str, Any]
OPTIONS = codex_request.Options()
BODY: Item = {"model": "gpt-5.5", "tools": [{"type": "function", "name": "n" * 80}]}

texts = st.text(min_size=1, max_size=8)
words = st.one_of(
    st.builds(lambda text: {"role": "user", "content": text}, texts),
    st.builds(
        lambda text: {"role": "system", "content": [{"type": "input_text", "text": text}], "id": "msg_x"},
        texts,
    ),
)
turns = st.lists(
    st.tuples(st.lists(words, min_size=1, max_size=2), st.booleans(), st.booleans(), texts),
    min_size=1,
    max_size=5,
)


def answer(number: int, calls: bool, text: str) -> list[Item]:
    thought = {"id": f"rs_{number}", "type": "reasoning", "summary": [], "encrypted_content": f"c{number}"}
    if calls:
        called = {"type": "function_call", "call_id": f"call_{number}", "name": "n" * 80, "arguments": "{}"}
        return [thought, {"id": f"fc_{number}", "status": "completed", **called}]
    part = {"type": "output_text", "text": f"{number} {text}", "annotations": []}
    said = {"type": "message", "status": "completed", "role": "assistant", "content": [part]}
    return [thought, {"id": f"msg_{number}", **said}]


def stored(record: Any) -> Any:
    """As it is after a restart: through JSON."""
    return orjson.loads(orjson.dumps(record))


@given(turns)
def test_every_turn_of_a_conversation_is_the_same_named_and_sent(conversation: list[Any]) -> None:
    records: list[Any] = []
    sent: list[Item] = []
    hidden: dict[str, list[Item]] = {}
    before: list[Item] = []
    outputs: list[Item] = []
    for number, (said, calls, searched, text) in enumerate(conversation):
        own = [*outputs, *said]
        past = Past(items=own, history=history(records) or None)
        named = codex_request.shape(
            {**BODY, "input": own}, OPTIONS, history=past.history, hidden=lambda key: hidden.get(key, [])
        )
        sent += own
        whole = codex_request.shape({**BODY, "input": sent}, OPTIONS, hidden=lambda key: hidden.get(key, []))
        turn = Turn("t", "u", 0, "i")
        assert codex_request.encode(named, turn) == codex_request.encode(whole, turn)
        items = named.body["input"]
        assert items[: len(before)] == before
        before = items

        made = answer(number, calls, text)
        if searched and (key := replay_key(made[-1])):
            hidden[key] = [{"id": f"ws_{number}", "type": "web_search_call", "action": {"type": "search"}}]
        response = {"id": f"resp_{number}", "created_at": 1, "output": made}
        records.append(past.record(stored(response), client="c", session="s"))
        sent += made
        outputs = (
            [{"type": "function_call_output", "call_id": f"call_{number}", "output": text}] if calls else []
        )
