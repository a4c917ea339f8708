"""Members of a Chat Completions request, one row of the mapping each."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol import chat_request
from addon.protocol.chat_request import ChatOptions, responses_body
from addon.protocol.codex_request import Options
from tests.chat_bodies import FLAT, FUNCTION, chat, refusal_of, sent, shaped, user


def test_a_minimal_request_streams_upstream_whatever_the_client_wants() -> None:
    result = shaped()
    assert result.body["stream"] is True
    assert result.body["store"] is False
    assert result.body["input"] == [user("hi")]
    assert result.body["include"] == ["reasoning.encrypted_content"]
    assert result.asked.stream is False
    assert result.asked.api == "chat"
    assert result.asked.model == "gpt"
    assert result.dropped == ()


@pytest.mark.parametrize("stream", [True, False, None])
def test_stream_is_remembered(stream: bool | None) -> None:
    assert shaped(stream=stream).asked.stream is (stream is True)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), ({}, False), (None, False)],
)
def test_include_usage_is_remembered_and_not_sent(given: Any, wanted: bool) -> None:
    result = shaped(stream_options=given)
    assert result.asked.include_usage is wanted
    assert "stream_options" not in result.body
    assert result.dropped == ()


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ({"type": "function", "function": FUNCTION}, {**FLAT, "parameters": FUNCTION["parameters"]}),
        (
            {"type": "function", "function": {**FUNCTION, "strict": False}},
            {**FLAT, "parameters": FUNCTION["parameters"]},
        ),
        (
            {"type": "custom", "custom": {"name": "sql", "description": "d"}},
            {"type": "custom", "name": "sql", "description": "d"},
        ),
        (
            {
                "type": "custom",
                "custom": {
                    "name": "sql",
                    "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /x/"}},
                },
            },
            {
                "type": "custom",
                "name": "sql",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
            },
        ),
        ({"type": "web_search"}, {"type": "web_search"}),
    ],
)
def test_tools_are_flattened(tool: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(tools=[tool])["tools"] == [expected]


def test_strict_is_kept() -> None:
    parameters = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": parameters}}
    assert sent(tools=[tool])["tools"][0]["strict"] is True


def test_custom_tools_are_remembered_for_the_answer() -> None:
    tools = [{"type": "custom", "custom": {"name": "sql"}}, {"type": "function", "function": FUNCTION}]
    assert shaped(tools=tools).asked.custom_tools == {"sql"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "look"}}, {"type": "function", "name": "look"}),
        ({"type": "custom", "custom": {"name": "sql"}}, {"type": "custom", "name": "sql"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "look"}}],
                },
            },
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]},
        ),
    ],
)
def test_tool_choice_is_flattened(choice: Any, expected: Any) -> None:
    tools = [{"type": "function", "function": FUNCTION}, {"type": "custom", "custom": {"name": "sql"}}]
    assert sent(tools=tools, tool_choice=choice)["tool_choice"] == expected


def test_tool_choice_without_tools_is_left_out() -> None:
    assert "tool_choice" not in sent(tool_choice="auto")


@pytest.mark.parametrize(("given", "expected"), [(None, True), (True, True), (False, False)])
def test_parallel_tool_calls(given: bool | None, expected: bool) -> None:
    tools = [{"type": "function", "function": FUNCTION}]
    assert sent(tools=tools, parallel_tool_calls=given)["parallel_tool_calls"] is expected


@pytest.mark.parametrize(
    ("call", "choice"),
    [("auto", "auto"), ("none", "none"), ({"name": "look"}, {"type": "function", "name": "look"})],
)
def test_legacy_functions_become_tools(call: Any, choice: Any) -> None:
    result = shaped(functions=[FUNCTION], function_call=call)
    assert result.body["tools"] == [{**FLAT, "parameters": FUNCTION["parameters"]}]
    assert result.body["tool_choice"] == choice
    assert result.asked.legacy_functions is True


def test_a_legacy_client_gets_one_call_at_a_time() -> None:
    assert sent(functions=[FUNCTION])["parallel_tool_calls"] is False


def test_tools_win_over_functions() -> None:
    result = shaped(
        functions=[FUNCTION], function_call="none", tools=[{"type": "custom", "custom": {"name": "x"}}]
    )
    assert [tool["name"] for tool in result.body["tools"]] == ["x"]
    assert result.asked.legacy_functions is False
    assert "tool_choice" not in result.body


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, None),
        (None, None),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
            {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "object"}, "description": "d"}},
            {"type": "json_schema", "schema": {"type": "object"}, "description": "d", "name": "response"},
        ),
    ],
)
def test_response_format_becomes_text_format(given: Any, expected: Any) -> None:
    assert sent(response_format=given).get("text", {}).get("format") == expected


def test_an_unknown_response_format_is_refused() -> None:
    assert refusal_of(chat(response_format={"type": "xml"})) == (400, "response_format.type", "invalid_value")
    assert refusal_of(chat(response_format="json"))[1] == "response_format.type"


def test_verbosity() -> None:
    assert sent(verbosity="low")["text"] == {"verbosity": "low"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, {"summary": "auto"}),
        ({"reasoning_effort": "high"}, {"effort": "high", "summary": "auto"}),
        ({"reasoning_effort": "none"}, {"effort": "none"}),
        ({"reasoning": {"effort": "low"}}, {"effort": "low", "summary": "auto"}),
        ({"reasoning": {"effort": "low", "summary": "detailed"}}, {"effort": "low", "summary": "detailed"}),
        (
            {"reasoning_effort": {"effort": "low", "summary": "concise"}},
            {"effort": "low", "summary": "concise"},
        ),
        ({"reasoning_effort": "high", "include_reasoning": False}, {"effort": "high"}),
        ({"reasoning": {"effort": "high", "exclude": True}}, {"effort": "high"}),
    ],
)
def test_reasoning(members: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(**members)["reasoning"] == expected


@pytest.mark.parametrize(
    ("members", "setting", "exposed"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"include_reasoning": True}, False, True),
        ({"include_reasoning": False}, True, False),
        ({"reasoning": {"exclude": True}}, True, False),
    ],
)
def test_reasoning_is_shown_by_setting_and_by_wish(
    members: dict[str, Any], setting: bool, exposed: bool
) -> None:
    options = ChatOptions(expose_reasoning=setting)
    result = shaped(options=options, **members)
    assert result.asked.expose_reasoning is exposed
    assert ("summary" in result.body.get("reasoning", {})) is exposed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 5),
        ("max_completion_tokens", 5),
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("seed", 1),
        ("presence_penalty", 0),
        ("frequency_penalty", 0),
        ("logit_bias", {"1": 1}),
        ("user", "u"),
        ("metadata", {"a": "b"}),
        ("safety_identifier", "s"),
        ("store", True),
        ("prediction", {"type": "content", "content": "x"}),
        ("prompt_cache_retention", "24h"),
        ("prompt_cache_options", {}),
        ("moderation", {}),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("anything_else", 1),
        ("input", "stray"),
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("instructions", "stray"),
        ("prompt", {"id": "x"}),
    ],
)
def test_members_that_only_tune_are_dropped_and_named(name: str, value: Any) -> None:
    result = shaped(**{name: value})
    assert result.body == sent()
    assert result.dropped == (name,)


@pytest.mark.parametrize(
    ("name", "value"), [("store", False), ("logprobs", False), ("modalities", ["text"]), ("n", 1)]
)
def test_members_that_ask_for_nothing_are_not_named(name: str, value: Any) -> None:
    assert shaped(**{name: value}).dropped == ()


def test_members_for_the_session_key_survive_the_translation() -> None:
    body = chat(user="u", metadata={"session_id": "s"}, prompt_cache_key="k")
    translated = responses_body(body)
    assert (translated["user"], translated["metadata"], translated["prompt_cache_key"]) == (
        "u",
        {"session_id": "s"},
        "k",
    )


@pytest.mark.parametrize("name", ["logprobs", "top_logprobs"])
def test_logprobs_are_refused_when_parameters_are_strict(name: str) -> None:
    options = ChatOptions(strict_params=True)
    assert refusal_of(chat(**{name: 2}), options) == (400, name, "unsupported_parameter")


def test_several_choices_are_refused_by_default() -> None:
    assert refusal_of(chat(n=2)) == (400, "n", "unsupported_value")


def test_several_choices_are_kept_for_fan_out() -> None:
    result = shaped(n=3, options=ChatOptions(n_policy="fanout"))
    assert result.asked.n == 3
    assert "n" not in result.body


@pytest.mark.parametrize("n", [0, -1, 129, "2", 1.5, True])
def test_a_senseless_number_of_choices_is_refused(n: Any) -> None:
    assert refusal_of(chat(n=n), ChatOptions(n_policy="fanout")) == (400, "n", "invalid_value")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("END", ("END",)), (["a", "b"], ("a", "b")), (None, ()), ([], ()), ("", ()), (["", "x"], ("x",))],
)
def test_stop_is_kept_for_the_answer(given: Any, expected: tuple[str, ...]) -> None:
    result = shaped(stop=given)
    assert result.asked.stop == expected
    assert "stop" not in result.body
    assert result.dropped == ()


def test_stop_is_dropped_by_setting() -> None:
    result = shaped(stop="END", options=ChatOptions(stop_policy="drop"))
    assert result.asked.stop == ()
    assert result.dropped == ("stop",)


def test_more_stop_sequences_than_anybody_needs_are_refused() -> None:
    assert refusal_of(chat(stop=["x"] * 65)) == (400, "stop", "array_above_max_length")


@pytest.mark.parametrize("stop", [1, [1], {"a": 1}])
def test_a_senseless_stop_is_refused(stop: Any) -> None:
    assert refusal_of(chat(stop=stop)) == (400, "stop", "invalid_type")


@pytest.mark.parametrize(
    ("members", "param"),
    [({"modalities": ["text", "audio"]}, "modalities"), ({"audio": {"voice": "alloy"}}, "audio")],
)
def test_audio_output_is_refused(members: dict[str, Any], param: str) -> None:
    assert refusal_of(chat(**members)) == (400, param, "unsupported_parameter")


@pytest.mark.parametrize("modalities", [5, "text", {"audio": True}])
def test_modalities_that_are_no_list_are_refused(modalities: Any) -> None:
    assert refusal_of(chat(modalities=modalities)) == (400, "modalities", "invalid_type")


@pytest.mark.parametrize(
    ("options", "tool"),
    [
        ({}, {"type": "web_search"}),
        (
            {
                "search_context_size": "low",
                "user_location": {"type": "approximate", "approximate": {"city": "Ulm"}},
            },
            {
                "type": "web_search",
                "search_context_size": "low",
                "user_location": {"type": "approximate", "city": "Ulm"},
            },
        ),
    ],
)
def test_web_search_options_become_a_real_search_tool(options: dict[str, Any], tool: dict[str, Any]) -> None:
    result = chat_request.shape(chat(web_search_options=options), Options(web_search=True))
    assert result.body["tools"] == [tool]
    assert result.asked.anchored is False


@pytest.mark.parametrize(
    ("tier", "upstream"), [("priority", "priority"), ("fast", "priority"), ("auto", None)]
)
def test_service_tier(tier: str, upstream: str | None) -> None:
    result = shaped(service_tier=tier)
    assert result.body.get("service_tier") == upstream
    assert result.dropped == (() if upstream else ("service_tier",))
