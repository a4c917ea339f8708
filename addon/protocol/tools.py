"""Tools and the choice among them: OpenAI's forms, old and new, in; the backend's form out.

Function tools get the member order and the defaults that the official client sends, because the tools stand
at the front of the prompt and so of the cached prefix. Hosted tools pass as they are: what a plan may use is
the backend's to say.

The rule: a strict schema is checked here. The backend answers to a broken one over a WebSocket by closing it
without a word, which clients would see as a gateway error.
"""

from __future__ import annotations

from typing import Any, Final

from addon.protocol.errors import Refused, refuse
from addon.protocol.input_items import MARKS
from addon.protocol.tool_names import ToolNames

Tool = dict[str, Any]

_FUNCTION_ORDER: Final = ("type", "name", "description", "strict", "parameters")
_NO_PARAMETERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}


def shape_tools(value: object, names: ToolNames) -> list[Tool]:
    """The tools as the backend takes them; [] for none.

    names: shortens names and remembers which. Raises Refused (400), among others with code
    `invalid_function_parameters` for a strict function whose schema is not.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid("tools", "an array")
    return [_tool(tool, names, f"tools[{index}]") for index, tool in enumerate(value)]


def shape_choice(value: object, names: ToolNames) -> object:
    """`tool_choice` in its flat form with the names that are sent. Unknown forms pass."""
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind == "allowed_tools":
        inner = value.get("allowed_tools")
        choice = {"type": kind, **inner} if isinstance(inner, dict) else value
        allowed = choice.get("tools")
        if not isinstance(allowed, list):
            return choice
        return {**choice, "tools": [shape_choice(tool, names) for tool in allowed]}
    flat = _flat(value)
    if _is_web_search(kind):
        flat = {**flat, "type": "web_search"}
    name = flat.get("name")
    return {**flat, "name": names.upstream(name)} if isinstance(name, str) and name else flat


def custom_names(tools: list[Tool]) -> frozenset[str]:
    """Names of the tools that take free text."""
    return frozenset(tool["name"] for tool in tools if tool.get("type") == "custom" and "name" in tool)


def _tool(tool: object, names: ToolNames, place: str) -> Tool:
    if not isinstance(tool, dict):
        raise _invalid(place, "an object")
    kind = tool.get("type")
    if kind == "function":
        return _function(_flat(tool), names, place)
    if kind == "custom":
        return _custom(_flat(tool), names, place)
    if _is_web_search(kind):
        tool = {**tool, "type": "web_search"}
    return _clean(tool)


def _function(tool: Tool, names: ToolNames, place: str) -> Tool:
    tool = _clean(tool)
    parameters = tool.get("parameters", _NO_PARAMETERS)
    if isinstance(parameters, dict) and "$schema" in parameters:
        parameters = {key: value for key, value in parameters.items() if key != "$schema"}
    tool["name"] = _name(tool, names, place)
    tool["strict"] = tool.get("strict", False)
    tool["parameters"] = parameters
    if tool["strict"] is True and (fault := strict_fault(parameters)):
        raise refuse(
            400,
            f"Invalid schema for function '{names.restore.get(tool['name'], tool['name'])}': {fault}",
            code="invalid_function_parameters",
            param=f"{place}.parameters",
        )
    ordered = {key: tool[key] for key in _FUNCTION_ORDER if key in tool}
    return ordered | tool


def _custom(tool: Tool, names: ToolNames, place: str) -> Tool:
    tool = _clean(tool)
    tool["name"] = _name(tool, names, place)
    form = tool.get("format")
    if isinstance(form, dict) and isinstance(form.get("grammar"), dict):
        tool["format"] = {"type": form.get("type", "grammar"), **form["grammar"]}
    return tool


def _flat(tool: Tool) -> Tool:
    """Chat Completions wraps a tool's members in a member named like its type; here they lie beside it."""
    kind = tool.get("type")
    inner = tool.get(kind) if isinstance(kind, str) else None
    if not isinstance(inner, dict):
        return tool
    return {"type": kind, **inner, **{key: tool[key] for key in tool if key not in inner and key != kind}}


def _clean(tool: Tool) -> Tool:
    """Without marks at the top; a schema inside may have a property of that name."""
    return {key: value for key, value in tool.items() if value is not None and key not in MARKS}


def _name(tool: Tool, names: ToolNames, place: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise refuse(
            400,
            f"Missing required parameter: '{place}.name'.",
            code="missing_required_parameter",
            param=f"{place}.name",
        )
    return names.upstream(name)


def _is_web_search(kind: object) -> bool:
    """The tool's dated and preview names too; the backend knows only the plain one."""
    return isinstance(kind, str) and kind.startswith(("web_search_preview", "web_search_20"))


def strict_fault(schema: object) -> str | None:
    """What OpenAI's strict mode finds wrong in a function's schema, as a sentence; None if nothing.

    Every object must refuse additional properties and require all of its own, at every depth.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "schema must be a JSON Schema of 'type: \"object\"'."
    return _fault(schema, ())


def _fault(schema: object, context: tuple[str, ...]) -> str | None:
    if not isinstance(schema, dict):
        return None
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema:
        fault = _object_fault(schema, context)
        if fault:
            return fault
    for step, inner in _subschemas(schema):
        fault = _fault(inner, (*context, *step))
        if fault:
            return fault
    return None


def _object_fault(schema: dict[str, Any], context: tuple[str, ...]) -> str | None:
    if schema.get("additionalProperties") is not False:
        return f"In context={context}, 'additionalProperties' is required to be supplied and to be false."
    properties = schema.get("properties")
    required = schema.get("required")
    listed = required if isinstance(required, list) else []
    for name in properties if isinstance(properties, dict) else ():
        if name not in listed:
            return (
                f"In context={context}, 'required' is required to be supplied and to be an array including "
                f"every key in properties. Missing '{name}'."
            )
    return None


def _subschemas(schema: dict[str, Any]) -> list[tuple[tuple[str, ...], object]]:
    found: list[tuple[tuple[str, ...], object]] = []
    for key in ("properties", "$defs", "definitions"):
        inner = schema.get(key)
        if isinstance(inner, dict):
            found.extend(((key, name), value) for name, value in inner.items())
    if "items" in schema:
        found.append((("items",), schema["items"]))
    for key in ("anyOf", "oneOf", "allOf"):
        inner = schema.get(key)
        if isinstance(inner, list):
            found.extend(((key, str(index)), value) for index, value in enumerate(inner))
    return found


def _invalid(place: str, expected: str) -> Refused:
    return refuse(400, f"Invalid type for '{place}': expected {expected}.", code="invalid_type", param=place)
