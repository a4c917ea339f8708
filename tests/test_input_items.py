"""The rules for input items, one by one, and the pairing of calls and outputs."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol.errors import Failure, Refused
from addon.protocol.input_items import as_items, shape_items
from addon.protocol.pairing import NO_RESULT
from addon.protocol.tool_names import ToolNames, legal_name

Item = dict[str, Any]

USER: Item = {"type": "message", "role": "user", "content": "hi"}
ANSWER: Item = {"type": "message", "role": "assistant", "content": "yes"}
CALL: Item = {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"}
OUTPUT: Item = {"type": "function_call_output", "call_id": "c1", "output": "text"}
REASONING: Item = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}


def shaped(*items: Any, **more: Any) -> list[Item]:
    return shape_items(list(items), ToolNames(), **more)


def refusal(*items: Any) -> Failure:
    with pytest.raises(Refused) as refused:
        shaped(*items)
    assert refused.value.failure.status == 400
    return refused.value.failure


def parts(*content: Item, role: str = "user") -> Any:
    return shaped({"type": "message", "role": role, "content": list(content)})[0]["content"]


# --- the list itself


def test_a_string_is_one_user_message() -> None:
    assert as_items("hi") == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    ]


@pytest.mark.parametrize("value", [7, {"role": "user"}, True])
def test_other_input_is_refused(value: object) -> None:
    with pytest.raises(Refused) as refused:
        as_items(value)
    assert refused.value.failure.param == "input"


@pytest.mark.parametrize(
    ("item", "param"), [("x", "input[1]"), ({}, "input[1].type"), ({"type": 3}, "input[1].type")]
)
def test_an_item_without_a_kind_is_refused_by_place(item: object, param: str) -> None:
    assert refusal(USER, item).param == param


# --- messages


@pytest.mark.parametrize("bare", [{}, {"type": None}])
def test_a_bare_message_gets_its_type_in_front(bare: Item) -> None:
    assert list(shaped({"role": "user", "content": "hi"} | bare)[0].items()) == list(USER.items())


def test_a_message_that_needs_nothing_is_the_same_object() -> None:
    assert shaped(USER)[0] is USER


@pytest.mark.parametrize(
    ("role", "sent"), [("system", "developer"), ("developer", "developer"), ("user", "user")]
)
def test_roles(role: str, sent: str) -> None:
    assert shaped({"role": role, "content": "x"})[0]["role"] == sent


@pytest.mark.parametrize("role", ["critic", None, 3])
def test_an_unknown_role_is_refused(role: object) -> None:
    assert refusal({"type": "message", "role": role, "content": "x"}).param == "input[0].role"


def test_members_of_chat_and_of_the_client_itself_go() -> None:
    item = ANSWER | {
        "id": "msg_1",
        "status": "completed",
        "name": "bot",
        "reasoning_content": "hm",
        "cache_control": {"type": "ephemeral"},
        "tool_calls": None,
        "internal_chat_message_metadata_passthrough": {"turn_id": "t"},
    }
    assert shaped(item) == [ANSWER]


def test_the_phase_of_an_answer_stays() -> None:
    assert shaped(ANSWER | {"phase": "commentary"}) == [ANSWER | {"phase": "commentary"}]


@pytest.mark.parametrize(
    "content",
    ["", None, [], [{"type": "output_text", "text": ""}], [{"type": "text", "text": ""}]],
)
def test_an_empty_answer_is_left_out(content: object) -> None:
    assert shaped(USER, {"role": "assistant", "content": content}, USER) == [USER, USER]


def test_a_refusal_alone_is_an_answer() -> None:
    assert parts({"type": "refusal", "refusal": "no"}, role="assistant") == [
        {"type": "refusal", "refusal": "no"}
    ]


@pytest.mark.parametrize("kind", ["text", "input_text", "output_text"])
def test_an_answers_text_is_output(kind: str) -> None:
    assert parts({"type": kind, "text": "a"}, role="assistant") == [{"type": "output_text", "text": "a"}]


@pytest.mark.parametrize("kind", ["text", "input_text", "output_text"])
@pytest.mark.parametrize("role", ["user", "system", "developer"])
def test_other_text_is_input(kind: str, role: str) -> None:
    assert parts({"type": kind, "text": "a"}, role=role) == [{"type": "input_text", "text": "a"}]


def test_cache_marks_and_nulls_go_at_every_depth() -> None:
    marked = {
        "type": "input_text",
        "text": "a",
        "cache_control": {"type": "ephemeral"},
        "prompt_cache_breakpoint": True,
        "inner": [{"cache_control": 1, "kept": {"x": None, "y": 0}}],
    }
    assert parts(marked) == [{"type": "input_text", "text": "a", "inner": [{"kept": {"y": 0}}]}]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"image_url": "data:x"}, {"image_url": "data:x"}),
        ({"image_url": "data:x", "detail": "low", "file_id": None}, {"image_url": "data:x", "detail": "low"}),
        (
            {"image_url": {"url": "https://e.x/i.png", "detail": "high"}},
            {"image_url": "https://e.x/i.png", "detail": "high"},
        ),
        ({"type": "image_url", "image_url": {"url": "data:x"}}, {"image_url": "data:x"}),
    ],
)
def test_images(given: Item, sent: Item) -> None:
    assert parts({"type": "input_image"} | given) == [{"type": "input_image"} | sent]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (
            {"type": "input_file", "file_data": "data:x", "filename": "a"},
            {"file_data": "data:x", "filename": "a"},
        ),
        ({"type": "input_file", "file_url": "https://e.x/a"}, {"file_url": "https://e.x/a"}),
        ({"type": "file", "file": {"file_data": "data:x"}}, {"file_data": "data:x"}),
    ],
)
def test_files(given: Item, sent: Item) -> None:
    assert parts(given) == [{"type": "input_file"} | sent]


@pytest.mark.parametrize(
    "part",
    [{"type": "input_image", "file_id": "file-1"}, {"type": "input_file", "file_id": "file-1"}],
)
def test_file_ids_of_another_account_are_refused(part: Item) -> None:
    failure = refusal(USER, {"role": "user", "content": [{"type": "input_text", "text": "a"}, part]})
    assert (failure.code, failure.param) == ("unsupported_file_id", "input[1].content[1].file_id")


def test_audio_is_refused() -> None:
    failure = refusal({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]})
    assert (failure.code, failure.param) == ("unsupported_content_type", "input[0].content[0]")


# --- calls and outputs


def test_a_call_loses_id_status_and_the_sdks_nulls() -> None:
    dumped = CALL | {"id": "fc_1", "status": "completed", "async_": None, "caller": None, "namespace": None}
    assert shaped(dumped, OUTPUT) == [CALL, OUTPUT]


def test_what_a_parsing_helper_added_is_left_out() -> None:
    assert shaped(CALL | {"parsed_arguments": {"a": 1}}, OUTPUT) == [CALL, OUTPUT]
    part = {"type": "output_text", "text": "{}"}
    parsed = {"type": "message", "role": "assistant", "content": [part | {"parsed": {}}]}
    assert shaped(parsed) == [parsed | {"content": [part]}]


def test_a_namespace_that_is_set_stays() -> None:
    assert shaped(CALL | {"namespace": "n"}, OUTPUT)[0]["namespace"] == "n"


@pytest.mark.parametrize(
    ("arguments", "sent"), [('{"a": 1}', '{"a": 1}'), ({"a": 1}, '{"a":1}'), (None, "{}"), ("", "")]
)
def test_arguments_are_text(arguments: object, sent: str) -> None:
    assert shaped(CALL | {"arguments": arguments})[0]["arguments"] == sent


@pytest.mark.parametrize(
    ("output", "sent"),
    [
        ("a", "a"),
        (None, ""),
        ({"ok": True}, '{"ok":true}'),
        (3, "3"),
        ([{"type": "output_text", "text": "a", "annotations": []}], [{"type": "input_text", "text": "a"}]),
        ([{"type": "input_image", "image_url": "data:x"}], [{"type": "input_image", "image_url": "data:x"}]),
        (
            [{"type": "encrypted_content", "encrypted_content": "g"}],
            [{"type": "encrypted_content", "encrypted_content": "g"}],
        ),
    ],
)
def test_outputs_are_text_or_input_parts(output: object, sent: object) -> None:
    assert shaped(CALL, OUTPUT | {"output": output})[1]["output"] == sent


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "function_call", "name": "f", "arguments": ""}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c", "arguments": ""}, "input[0].name"),
        ({"type": "function_call_output", "output": ""}, "input[0].call_id"),
        ({"type": "custom_tool_call", "name": "f", "input": "", "call_id": None}, "input[0].call_id"),
    ],
)
def test_calls_and_outputs_need_their_names(item: Item, param: str) -> None:
    failure = refusal(item)
    assert (failure.code, failure.param) == ("missing_required_parameter", param)


def test_a_call_in_the_history_goes_by_the_legal_name() -> None:
    names = ToolNames()
    sent = shape_items([CALL | {"name": "my.tool"}, OUTPUT], names)
    assert sent[0]["name"] == legal_name("my.tool")
    assert names.restore == {sent[0]["name"]: "my.tool"}


def test_a_custom_call_loses_its_id_only() -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "x", "status": "completed"}
    output = {"type": "custom_tool_call_output", "call_id": "c", "output": "done"}
    assert shaped(call | {"id": "ctc_1"}, output | {"id": "ctco_1"}) == [call, output]


def test_chat_messages_inside_the_input_become_calls_and_outputs() -> None:
    asks = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}],
    }
    assert shaped(asks, {"role": "tool", "tool_call_id": "c1", "content": "text"}) == [CALL, OUTPUT]


def test_a_call_said_in_both_forms_is_sent_once() -> None:
    asks = ANSWER | {"tool_calls": [{"id": "c1", "function": {"name": "read", "arguments": "{}"}}]}
    assert shaped(CALL, asks, OUTPUT) == [CALL, ANSWER, OUTPUT]


def test_an_output_is_of_the_kind_of_its_call() -> None:
    call = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "x"}
    assert shaped(call, OUTPUT)[1] == OUTPUT | {"type": "custom_tool_call_output"}
    assert (
        shaped(call, {"role": "tool", "tool_call_id": "c1", "content": "text"})[1] == shaped(call, OUTPUT)[1]
    )


# --- pairing


def test_pairs_stay_as_they_are() -> None:
    second = CALL | {"call_id": "c2"}
    history = [USER, CALL, second, ANSWER, OUTPUT, OUTPUT | {"call_id": "c2"}, USER]
    assert shaped(*history) == history


def test_an_output_without_its_call_is_quoted_as_the_users() -> None:
    quoted = shaped(USER, OUTPUT | {"name": "read"}, USER)[1]
    assert (quoted["type"], quoted["role"]) == ("message", "user")
    heading, text = quoted["content"]
    assert "read" in heading["text"]
    assert "c1" in heading["text"]
    assert text == {"type": "input_text", "text": "text"}


def test_an_output_before_its_call_is_an_orphan_and_the_call_unanswered() -> None:
    sent = shaped(OUTPUT, CALL, USER)
    assert [item["type"] for item in sent] == ["message", "function_call", "function_call_output", "message"]
    assert sent[2]["output"] == NO_RESULT


def test_a_quoted_output_keeps_its_image() -> None:
    image = {"type": "input_image", "image_url": "data:x"}
    assert shaped(OUTPUT | {"output": [image]})[0]["content"][1] == image


def test_an_unanswered_call_in_the_middle_gets_an_empty_answer() -> None:
    assert shaped(CALL, USER) == [CALL, OUTPUT | {"output": NO_RESULT}, USER]


def test_an_unanswered_custom_call_gets_an_answer_of_its_kind() -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": ""}
    assert shaped(call, USER)[1]["type"] == "custom_tool_call_output"


def test_the_empty_answer_comes_after_all_calls_of_the_round() -> None:
    second = CALL | {"call_id": "c2"}
    assert shaped(CALL, REASONING, second, OUTPUT | {"call_id": "c2"}) == [
        CALL,
        REASONING,
        second,
        OUTPUT | {"output": NO_RESULT},
        OUTPUT | {"call_id": "c2"},
    ]


def test_the_empty_answer_does_not_come_between_a_thought_and_what_it_led_to() -> None:
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "g1"}
    search = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
    assert shaped(CALL, thought, search) == [CALL, OUTPUT | {"output": NO_RESULT}, thought, search]


def test_an_unanswered_call_at_the_end_is_left_to_the_backend() -> None:
    assert shaped(USER, CALL) == [USER, CALL]


def test_a_local_shell_call_may_be_answered_by_a_function_output() -> None:
    shell = {"type": "local_shell_call", "call_id": "c1", "action": {}, "status": "completed"}
    assert shaped(shell, OUTPUT) == [shell, OUTPUT]


# --- reasoning


def test_reasoning_keeps_its_ciphertext_and_loses_its_id() -> None:
    dumped = {"type": "reasoning", "id": "rs_1", "encrypted_content": "g", "content": None, "status": None}
    assert shaped(dumped, ANSWER)[0] == {"type": "reasoning", "encrypted_content": "g", "summary": []}


@pytest.mark.parametrize("nothing", [{}, {"encrypted_content": None}, {"encrypted_content": ""}])
def test_reasoning_without_ciphertext_is_left_out(nothing: Item) -> None:
    assert shaped({"type": "reasoning", "id": "rs_1", "summary": []} | nothing, ANSWER) == [ANSWER]


def test_reasoning_that_led_to_something_stays() -> None:
    history = [USER, REASONING, REASONING, CALL, OUTPUT, REASONING, ANSWER]
    assert shaped(*history) == history


@pytest.mark.parametrize(
    ("history", "sent"),
    [
        ([USER, REASONING], [USER]),
        ([USER, REASONING, REASONING], [USER]),
        ([USER, REASONING, USER], [USER, USER]),
        ([REASONING, {"role": "assistant", "content": ""}, USER], [USER]),
        ([CALL, REASONING, OUTPUT], [CALL, OUTPUT]),
    ],
)
def test_stranded_reasoning_is_left_out(history: list[Item], sent: list[Item]) -> None:
    assert shaped(*history) == sent


# --- references


@pytest.mark.parametrize("reference", [{"type": "item_reference"}, {"type": None}, {}])
def test_a_reference_is_replaced_by_the_stored_item(reference: Item) -> None:
    stored = {"msg_1": ANSWER | {"id": "msg_1", "status": "completed"}}
    assert shaped(reference | {"id": "msg_1"}, resolve=stored.get) == [ANSWER]


@pytest.mark.parametrize("name", ["rs_1", "ws_1"])
def test_unknown_references_to_reasoning_and_searches_are_left_out(name: str) -> None:
    assert shaped(USER, {"type": "item_reference", "id": name}, resolve={}.get) == [USER]


@pytest.mark.parametrize("name", ["msg_1", "fc_1", None])
def test_another_unknown_reference_is_refused(name: object) -> None:
    assert refusal({"type": "item_reference", "id": name}).code == "item_not_found"


# --- everything else


@pytest.mark.parametrize("kind", ["web_search_call", "compaction", "mcp_call", "agent_message", "brand_new"])
def test_items_without_a_rule_pass_without_their_id(kind: str) -> None:
    item = {"type": kind, "status": "completed", "action": {"type": "search", "cache_control": 1}}
    assert shaped(item | {"id": "x_1", "caller": None}) == [item]


def test_an_approval_request_keeps_the_id_its_answer_names() -> None:
    request = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "n"}
    assert shaped(request) == [request]


def test_a_native_clients_items_pass_without_ids() -> None:
    private = {"internal_chat_message_metadata_passthrough": {"turn_id": "t"}}
    tools = {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": []}
    history = [USER | private, CALL | private, USER, REASONING | private, USER]
    assert shaped(tools, *(item | {"id": "x_1"} for item in history), native=True) == [tools, *history]
