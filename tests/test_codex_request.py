"""A Responses body on its way to the Codex backend: members, bytes, headers, and the resend after a refusal."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol.asked import Shaped
from addon.protocol.codex_request import Options, encode, shape
from addon.protocol.errors import Failure, Refused
from addon.protocol.identity import Identity, Turn, request_headers
from addon.protocol.resend import (
    ciphertexts,
    compactions,
    fold_developer,
    with_item_ids,
    without,
    without_ciphertexts,
)
from addon.protocol.search_replay import replay_key

Body = dict[str, Any]

MINIMAL: Body = {"model": "gpt-5.5", "input": "hi"}
USER: Body = {"type": "message", "role": "user", "content": "hi"}
READ: Body = {"type": "function", "name": "read"}
TURN = Turn("T", "U", 1781729038000, "I")
IDENTITY = Identity("openai-auth-proxy", "openai-auth-proxy/1 (Linux)", "0.169.0", "remote_compaction_v2")
OPTIONS = Options()

ALLOWED = {
    "model",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "include",
    "store",
    "stream",
    "service_tier",
}


def shaped(options: Options = OPTIONS, /, **members: Any) -> Shaped:
    return shape(MINIMAL | members, options)


def sent(**members: Any) -> Body:
    return shaped(**members).body


def refusal(**members: Any) -> Failure:
    with pytest.raises(Refused) as refused:
        shaped(**members)
    assert refused.value.failure.status == 400
    return refused.value.failure


# --- members


def test_the_least_request() -> None:
    result = shaped()
    assert result.body == {
        "model": "gpt-5.5",
        "instructions": "You are a helpful assistant.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "parallel_tool_calls": True,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
    }
    assert result.dropped == ()
    assert not result.lite


@pytest.mark.parametrize(
    "member",
    [
        "temperature",
        "top_p",
        "max_output_tokens",
        "max_tokens",
        "max_completion_tokens",
        "max_tool_calls",
        "metadata",
        "user",
        "safety_identifier",
        "truncation",
        "top_logprobs",
        "stream_options",
        "prompt_cache_retention",
        "prompt_cache_options",
        "context_management",
        "generate",
        "stream_id",
        "messages",
        "functions",
        "response_format",
        "reasoning_effort",
        "verbosity",
        "seed",
        "stop",
        "a_member_of_next_year",
    ],
)
def test_a_member_that_is_not_allowed_is_removed_and_named(member: str) -> None:
    result = shaped(**{member: {"x": 1}})
    assert result.body == sent()
    assert result.dropped == (member,)


def test_members_that_ask_for_nothing_are_not_named() -> None:
    assert shaped(temperature=None, metadata={}, tools=[], tool_choice=None).dropped == ()


def test_members_that_the_proxy_honours_itself_are_not_named() -> None:
    result = shaped(
        store=True, stream=False, background=True, prompt_cache_key="k", client_metadata={"a": "b"}
    )
    assert result.dropped == ()
    assert set(result.body) <= ALLOWED


def test_a_name_that_could_break_a_header_is_made_harmless() -> None:
    assert shaped(**{"x\r\ny: z": 1, "ü" * 99: 1}).dropped == ("x??y??z", "?" * 64)


@pytest.mark.parametrize("wanted", [True, False, None])
def test_the_clients_wish_for_a_stream_is_remembered(wanted: bool | None) -> None:
    assert shaped(stream=wanted).asked.stream is (wanted is True)


def test_what_the_answer_echoes() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": None}}]
    echo = shaped(
        temperature=0.5, metadata={"a": "b"}, store=False, tools=tools, prompt_cache_key="k"
    ).asked.echo
    assert (echo["temperature"], echo["metadata"], echo["store"], echo["tools"]) == (
        0.5,
        {"a": "b"},
        False,
        tools,
    )
    assert (echo["prompt_cache_key"], echo["top_p"], echo["instructions"]) == ("k", None, None)
    assert shaped().asked.echo["store"] is True


def test_the_model_is_needed_and_never_judged() -> None:
    assert refusal(model=None).param == "model"
    assert refusal(model=5).code == "invalid_type"
    assert sent(model="a-model-of-tomorrow")["model"] == "a-model-of-tomorrow"


def test_input_is_needed() -> None:
    failure = refusal(input=None)
    assert (failure.code, failure.param) == ("missing_required_parameter", "input")


@pytest.mark.parametrize("absent", [None, ""])
def test_instructions_are_never_absent_or_empty(absent: str | None) -> None:
    assert sent(instructions=absent)["instructions"] == "You are a helpful assistant."
    assert shape(MINIMAL, Options(instructions="Neutral.")).body["instructions"] == "Neutral."
    assert sent(instructions="Mine")["instructions"] == "Mine"


def test_leading_system_messages_stay_in_the_input() -> None:
    body = sent(input=[{"role": "system", "content": "json please"}, USER])
    assert body["input"][0] == {"type": "message", "role": "developer", "content": "json please"}


@pytest.mark.parametrize(
    ("given_tier", "tier"),
    [
        ("priority", "priority"),
        ("fast", "priority"),
        ("ultrafast", "ultrafast"),
        ("auto", None),
        ("default", None),
        ("flex", None),
        ({}, None),
    ],
)
def test_service_tiers(given_tier: object, tier: str | None) -> None:
    assert sent(service_tier=given_tier).get("service_tier") == tier


def test_a_tier_that_is_refused_is_named() -> None:
    assert shaped(service_tier="flex").dropped == ("service_tier",)


@pytest.mark.parametrize(
    ("include", "tools", "kept"),
    [
        (["message.output_text.logprobs"], [], []),
        (["web_search_call.action.sources"], [], []),
        (["web_search_call.action.sources"], [READ], []),
        (
            ["web_search_call.action.sources"],
            [{"type": "web_search_preview"}],
            ["web_search_call.action.sources"],
        ),
        (["reasoning.encrypted_content"], [], []),
        ("nonsense", [], []),
    ],
)
def test_include(include: object, tools: list[Body], kept: list[str]) -> None:
    assert sent(include=include, tools=tools)["include"] == ["reasoning.encrypted_content", *kept]


@pytest.mark.parametrize(
    ("reasoning", "result"),
    [
        ({"effort": "high", "summary": None}, {"effort": "high"}),
        ({"generate_summary": "auto"}, {"summary": "auto"}),
        ({"generate_summary": "auto", "summary": "detailed"}, {"summary": "detailed"}),
        ({"context": "all_turns", "effort": "ultra"}, {"context": "all_turns", "effort": "max"}),
        ({"effort": None}, None),
        (None, None),
    ],
)
def test_reasoning(reasoning: object, result: object) -> None:
    assert sent(reasoning=reasoning).get("reasoning") == result


@pytest.mark.parametrize(
    ("effort", "levels", "result"),
    [
        ("minimal", ["low", "medium", "high"], "low"),
        ("minimal", ["minimal", "low"], "minimal"),
        ("none", ["none", "low"], "none"),
        ("none", ["low", "high"], "low"),
        ("xhigh", ["low", "medium", "high"], "high"),
        ("max", ["low", "high", "xhigh"], "xhigh"),
        ("ultra", ["low", "high", "max"], "max"),
        ("ultra", ["low", "high"], "high"),
        ("low", ["none", "medium", "high"], "medium"),
        ("high", [], "high"),
        ("brand_new", ["low"], "brand_new"),
    ],
)
def test_effort_is_clamped_to_the_models_levels(effort: str, levels: list[str], result: str) -> None:
    options = Options(efforts=lambda model: levels if model == "gpt-5.5" else [])
    assert shape(MINIMAL | {"reasoning": {"effort": effort}}, options).body["reasoning"]["effort"] == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ({"verbosity": "low", "format": None}, {"verbosity": "low"}),
        ({"format": {"type": "json_object"}}, {"format": {"type": "json_object"}}),
        (
            {"format": {"type": "json_schema", "schema": {}, "strict": None}},
            {"format": {"type": "json_schema", "schema": {}, "name": "response"}},
        ),
        (
            {"format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
            {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        ),
    ],
)
def test_text(text: object, result: object) -> None:
    assert sent(text=text)["text"] == result


@pytest.mark.parametrize("member", ["reasoning", "text", "instructions"])
def test_a_member_of_the_wrong_kind_is_refused(member: str) -> None:
    assert refusal(**{member: [1]}).param == member


@pytest.mark.parametrize(("value", "result"), [(None, True), (False, False), (True, True)])
def test_parallel_tool_calls(value: bool | None, result: bool) -> None:
    assert sent(parallel_tool_calls=value)["parallel_tool_calls"] is result


# --- tools


def test_tools_get_the_anchor_and_the_answer_knows() -> None:
    result = shaped(tools=[READ])
    assert [tool["type"] for tool in result.body["tools"]] == ["function", "web_search"]
    assert result.asked.anchored
    assert result.asked.echo["tools"] == [READ]


@pytest.mark.parametrize("tools", [None, []])
def test_without_tools_there_is_no_member_no_choice_and_no_anchor(tools: list[Body] | None) -> None:
    result = shaped(tools=tools, tool_choice="auto")
    assert not {"tools", "tool_choice"} & set(result.body)
    assert result.dropped == ("tool_choice",)
    assert not result.asked.anchored


def test_the_anchor_can_be_switched_off() -> None:
    assert len(shape(MINIMAL | {"tools": [READ]}, Options(web_search=False)).body["tools"]) == 1


def test_a_required_choice_gets_no_anchor() -> None:
    assert not shaped(tools=[READ], tool_choice="required").asked.anchored


def test_a_shortened_name_is_the_same_in_tool_choice_and_history() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "my.tool", "arguments": "{}"}
    result = shaped(
        tools=[READ | {"name": "my.tool"}],
        tool_choice={"type": "function", "name": "my.tool"},
        input=[USER, call],
    )
    short = result.body["tools"][0]["name"]
    assert result.body["tool_choice"]["name"] == result.body["input"][1]["name"] == short
    assert result.asked.tool_names == {short: "my.tool"}


# --- state on the other side


def test_an_unknown_previous_response_is_refused_in_openais_words() -> None:
    failure = refusal(previous_response_id="resp_1", input=None)
    assert (failure.message, failure.type, failure.param, failure.code) == (
        "Previous response with id 'resp_1' not found.",
        "invalid_request_error",
        "previous_response_id",
        "previous_response_not_found",
    )


def test_history_stands_before_the_input() -> None:
    history = [USER | {"id": "msg_1"}, {"type": "message", "role": "assistant", "content": "yes"}]
    body = {"model": "m", "input": "more", "previous_response_id": "resp_1"}
    result = shape(body, OPTIONS, history=history)
    assert result.body["input"][:2] == [USER, history[1]]
    assert result.body["input"][2]["content"][0]["text"] == "more"
    assert result.asked.echo["previous_response_id"] == "resp_1"
    assert shape({"model": "m"}, OPTIONS, history=history).body["input"] == [USER, history[1]]


@pytest.mark.parametrize(("member", "value"), [("conversation", "conv_1"), ("prompt", {"id": "pmpt_1"})])
def test_what_lives_at_openai_cannot_be_used(member: str, value: object) -> None:
    failure = refusal(**{member: value})
    assert (failure.code, failure.param) == ("unsupported_parameter", member)


def test_hidden_searches_return_to_their_place() -> None:
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "found"}]}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    remembered = {replay_key(answer): [search]}
    replayed = answer | {"id": "msg_1", "status": "completed"}
    body = MINIMAL | {"input": [USER, replayed, USER]}
    result = shape(body, OPTIONS, hidden=lambda key: remembered.get(key, []))
    assert result.body["input"] == [USER, {k: search[k] for k in search if k != "id"}, answer, USER]


# --- Chat Completions members by mistake


def test_messages_without_input_are_read_as_chat() -> None:
    body = {
        "model": "gpt-5.5",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "hi"}],
        "functions": [{"name": "read"}],
        "function_call": {"name": "read"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "reasoning_effort": "low",
        "verbosity": "high",
        "temperature": 1,
    }
    result = shape(body, OPTIONS)
    assert result.body["instructions"] == "Be brief"
    assert result.body["input"] == sent()["input"]
    assert result.body["tools"][0]["name"] == "read"
    assert result.body["tool_choice"] == {"type": "function", "name": "read"}
    assert result.body["text"] == {
        "verbosity": "high",
        "format": {"type": "json_schema", "name": "n", "schema": {}},
    }
    assert result.body["reasoning"] == {"effort": "low"}
    assert result.dropped == ("temperature",)


@pytest.mark.parametrize(
    "mode", [{"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}]
)
@pytest.mark.parametrize("said", ["hi", "hi, as JSON"])
def test_json_mode_keeps_the_word_in_the_input_of_messages(mode: Body, said: str) -> None:
    messages = [{"role": "system", "content": "Answer in JSON"}, {"role": "user", "content": said}]
    result = shape({"model": "gpt-5.5", "messages": messages, **mode}, OPTIONS)
    assert "json" in str(result.body["input"]).lower()
    assert result.body["text"]["format"] == {"type": "json_object"}


# --- Responses Lite and native clients

LITE: Body = {
    "model": "gpt-6-astra",
    "input": [
        {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": [{"type": "function"}]},
        USER,
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low", "context": "all_turns"},
}


@pytest.mark.parametrize("header", [True, False])
def test_a_lite_request_passes_as_it_came(header: bool) -> None:
    result = shape(LITE, OPTIONS, lite_header=header)
    assert result.lite
    assert result.body == LITE | {"store": False, "stream": True, "include": ["reasoning.encrypted_content"]}
    assert not result.asked.anchored


def test_what_lite_insists_on_is_added() -> None:
    body = shape(MINIMAL, OPTIONS, lite_header=True).body
    assert (body["parallel_tool_calls"], body["reasoning"]) == (False, {"context": "all_turns"})
    assert "instructions" not in body


PRIVATE: Body = USER | {"internal_chat_message_metadata_passthrough": {"turn_id": "t"}}


def test_private_members_pass_for_the_official_client_only() -> None:
    native = {"x-codex-installation-id": "their-own"}
    assert sent(input=[PRIVATE], client_metadata=native)["input"] == [PRIVATE]
    assert sent(input=[PRIVATE], client_metadata={"a": "b"})["input"] == [USER]


# --- bytes


def test_the_members_have_the_official_order() -> None:
    members = {
        "service_tier": "priority",
        "text": {"verbosity": "low"},
        "tools": [READ],
        "tool_choice": "auto",
        "reasoning": {"effort": "low"},
        "client_metadata": {"mine": "1"},
    }
    assert list(json.loads(encode(shaped(**members), TURN))) == [
        "model",
        "instructions",
        "input",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "store",
        "stream",
        "include",
        "prompt_cache_key",
        "text",
        "client_metadata",
        "service_tier",
    ]


def test_the_worked_example_of_the_wire_format() -> None:
    parameters = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {}}
    body = {
        "model": "gpt-5.5",
        "stream": True,
        "store": False,
        "instructions": "Be brief",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "tools": [READ | {"parameters": parameters, "description": "d"}],
    }
    assert encode(shape(body, OPTIONS), TURN) == (
        b'{"model":"gpt-5.5","instructions":"Be brief",'
        b'"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}],'
        b'"tools":[{"type":"function","name":"read","description":"d","strict":false,'
        b'"parameters":{"type":"object","properties":{}}},'
        b'{"type":"web_search","external_web_access":false,"search_content_types":["text","image"]}],'
        b'"parallel_tool_calls":true,"store":false,"stream":true,"include":["reasoning.encrypted_content"],'
        b'"prompt_cache_key":"T",'
        b'"client_metadata":{"x-codex-installation-id":"I","x-codex-window-id":"T:0"}}'
    )


def test_client_metadata_keeps_what_does_not_name_the_clients_own_turn() -> None:
    theirs = {
        "x-codex-installation-id": "theirs",
        "x-codex-window-id": "theirs:0",
        "session_id": "theirs",
        "turn_id": "theirs",
        "x-codex-turn-metadata": "{}",
        "ws_request_header_traceparent": "t",
        "x-openai-subagent": "review",
        "number": 5,
    }
    body = json.loads(encode(shaped(client_metadata=theirs), TURN))
    assert body["client_metadata"] == {
        "x-codex-installation-id": "I",
        "x-codex-window-id": "T:0",
        "x-openai-subagent": "review",
    }


def test_a_body_nested_too_deeply_is_refused() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    content = [{"type": "input_text", "text": "a", "deep": deep}]
    for body in (
        MINIMAL | {"input": [{"role": "user", "content": content}]},
        MINIMAL | {"text": {"deep": deep}},
    ):
        with pytest.raises(Refused) as refused:
            encode(shape(body, OPTIONS), TURN)
        assert refused.value.failure.status == 400


def test_the_headers() -> None:
    assert request_headers(TURN, IDENTITY, lite=False) == {
        "originator": "openai-auth-proxy",
        "user-agent": "openai-auth-proxy/1 (Linux)",
        "version": "0.169.0",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "session-id": "T",
        "thread-id": "T",
        "x-client-request-id": "T",
        "x-codex-window-id": "T:0",
        "x-codex-beta-features": "remote_compaction_v2",
        "x-codex-turn-metadata": '{"session_id":"T","thread_id":"T","thread_source":"user","turn_id":"U",'
        '"sandbox":"seccomp","turn_started_at_unix_ms":1781729038000,"request_kind":"turn","window_id":"T:0"}',
    }


def test_a_compaction_is_told_from_a_turn() -> None:
    question = {"role": "user", "content": "hello"}
    for items, kind in ([question], "turn"), ([question, {"type": "compaction_trigger"}], "compaction"):
        assert shape(MINIMAL | {"input": items}, OPTIONS).kind == kind


def test_headers_that_come_with_an_occasion() -> None:
    more = request_headers(TURN, IDENTITY, lite=True, kind="compaction", turn_state="opaque")
    assert more["x-openai-internal-codex-responses-lite"] == "true"
    assert more["x-codex-turn-state"] == "opaque"
    assert '"request_kind":"compaction"' in more["x-codex-turn-metadata"]
    assert "x-codex-beta-features" not in request_headers(TURN, Identity("a", "a/1", "1"), lite=False)


# --- once more, after a refusal


def test_a_refused_member_is_cut_and_the_rest_keeps_its_order() -> None:
    body = b'{"model":"m","user":"u","reasoning":{"effort":"low","context":"x"},"input":[{"a":1,"b":2}]}'
    assert without(body, ["user"])[0] == body.replace(b'"user":"u",', b"")
    assert without(body, ["reasoning.context", "input[0].a"])[0] == (
        b'{"model":"m","user":"u","reasoning":{"effort":"low"},"input":[{"b":2}]}'
    )


@pytest.mark.parametrize(
    "name", ["nothing", "reasoning.x", "input[7].a", "input.x", "model", "input", "", "a.b.c"]
)
def test_a_member_that_is_not_there_or_indispensable_changes_nothing(name: str) -> None:
    body = b'{"model":"m","input":[{"a":1}],"reasoning":{}}'
    less, gone = without(body, [name])
    assert less is body
    assert gone == []


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CIPHERS: Body = {
    "input": [
        {"type": "reasoning", "summary": [], "encrypted_content": "g1"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "g2"},
        USER,
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "x", "encrypted_content": "g3"}, {"type": "y"}],
        },
    ]
}


def test_ciphertexts_are_known_by_digest() -> None:
    assert ciphertexts(CIPHERS) == [digest("g1"), digest("g2"), digest("g3")]


def test_foreign_ciphertexts_go_and_reasoning_that_is_worth_nothing_without() -> None:
    body = orjson.dumps(CIPHERS)
    left = orjson.loads(without_ciphertexts(body, None))["input"]
    assert left == [
        USER,
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "y"}]},
    ]
    assert orjson.loads(without_ciphertexts(body, {digest("g1")}))["input"] == CIPHERS["input"][1:]
    assert without_ciphertexts(body, set()) is body


def test_a_compacted_history_is_never_left_out() -> None:
    sealed = [
        {"type": kind, "encrypted_content": f"g {kind}"} for kind in ("compaction", "context_compaction")
    ]
    body = {"model": "m", "input": [USER, {"type": "reasoning", "encrypted_content": "g1"}, *sealed]}
    assert compactions(body) == [digest("g compaction"), digest("g context_compaction")]
    assert orjson.loads(without_ciphertexts(orjson.dumps(body), None))["input"] == [USER, *sealed]


def test_developer_messages_fold_into_the_instructions() -> None:
    image = {"type": "input_image", "image_url": "data:x"}
    items = [
        {"type": "additional_tools", "role": "developer", "tools": []},
        {"type": "message", "role": "developer", "content": "one"},
        USER,
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "two"}, image]},
    ]
    folded = orjson.loads(
        fold_developer(orjson.dumps({"model": "m", "instructions": "zero", "input": items, "store": False}))
    )
    assert folded == {
        "model": "m",
        "instructions": "zero\n\none\n\ntwo",
        "input": [items[0], USER, {"type": "message", "role": "user", "content": [image]}],
        "store": False,
    }


def test_nothing_to_fold_changes_nothing() -> None:
    body = orjson.dumps({"instructions": "x", "input": [USER]})
    assert fold_developer(body) is body


def test_items_of_a_type_that_needs_ids_get_the_same_ones_each_time() -> None:
    search: Body = {"type": "web_search_call", "action": {}}
    body = orjson.dumps({"input": [USER, search, search, {**search, "id": "ws_own"}]})
    first = with_item_ids(body, {"web_search_call"})
    items = orjson.loads(first)["input"]
    ids = [item["id"] for item in items[1:]]
    assert all(id.startswith("ws_") and len(id) <= 64 for id in ids)
    assert len(set(ids)) == 3
    assert ids[2] == "ws_own"
    assert items[0] == USER
    assert with_item_ids(body, {"web_search_call"}) == first
    assert with_item_ids(first, {"web_search_call"}) is first
    assert with_item_ids(body, {"reasoning"}) is body


def test_a_longer_history_keeps_the_ids_of_the_shorter_one() -> None:
    search: Body = {"type": "web_search_call", "action": {}}
    shorter, longer = (
        orjson.loads(with_item_ids(orjson.dumps({"input": items}), {"web_search_call"}))["input"]
        for items in ([search, USER], [search, USER, search])
    )
    assert longer[:2] == shorter


def test_a_position_stands_for_all_elements_of_that_ones_type() -> None:
    said: Body = {"type": "message", "content": [{"type": "input_text", "text": "a", "mark": 1}]}
    seen: Body = {"type": "message", "content": [{"type": "input_image", "mark": 1}]}
    call: Body = {"type": "function_call", "content": [{"type": "input_text", "mark": 1}]}
    body = orjson.dumps({"input": [said, seen, call, said]})
    less: Body = {"type": "message", "content": [{"type": "input_text", "text": "a"}]}
    assert orjson.loads(without(body, ["input[3].content[0].mark"])[0])["input"] == [less, seen, call, less]


# --- for all requests

words = st.text("ab j", max_size=6)
marks = st.fixed_dictionaries(
    {}, optional={"cache_control": st.just({"type": "ephemeral"}), "logprobs": st.none()}
)


def part(*kinds: str) -> st.SearchStrategy[Body]:
    return st.builds(
        lambda kind, text, more: {"type": kind, "text": text, **more}, st.sampled_from(kinds), words, marks
    )


content = st.one_of(words, st.lists(part("text", "input_text", "output_text"), max_size=3))
extras = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["msg_1", "rs_1"]),
        "status": st.sampled_from(["completed", None]),
        "caller": st.none(),
        "phase": st.just("commentary"),
        "name": words,
    },
)
messages = st.builds(
    lambda role, content, more, typed: {"role": role, "content": content, **more, **typed},
    st.sampled_from(["user", "assistant", "system", "developer"]),
    content,
    extras,
    st.sampled_from([{}, {"type": "message"}, {"type": None}]),
)
reasoning_items = st.builds(
    lambda text: {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": text},
    st.sampled_from(["", "g1", "g2"]),
)
searches = st.just(
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
)


def call(number: int, custom: bool, name: str) -> Body:
    common = {"call_id": f"c{number}", "name": name, "id": f"fc_{number}", "status": "completed"}
    if custom:
        return {"type": "custom_tool_call", "input": "x", **common}
    return {"type": "function_call", "arguments": "{}", "namespace": None, **common}


def output(number: int, custom: bool, value: object) -> Body:
    kind = "custom_tool_call_output" if custom else "function_call_output"
    return {"type": kind, "call_id": f"c{number}", "output": value, "id": "fco_1"}


calls = st.builds(call, st.integers(0, 3), st.booleans(), st.sampled_from(["read", "my.tool", "x" * 80]))
outputs = st.builds(
    output, st.integers(0, 3), st.booleans(), st.one_of(content, st.none(), st.just({"a": 1}))
)
histories = st.lists(st.one_of(messages, reasoning_items, searches, calls, outputs), max_size=12)
bodies = st.fixed_dictionaries(
    {"model": st.just("gpt-5.5"), "input": st.one_of(words, histories)},
    optional={
        "instructions": st.one_of(st.none(), words),
        "tools": st.lists(
            st.sampled_from(
                [
                    READ,
                    READ | {"name": "my.tool"},
                    {"type": "web_search_preview"},
                    {"type": "custom", "name": "c"},
                ]
            ),
            max_size=3,
        ),
        "tool_choice": st.sampled_from(
            ["auto", "required", {"type": "function", "function": {"name": "read"}}]
        ),
        "parallel_tool_calls": st.sampled_from([True, False, None]),
        "reasoning": st.sampled_from([None, {}, {"effort": "ultra", "generate_summary": "auto"}]),
        "text": st.sampled_from([None, {"format": {"type": "json_schema", "schema": {}}}]),
        "include": st.sampled_from([[], ["web_search_call.action.sources", "message.output_text.logprobs"]]),
        "service_tier": st.sampled_from(["fast", "flex"]),
        "store": st.booleans(),
        "stream": st.booleans(),
        "temperature": st.floats(0, 2),
        "messages": st.just([]),
        "unknown": st.just({"a": [1]}),
    },
)


def faults(body: Body) -> list[str]:
    """What the backend would refuse in a body, as far as anybody has seen it refuse."""
    found = [f"member {name}" for name in body if name not in ALLOWED]
    if body["store"] is not False or body["stream"] is not True or not body["instructions"]:
        found.append("store, stream or instructions")
    if "tool_choice" in body and "tools" not in body:
        found.append("choice without tools")
    names = [tool["name"] for tool in body.get("tools", []) if "name" in tool]
    known: set[str] = set()
    answered = {item["call_id"] for item in body["input"] if item["type"].endswith("_call_output")}
    end = len(body["input"])
    while end and body["input"][end - 1]["type"] in ("function_call", "custom_tool_call", "reasoning"):
        end -= 1
    for index, item in enumerate(body["input"]):
        kind = item["type"]
        if "id" in item or any(value is None for value in item.values()):
            found.append(f"id or null in {kind}")
        if kind == "message":
            if item["role"] not in ("user", "assistant", "developer") or set(item) - {
                "type",
                "role",
                "content",
                "phase",
            }:
                found.append(f"message {item}")
            allowed = (
                ("output_text", "refusal") if item["role"] == "assistant" else ("input_text", "input_image")
            )
            if isinstance(item["content"], list) and any(p["type"] not in allowed for p in item["content"]):
                found.append(f"parts {item}")
            if item["role"] == "assistant" and not item["content"]:
                found.append("empty answer")
        elif kind in ("function_call", "custom_tool_call"):
            known.add(item["call_id"])
            names.append(item["name"])
            if index < end and item["call_id"] not in answered:
                found.append(f"unanswered {item}")
        elif kind in ("function_call_output", "custom_tool_call_output"):
            if item["call_id"] not in known:
                found.append(f"orphan {item}")
            if isinstance(item["output"], list) and any(p["type"] != "input_text" for p in item["output"]):
                found.append(f"parts {item}")
        elif kind == "reasoning":
            after = next((i for i in body["input"][index:] if i["type"] != "reasoning"), None)
            if not item["encrypted_content"] or after is None or after.get("role") in ("user", "developer"):
                found.append("reasoning without use")
    text = orjson.dumps(body)
    if b"cache_control" in text or b'"logprobs":' in text:
        found.append("cache marks or nulls in parts")
    return found + [f"name {name}" for name in names if len(name) > 64 or "." in name]


@given(bodies)
def test_the_backend_has_nothing_to_refuse(body: Body) -> None:
    assert faults(shape(body, OPTIONS).body) == []


@given(bodies)
def test_the_clients_body_is_not_changed(body: Body) -> None:
    before = copy.deepcopy(body)
    encode(shape(body, OPTIONS), TURN)
    assert body == before


@given(bodies)
def test_the_same_history_is_the_same_bytes(body: Body) -> None:
    again = orjson.loads(orjson.dumps(body))
    assert encode(shape(body, OPTIONS), TURN) == encode(shape(again, OPTIONS), TURN)


@given(bodies)
def test_a_shaped_body_needs_no_more_shaping(body: Body) -> None:
    once = shape(body, OPTIONS)
    assert shape(once.body, OPTIONS).body == once.body


@st.composite
def conversations(draw: st.DrawFn) -> list[list[Body]]:
    """The inputs of a conversation's requests: each continues the one before it, calls answered in between."""
    items: list[Body] = []
    inputs = []
    number = 0
    for _ in range(draw(st.integers(1, 5))):
        items = [*items, draw(messages.filter(lambda m: m["role"] != "assistant"))]
        for _ in range(draw(st.integers(0, 3))):
            inputs.append(items)
            round_calls = [(number + i, draw(st.booleans())) for i in range(draw(st.integers(1, 3)))]
            number += len(round_calls)
            made = [call(n, custom, draw(st.sampled_from(["read", "my.tool"]))) for n, custom in round_calls]
            results = [
                output(n, custom, draw(content)) for n, custom in round_calls if draw(st.integers(0, 9))
            ]
            items = [*items, *draw(st.lists(reasoning_items, max_size=2)), *made, *results]
        inputs.append(items)
        items = [*items, *draw(st.lists(st.one_of(reasoning_items, searches, messages), max_size=3))]
    return inputs


@given(conversations())
def test_a_longer_history_begins_with_the_shorter_one(inputs: list[list[Body]]) -> None:
    sent_before: list[Body] = []
    for items in inputs:
        sent_now = sent(input=items)["input"]
        assert sent_now[: len(sent_before)] == sent_before
        sent_before = sent_now
