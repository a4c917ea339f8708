"""What the backend refuses in a request, apart from the input items (`input_rules`), with its own texts.

One function per subject, each raising `Refused`; `check` calls them in the order in which the backend was
seen to complain. Strict by intention: where reports differ, the fake takes the side that refuses, so that a
proxy which passes here passes there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from . import catalogue, replies
from .input_rules import check_input
from .plan import declared
from .replies import Refused, missing

if TYPE_CHECKING:
    from .accounts import FakeAccount

Json = dict[str, Any]

LITE = "X-OpenAI-Internal-Codex-Responses-Lite"
KEY_LIMIT = 64  # characters of prompt_cache_key and of the session headers
ALLOWED = frozenset(
    [
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
        "prompt_cache_key",
        "service_tier",
        "client_metadata",
    ]
)
COMPACT_ALLOWED = ALLOWED - {"store", "stream", "include", "tool_choice", "client_metadata"}
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_NAMELESS = frozenset(
    [
        "web_search",
        "image_generation",
        "file_search",
        "code_interpreter",
        "computer_use_preview",
        "local_shell",
        "shell",
        "apply_patch",
        "tool_search",
        "mcp",
    ]
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to check: lower-case headers and the parsed body."""

    account: FakeAccount
    headers: Mapping[str, str]
    body: Json
    compact: bool = False

    @property
    def lite(self) -> bool:
        return self.headers.get("x-openai-internal-codex-responses-lite") == "true"


