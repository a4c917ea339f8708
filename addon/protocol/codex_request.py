"""An OpenAI Responses request as the Codex backend takes it.

The backend serves one client, and refuses what that client does not send: a member it does not know is a 400,
and so is `store`, an item id, the system role. `shape` therefore builds a new body from an allow-list, each
member by its own rule, and never edits the client's. `encode` adds the identity of the turn and makes the
bytes, in the member order the official client uses.

The rule: `shape` is a pure function of the body and the options, and the same history gives the same bytes,
whatever the time or the account. The prompt cache is keyed by those bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from addon.protocol import anchor
from addon.protocol.asked import Asked, Shaped
from addon.protocol.errors import Refused, refuse
from addon.protocol.identity import Turn, client_metadata, own_metadata
from addon.protocol.input_items import Resolve, as_items, is_lite, shape_items
from addon.protocol.misplaced import reread
from addon.protocol.model_settings import shape_include, shape_reasoning, shape_text, shape_tier
from addon.protocol.search_replay import Lookup, restore_hidden
from addon.protocol.tool_names import ToolNames
from addon.protocol.tools import custom_names, shape_choice, shape_tools
from addon.protocol.wire_json import dump, too_deep

Body = dict[str, Any]

# The order of the official client. What is not named here follows behind.
_ORDER: Final = (
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
)

# What a Response object says about a member that the client did not set.
_ECHO: Final[dict[str, Any]] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}

# Honoured by us or overwritten by our own value: not sent, and not missed either.
_OURS: Final = frozenset(
    {
        "store",
        "stream",
        "background",
        "previous_response_id",
        "conversation",
        "prompt",
        "prompt_cache_key",
        "client_metadata",
    }
)
_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Options:
    """Settings that change what is sent.

    web_search: add the cache anchor. instructions: sent when the client has none, because the backend wants a
    text. efforts: model → the reasoning levels it lists, () if unknown; None until a catalogue is there.
    """

    web_search: bool = True
    instructions: str = "You are a helpful assistant."
    efforts: Callable[[str], Sequence[str]] | None = None


def shape(
    body: Body,
    options: Options,
    *,
    lite_header: bool = False,
    history: list[dict[str, Any]] | None = None,
    resolve: Resolve | None = None,
    hidden: Lookup | None = None,
) -> Shaped:
    """A body of POST /v1/responses as the backend takes it; `body` is not changed.

    lite_header: the client sent the Responses-Lite header. history: the items that `previous_response_id`
    stands for, put before the input. resolve: id of an `item_reference` → the stored item. hidden: finds
    searches that were hidden from the client, see `search_replay`. Raises Refused (400) for what cannot be
    served.
    """
    try:
        return _shape(reread(body), options, lite_header, history, resolve, hidden)
    except RecursionError:
        raise too_deep() from None


def _shape(
    body: Body,
    options: Options,
    lite_header: bool,
    history: list[dict[str, Any]] | None,
    resolve: Resolve | None,
    hidden: Lookup | None,
) -> Shaped:
    model = _text_member(body, "model")
    if not model:
        raise _missing("model")
    _refuse_foreign_state(body, history)
    items = _input(body, history)
    lite = lite_header or is_lite(items)
    metadata = client_metadata(body.get("client_metadata"))
    native = lite or "x-codex-installation-id" in metadata
    names = ToolNames()
    tools = shape_tools(body.get("tools"), names)
    choice = shape_choice(body.get("tool_choice"), names) if tools or lite else None
    sources = any(tool.get("type") == "web_search" for tool in tools)
    sent_tools, anchored = anchor.inject(tools, choice, enabled=options.web_search and not lite)
    shaped_items = shape_items(items, names, native=native, resolve=resolve)
    if hidden is not None:
        shaped_items = restore_hidden(shaped_items, hidden)
    instructions = _text_member(body, "instructions") or (None if lite else options.instructions)
    parallel = body.get("parallel_tool_calls")
    efforts = options.efforts(model) if options.efforts else ()
    members: Body = {
        "model": model,
        "instructions": instructions,
        "input": shaped_items,
        "tools": sent_tools or None,
        "tool_choice": choice,
        "parallel_tool_calls": (not lite) if parallel is None else parallel,
        "reasoning": shape_reasoning(body.get("reasoning"), efforts, lite=lite),
        "store": False,
        "stream": True,
        "include": shape_include(body.get("include"), sources=sources),
        "text": shape_text(body.get("text")),
        "service_tier": shape_tier(body.get("service_tier")),
    }
    sent = {name: value for name, value in members.items() if value is not None}
    asked = Asked(
        api="responses",
        stream=body.get("stream") is True,
        model=model,
        echo={name: default if (v := body.get(name)) is None else v for name, default in _ECHO.items()},
        tool_names=names.restore,
        anchored=anchored,
        custom_tools=custom_names(tools),
    )
    dropped = [name for name, value in body.items() if value is not None and _is_dropped(name, value, sent)]
    printable = dict.fromkeys(_NAME.sub("?", name)[:64] for name in dropped)
    return Shaped(sent, asked, tuple(printable), lite, metadata)


def encode(shaped: Shaped, turn: Turn) -> bytes:
    """The bytes of a request: the body with the cache key and the identity of the turn, in the official
    order.

    Raises Refused (400) for a body nested too deeply.
    """
    body = shaped.body
    complete = {
        **body,
        "prompt_cache_key": turn.thread_id,
        "client_metadata": {**shaped.client_metadata, **own_metadata(turn)},
    }
    ordered = {name: complete[name] for name in _ORDER if name in complete}
    return dump(ordered | complete)


def _input(body: Body, history: list[dict[str, Any]] | None) -> list[Any]:
    given = body.get("input")
    if given is None and history is None:
        raise _missing("input")
    items = as_items(given)
    return [*history, *items] if history else items


def _refuse_foreign_state(body: Body, history: list[dict[str, Any]] | None) -> None:
    """State that lives on OpenAI's side, where nothing of a subscription's is stored."""
    previous = body.get("previous_response_id")
    if previous is not None and history is None:
        raise refuse(
            400,
            f"Previous response with id '{previous}' not found.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    for name, advice in (
        ("conversation", "Send the conversation in `input`, or use `previous_response_id`."),
        ("prompt", "Stored prompt templates cannot be read; send their text as `instructions` or `input`."),
    ):
        if body.get(name) is not None:
            raise refuse(
                400,
                f"'{name}' is not supported on a ChatGPT subscription (Codex backend). {advice}",
                code="unsupported_parameter",
                param=name,
            )


def _is_dropped(name: str, value: object, sent: Mapping[str, Any]) -> bool:
    """Whether the client asked for something that is not sent. Empty lists and objects ask for nothing."""
    if name in _OURS or name in sent:
        return False
    return value not in ([], {}, "")


def _text_member(body: Body, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise refuse(400, f"Invalid type for '{name}': expected a string.", code="invalid_type", param=name)
    return value or None


def _missing(name: str) -> Refused:
    return refuse(
        400, f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name
    )
