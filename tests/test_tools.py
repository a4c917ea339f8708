"""Tools, tool names and tool_choice on the way to the backend."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol.errors import Failure, Refused
from addon.protocol.tool_names import ToolNames, legal_name
from addon.protocol.tools import custom_names, shape_choice, shape_tools, strict_fault

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"path": {"type": "string"}}}
STRICT: dict[str, Any] = SCHEMA | {"required": ["path"], "additionalProperties": False}


def shaped(tool: object) -> dict[str, Any]:
    return shape_tools([tool], ToolNames())[0]


def refusal(*tools: object) -> Failure:
    with pytest.raises(Refused) as refused:
        shape_tools(list(tools), ToolNames())
    return refused.value.failure


@pytest.mark.parametrize("absent", [{}, {"strict": None}])
def test_a_function_gets_the_official_member_order_and_strict_false(absent: dict[str, Any]) -> None:
    tool = {"parameters": SCHEMA, "name": "read", "extra": 1, "description": "d", "type": "function"} | absent
    assert list(shaped(tool).items()) == [
        ("type", "function"),
        ("name", "read"),
        ("description", "d"),
        ("strict", False),
        ("parameters", SCHEMA),
        ("extra", 1),
    ]


def test_the_top_level_schema_member_goes_and_only_that() -> None:
    inner = {"$schema": "kept", "type": "object"}
    tool = {
        "type": "function",
        "name": "f",
        "parameters": {"$schema": "x", "type": "object", "properties": {"p": inner}},
    }
    assert shaped(tool)["parameters"] == {"type": "object", "properties": {"p": inner}}
    assert "$schema" in tool["parameters"]


def test_a_chat_function_is_flattened() -> None:
    chat = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": None},
    }
    assert shaped(chat) == shaped({"type": "function", "name": "f", "description": "d", "parameters": SCHEMA})


def test_a_function_without_parameters_takes_none() -> None:
    assert shaped({"type": "function", "name": "f"})["parameters"]["properties"] == {}


def test_a_chat_custom_tool_is_flattened_with_its_grammar() -> None:
    grammar = {"syntax": "lark", "definition": "start: /a/"}
    chat = {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": grammar}}}
    assert shaped(chat) == {"type": "custom", "name": "c", "format": {"type": "grammar", **grammar}}


def test_custom_tools_are_known_by_name() -> None:
    tools = shape_tools([{"type": "custom", "name": "c"}, {"type": "function", "name": "f"}], ToolNames())
    assert custom_names(tools) == {"c"}


@pytest.mark.parametrize(
    "kind", ["web_search_preview", "web_search_preview_2025_03_11", "web_search_2025_08_26"]
)
def test_search_previews_become_the_search(kind: str) -> None:
    assert shaped({"type": kind, "search_context_size": "low"}) == {
        "type": "web_search",
        "search_context_size": "low",
    }


@pytest.mark.parametrize(
    "kind", ["web_search", "file_search", "code_interpreter", "mcp", "namespace", "brand_new"]
)
def test_hosted_tools_pass(kind: str) -> None:
    assert shaped({"type": kind, "member": {"a": [1]}}) == {"type": kind, "member": {"a": [1]}}


def test_cache_marks_go_but_a_property_of_that_name_stays() -> None:
    schema = {"type": "object", "properties": {"cache_control": {"type": "string"}}}
    tool = shaped(
        {"type": "function", "name": "f", "parameters": schema, "cache_control": {"type": "ephemeral"}}
    )
    assert "cache_control" not in tool
    assert tool["parameters"] == schema


@pytest.mark.parametrize(
    ("tools", "param", "code"),
    [
        ([{"type": "function"}], "tools[0].name", "missing_required_parameter"),
        (
            [{"type": "function", "name": "f"}, {"type": "custom", "name": ""}],
            "tools[1].name",
            "missing_required_parameter",
        ),
        (["read"], "tools[0]", "invalid_type"),
    ],
)
def test_broken_tools_are_refused_by_place(tools: list[object], param: str, code: str) -> None:
    failure = refusal(*tools)
    assert (failure.status, failure.param, failure.code) == (400, param, code)


def test_tools_that_are_no_list_are_refused() -> None:
    with pytest.raises(Refused):
        shape_tools({"type": "function"}, ToolNames())


# --- strict schemas


def nested(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    "schema",
    [
        STRICT,
        {"type": "object", "properties": {}, "additionalProperties": False},
        nested({"anyOf": [STRICT, {"type": "null"}]}),
        nested({"type": "array", "items": STRICT}),
        nested({"$ref": "#/$defs/x"}) | {"$defs": {"x": STRICT}},
    ],
)
def test_valid_strict_schemas(schema: dict[str, Any]) -> None:
    assert strict_fault(schema) is None
    assert shaped({"type": "function", "name": "f", "strict": True, "parameters": schema})["strict"] is True


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "array", "items": {}}, "'type: \"object\"'"),
        ({}, "'type: \"object\"'"),
        (STRICT | {"additionalProperties": True}, "additionalProperties"),
        (SCHEMA | {"required": ["path"]}, "additionalProperties"),
        (STRICT | {"required": []}, "Missing 'path'"),
        (SCHEMA | {"additionalProperties": False}, "Missing 'path'"),
        (nested(SCHEMA), "In context=('properties', 'a')"),
        (nested({"type": "array", "items": SCHEMA}), "'items'"),
        (nested({"anyOf": [SCHEMA]}), "'anyOf', '0'"),
        (nested({"type": ["object", "null"], "properties": {}}), "additionalProperties"),
    ],
)
def test_a_strict_function_with_another_schema_is_refused(schema: dict[str, Any], says: str) -> None:
    failure = refusal({"type": "function", "name": "f", "strict": True, "parameters": schema})
    assert (failure.status, failure.code, failure.param) == (
        400,
        "invalid_function_parameters",
        "tools[0].parameters",
    )
    assert "function 'f'" in failure.message
    assert says in failure.message


def test_a_schema_that_is_not_strict_may_be_anything() -> None:
    assert shaped({"type": "function", "name": "f", "parameters": SCHEMA})["parameters"] == SCHEMA


def test_a_refusal_names_the_function_as_the_client_does() -> None:
    failure = refusal({"type": "function", "name": "my.tool", "strict": True, "parameters": {}})
    assert "'my.tool'" in failure.message


# --- names


@pytest.mark.parametrize("name", ["a", "mcp__srv__do-it", "x" * 64])
def test_a_legal_name_stays(name: str) -> None:
    assert legal_name(name) is name


@given(st.text(min_size=1, max_size=200))
def test_every_name_becomes_legal_and_stays_so(name: str) -> None:
    short = legal_name(name)
    assert 1 <= len(short) <= 64
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in short)
    assert legal_name(short) == short == legal_name(name)


@given(st.sets(st.text("ab._", min_size=60, max_size=80), min_size=2, max_size=20))
def test_different_names_stay_different(names: set[str]) -> None:
    assert len({legal_name(name) for name in names}) == len(names)


def test_the_prefix_of_an_mcp_tool_survives() -> None:
    assert legal_name("mcp__server__" + "x" * 80).startswith("mcp__server__xxx")


def test_the_name_sent_maps_back_to_the_clients() -> None:
    names = ToolNames()
    tools = shape_tools([{"type": "function", "name": "my.tool"}, {"type": "function", "name": "ok"}], names)
    assert names.restore == {tools[0]["name"]: "my.tool"}


# --- tool_choice


@pytest.mark.parametrize(
    ("given_choice", "sent"),
    [
        ("auto", "auto"),
        ("required", "required"),
        (None, None),
        ({"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
        ({"type": "custom", "custom": {"name": "c"}}, {"type": "custom", "name": "c"}),
        ({"type": "web_search_preview"}, {"type": "web_search"}),
        ({"type": "file_search"}, {"type": "file_search"}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "f"}}],
                },
            },
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        ),
    ],
)
def test_choices(given_choice: object, sent: object) -> None:
    assert shape_choice(given_choice, ToolNames()) == sent


def test_a_choice_follows_its_renamed_tool() -> None:
    names = ToolNames()
    short = legal_name("my.tool")
    assert shape_choice({"type": "function", "name": "my.tool"}, names) == {"type": "function", "name": short}
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "my.tool"}]}
    assert shape_choice(allowed, names)["tools"][0]["name"] == short