def parse(raw: bytes) -> Json:
    """The body as an object, or the web framework's own complaint."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as broken:
        body = {"type": "json_invalid", "loc": ["body", broken.pos], "msg": "JSON decode error", "input": {}}
        raise Refused(replies.Reply(422, {"detail": [body]})) from None
    if not isinstance(body, dict):
        problem = {"type": "dict_type", "loc": ["body"], "msg": "Input should be a valid dictionary"}
        raise Refused(replies.Reply(422, {"detail": [problem]}))
    return body


def check(request: Request) -> None:
    """Raise Refused with what the backend says to this request; return when it takes it."""
    _members(request)
    _model(request)
    _flags(request)
    _types(request.body)
    if request.lite:
        _lite(request)
    _keys(request)
    _reasoning(request)
    _text(request.body)
    _tools(request)
    _include(request.body)
    check_input(request.body, request.account, lite=request.lite)


def _members(request: Request) -> None:
    body = request.body
    for name in body:
        if name not in (COMPACT_ALLOWED if request.compact else ALLOWED):
            raise Refused(replies.unsupported_parameter(name))
    for path in sorted(request.account.refuses):
        value: Any = body
        for step in path.split("."):
            value = value.get(step, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is not _ABSENT:
            raise Refused(replies.unsupported_parameter(path))


_ABSENT = object()


def _model(request: Request) -> None:
    name = request.body.get("model")
    if not isinstance(name, str) or not name:
        raise Refused(missing("model"))
    model = request.account.models.get(name)
    if model is None or request.account.plan not in model.plans:
        raise Refused(replies.unsupported_model(name))
    version = request.headers.get("version")
    if version is None:
        raise Refused(replies.model_not_found(name))
    if catalogue.version(version) < catalogue.version(model.minimal_version):
        raise Refused(replies.newer_version(name))
    if request.lite and not model.lite:
        text = f"This model is not supported when using {LITE}."
        raise Refused(replies.error(text, code="unsupported_value", param="model"))


def _flags(request: Request) -> None:
    body = request.body
    if not request.compact:
        if body.get("stream") is not True:
            raise Refused(replies.detail("Stream must be set to true"))
        if body.get("store") is not False:
            raise Refused(replies.detail("Store must be set to false"))
        if not request.lite and not body.get("instructions"):
            raise Refused(replies.detail("Instructions are required"))
    if not isinstance(body.get("instructions", ""), str):
        raise Refused(replies.detail("Instructions are not valid"))
    if not isinstance(body.get("input"), list):
        raise Refused(replies.detail("Input must be a list"))
    tier = body.get("service_tier")
    if "service_tier" in body and tier not in ("priority", "ultrafast"):
        raise Refused(replies.detail(f"Unsupported service_tier: {tier}"))


def _types(body: Json) -> None:
    for name, kind in (("tools", list), ("include", list), ("reasoning", dict), ("text", dict)):
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise Refused(replies.error(f"Invalid type for '{name}'.", code="invalid_type", param=name))
    for name in ("input", "tools"):
        for index, element in enumerate(body.get(name) or []):
            if not isinstance(element, dict):
                text = f"Invalid type for '{name}[{index}]': expected an object."
                raise Refused(replies.error(text, code="invalid_type", param=f"{name}[{index}]"))


def _lite(request: Request) -> None:
    body = request.body

    def refuse(rest: str, param: str) -> Refused:
        return Refused(replies.error(f"{LITE} {rest}", code="unsupported_value", param=param))

    if (body.get("reasoning") or {}).get("context") != "all_turns":
        raise refuse("requires `reasoning.context` to be `all_turns`.", "reasoning.context")
    if body.get("parallel_tool_calls") is not False:
        raise refuse("requires `parallel_tool_calls` to be false.", "parallel_tool_calls")
    first = body["input"][0] if body["input"] else {}
    if first.get("type") == "additional_tools" and "tools" not in first:
        raise Refused(missing("input[0].content"))
    kinds = {tool.get("type") for tool in declared(body)}
    if not kinds <= {"function", "custom", "tool_search", "namespace"}:
        raise refuse(
            "only supports function tools, custom tools, and client-executed tool search.",
            "tools",
        )


def _keys(request: Request) -> None:
    key = request.body.get("prompt_cache_key")
    if isinstance(key, str) and len(key) > KEY_LIMIT:
        raise Refused(replies.too_long("prompt_cache_key", KEY_LIMIT, len(key)))
    for name in ("session-id", "thread-id", "x-client-request-id"):
        value = request.headers.get(name, "")
        if len(value) > KEY_LIMIT:
            raise Refused(replies.too_long("prompt_cache_key", KEY_LIMIT, len(value)))
    metadata = request.body.get("client_metadata")
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise Refused(
            replies.error("Invalid type for 'client_metadata'.", code="invalid_type", param="client_metadata")
        )


def _reasoning(request: Request) -> None:
    reasoning = request.body.get("reasoning")
    if reasoning is None:
        return
    for name in reasoning:
        if name not in ("effort", "summary", "context"):
            raise Refused(replies.unknown_parameter(f"reasoning.{name}"))
    effort = reasoning.get("effort")
    model = request.body["model"]
    efforts = request.account.models[model].efforts
    if effort is not None and effort not in efforts:
        listed = ", ".join(f"'{name}'" for name in efforts)
        text = f"Unsupported value: '{effort}' is not supported with the '{model}' model."
        text += f" Supported values are: {listed}."
        raise Refused(replies.error(text, code="unsupported_value", param="reasoning.effort"))
    if reasoning.get("summary") not in (None, "auto", "concise", "detailed"):
        raise Refused(
            replies.invalid_value(reasoning["summary"], ("auto", "concise", "detailed"), "reasoning.summary")
        )


def _text(body: Json) -> None:
    text = body.get("text") or {}
    for name in text:
        if name not in ("format", "verbosity"):
            raise Refused(replies.unknown_parameter(f"text.{name}"))
    if text.get("verbosity") not in (None, "low", "medium", "high"):
        raise Refused(replies.invalid_value(text["verbosity"], ("low", "medium", "high"), "text.verbosity"))
    form = text.get("format") or {"type": "text"}
    match form.get("type"):
        case "json_schema":
            for name in ("name", "schema"):
                if name not in form:
                    raise Refused(missing(f"text.format.{name}"))
        case "json_object":
            if b"json" not in orjson.dumps(body.get("input")).lower():
                raise Refused(
                    replies.error(
                        "Response input messages must contain the word 'json' in some form to use 'text.format' "
                        "of type 'json_object'.",
                        param="input",
                    )
                )
        case "text":
            pass
        case kind:
            raise Refused(
                replies.invalid_value(kind, ("json_object", "json_schema", "text"), "text.format.type")
            )


def _tools(request: Request) -> None:
    body = request.body
    tools = body.get("tools")
    for index, tool in enumerate(tools or []):
        _tool(tool, f"tools[{index}]", request.account.plan)
    choice = body.get("tool_choice")
    if choice in (None, "auto", "none"):
        return
    names = {tool.get("name") for tool in declared(body)}
    kinds = {tool.get("type") for tool in declared(body)}
    if not kinds:
        raise Refused(
            replies.error("Tool choice is only allowed when 'tools' are specified.", param="tool_choice")
        )
    if isinstance(choice, str):
        if choice != "required":
            raise Refused(replies.invalid_value(choice, ("none", "auto", "required"), "tool_choice"))
        return
    if choice.get("type") in ("function", "custom"):
        if "name" not in choice:
            raise Refused(missing("tool_choice.name"))
        if choice["name"] not in names:
            text = f"Tool choice '{choice['name']}' not found in 'tools' parameter."
            raise Refused(replies.error(text, param="tool_choice"))
    elif choice.get("type") == "allowed_tools":
        for name in ("mode", "tools"):
            if name not in choice:
                raise Refused(missing(f"tool_choice.{name}"))
    elif choice.get("type") not in kinds:
        text = f"Tool choice '{choice.get('type')}' not found in 'tools' parameter."
        raise Refused(replies.error(text, param="tool_choice"))


def _tool(tool: Json, where: str, plan: str) -> None:
    kind = tool.get("type")
    if kind not in ("function", "custom", "namespace"):
        if kind not in _NAMELESS:
            raise Refused(replies.error(f"Unsupported tool type: {kind}", param=where))
        if kind == "image_generation" and plan == "free":
            raise Refused(
                replies.error("Tool 'image_generation' is not available on your plan.", param=where)
            )
        return
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise Refused(missing(f"{where}.name"))
    if len(name) > 64:
        raise Refused(replies.too_long(f"{where}.name", 64, len(name)))
    if _NAME.fullmatch(name) is None:
        text = f"Invalid '{where}.name': string does not match pattern. Expected a string that matches the pattern "
        raise Refused(
            replies.error(text + "'^[a-zA-Z0-9_-]+$'.", code="invalid_value", param=f"{where}.name")
        )
    if kind == "function":
        extra = tool.keys() - {"type", "name", "description", "parameters", "strict", "defer_loading"}
        if extra:
            raise Refused(replies.unknown_parameter(f"{where}.{min(extra)}"))
        if tool.get("strict"):
            _strict_schema(tool.get("parameters") or {}, name, f"{where}.parameters")


def _strict_schema(schema: Json, name: str, where: str) -> None:
    properties = schema.get("properties") or {}
    problem = None
    if schema.get("type") != "object":
        problem = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
    elif schema.get("additionalProperties") is not False:
        problem = "In context=(), 'additionalProperties' is required to be supplied and to be false."
    elif set(schema.get("required") or ()) != set(properties):
        problem = (
            "In context=(), 'required' is required to be supplied and to be an array including "
            "every key in properties."
        )
    if problem is not None:
        text = f"Invalid schema for function '{name}': {problem}"
        raise Refused(replies.error(text, code="invalid_function_parameters", param=where))


def _include(body: Json) -> None:
    supported = ["reasoning.encrypted_content"]
    if any(tool.get("type") == "web_search" for tool in body.get("tools") or []):
        supported.append("web_search_call.action.sources")
    for index, name in enumerate(body.get("include") or []):
        if name not in supported:
            raise Refused(replies.invalid_value(name, tuple(supported), f"include[{index}]"))
