"""The legacy Completions API, request and answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from addon.protocol import completions
from addon.protocol.asked import Asked, Shaped
from addon.protocol.chat_request import ChatOptions
from addon.protocol.completions import CompletionObject, CompletionStream
from addon.protocol.errors import Refused, network
from tests.chat_answers import added, completed, created, done, ended, event, frames, message, text_delta
from tests.chat_bodies import OPTIONS, user


def completion(**members: Any) -> Shaped:
    return completions.shape({"model": "gpt", "prompt": "Once", **members}, OPTIONS)


def test_a_prompt_is_one_user_message() -> None:
    result = completion()
    assert result.body["input"] == [user("Once")]
    assert result.asked.api == "completions"
    assert result.asked.expose_reasoning is False
    assert completion(prompt=["Once"]).body["input"] == [user("Once")]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"n": 2}, "n"),
    ],
)
def test_what_a_chat_model_cannot_complete_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as caught:
        completion(**members)
    assert (caught.value.failure.status, caught.value.failure.param) == (400, param)


@pytest.mark.parametrize(
    "members",
    [{"suffix": None}, {"suffix": ""}, {"echo": False}, {"best_of": 1}, {"logprobs": None}, {"n": 1}],
)
def test_members_that_ask_for_nothing_are_fine(members: dict[str, Any]) -> None:
    assert completion(**members).dropped == ()


def test_completions_keep_stop_and_usage_and_name_what_they_drop() -> None:
    result = completion(stop="x", stream=True, stream_options={"include_usage": True}, max_tokens=3)
    assert (result.asked.stop, result.asked.stream, result.asked.include_usage) == (("x",), True, True)
    assert result.dropped == ("max_tokens",)


def test_several_prompts_can_be_asked_one_by_one() -> None:
    bodies = completions.bodies({"model": "gpt", "prompt": ["a", "b"], "user": "u"}, ChatOptions())
    assert [body["prompt"] for body in bodies] == ["a", "b"]
    assert all(body["user"] == "u" for body in bodies)


def test_prompts_and_choices_are_bounded_together() -> None:
    fanout = ChatOptions(n_policy="fanout")
    assert len(completions.bodies({"prompt": ["a"] * 64, "n": 2}, fanout)) == 64
    for several in ({"prompt": ["a"] * 65, "n": 2}, {"prompt": ["a"] * 129}):
        with pytest.raises(Refused) as caught:
            completions.bodies(several, fanout)
        assert (caught.value.failure.status, caught.value.failure.param) == (400, "prompt")


# Answers


def asked(**members: Any) -> Asked:
    return Asked("completions", True, "gpt-x", expose_reasoning=False, **members)


ANSWER = [
    created(),
    added(0, {"type": "reasoning", "id": "rs_1"}),
    event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="hm"),
    done(0, {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}),
    added(1, message()),
    text_delta("once ", index=1),
    text_delta("more", index=1),
    done(1, message("once more")),
    completed(),
]


def stream(events: list[dict[str, Any]], **members: Any) -> list[Any]:
    output = CompletionStream(asked(**members))
    return ended(b"".join(output.feed(frame) for frame in frames(events)) + output.finish())


def test_a_stream_of_text_completion_chunks_ends_with_done() -> None:
    *chunks, last = stream(ANSWER)
    assert last == "[DONE]"
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["once ", "more", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert chunks[0] == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1700000000,
        "model": "gpt-x",
        "choices": [{"text": "once ", "index": 0, "logprobs": None, "finish_reason": None}],
    }


def test_usage_comes_in_a_chunk_without_choices_if_asked_for() -> None:
    *chunks, usage, _ = stream(ANSWER, include_usage=True)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 15


def test_the_text_is_cut_at_a_stop_sequence() -> None:
    *chunks, _ = stream(ANSWER, stop=("mo",))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "once "
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_answer_that_breaks_off_ends_with_an_error_and_without_done() -> None:
    output = CompletionStream(asked())
    data = b"".join(output.feed(frame) for frame in frames(ANSWER[:6])) + output.fail(network("cut"))
    assert ended(data)[-1]["error"]["code"] == "upstream_cut"


def object_of(events: list[dict[str, Any]], **members: Any) -> Any:
    output = CompletionObject(asked(**members))
    for frame in frames(events):
        assert output.feed(frame) == b""
    return orjson.loads(output.finish())


def test_the_object() -> None:
    answer = object_of(ANSWER)
    assert answer["id"] == "cmpl-1"
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"text": "once more", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"]["prompt_tokens"] == 10


def test_a_refusal_is_text() -> None:
    events = [created(), done(0, message(refusal="No.")), completed()]
    assert object_of(events)["choices"][0]["text"] == "No."
    assert stream(events)[0]["choices"][0]["text"] == "No."


def test_an_incomplete_answer_ended_by_length() -> None:
    events = [
        *ANSWER[:-1],
        completed("response.incomplete", incomplete_details={"reason": "max_output_tokens"}),
    ]
    assert object_of(events)["choices"][0]["finish_reason"] == "length"
