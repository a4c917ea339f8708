"""A Chat Completions body as a Codex request.

The one idea: chat is translated into a plain Responses body (`responses_body`), and that body then goes
through the rules every Responses request goes through (`codex_request.shape`). So what the backend accepts is
known in one place only, and this file knows nothing but the differences between OpenAI's two dialects.

The rule of this file: a member that changes what the client gets back (several choices, stop sequences, usage
in the stream) is either honoured, here or in the answer, or refused. Members that merely tune the model are
dropped and named in `Shaped.dropped`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from addon.protocol import chat_messages, codex_request
from addon.protocol.asked import Shaped
from addon.protocol.failure import reject
from addon.protocol.search_replay import Lookup

MAX_CHOICES = 128
"""OpenAI's own limit for `n`; here also for all prompts of a request together."""
MAX_STOPS = 64
"""Each piece of an answer is searched for all of them. OpenAI takes 4, other servers more."""

# Members that mean the same in both dialects, and those the session key is made of; shape drops what the
# backend does not take.
SHARED = (
    "model",
    "stream",
    "parallel_tool_calls",
    "service_tier",
    "prompt_cache_key",
    "user",
    "metadata",
    "safety_identifier",
)
# Members translated below or honoured in the answer; any other is dropped.
_HANDLED = frozenset(
    (
        *SHARED,
        "messages",
        "stream_options",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "verbosity",
        "reasoning_effort",
        "reasoning",
        "include_reasoning",
        "n",
        "stop",
        "web_search_options",
    )
)
# Values that ask for nothing: dropping them is not worth a word.
_IDLE: dict[str, Any] = {"store": False, "logprobs": False, "modalities": ["text"]}
_LOGPROBS = ("logprobs", "top_logprobs")


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How chat members without a counterpart are treated."""

    n_policy: Literal["error", "fanout"] = "error"
    """`n` over 1: refuse, or keep it in `Asked.n` for one upstream call per choice."""
    stop_policy: Literal["local", "drop"] = "local"
    """Cut the text at a stop sequence on our side, or ignore the member."""
    expose_reasoning: bool = True
    """Ask for reasoning summaries and show them as `reasoning_content`."""
    speaker_names: bool = False
    """Put the `name` of a message in front of its text; the backend takes no such member."""
    strict_params: bool = False
    """Refuse `logprobs` instead of answering without them."""


def shape(
    body: dict[str, Any],
    options: codex_request.Options,
    chat: ChatOptions = ChatOptions(),
    *,
    hidden: Lookup | None = None,
) -> Shaped:
    """The Codex request for a Chat Completions body, and what the answer has to honour.

    hidden: as for `codex_request.shape`. Raises Refused (400) for what cannot be served.
    """
    stop = stop_sequences(body) if chat.stop_policy == "local" else ()
    choices = choice_count(body, chat)
    exposed = _exposes_reasoning(body, chat)
    shaped = codex_request.shape(responses_body(body, chat), options, hidden=hidden)
    asked = replace(
        shaped.asked,
        api="chat",
        include_usage=wants_usage(body),
        stop=stop,
        n=choices,
        legacy_functions=_is_legacy(body),
        expose_reasoning=exposed,
    )
    return replace(shaped, asked=asked, dropped=(*dropped(body, _HANDLED, chat), *shaped.dropped))


def responses_body(body: dict[str, Any], chat: ChatOptions = ChatOptions()) -> dict[str, Any]:
    """The chat body in the words of the Responses API, before any rule of the backend is applied.

    Members that feed the session key (`user`, `metadata`, `prompt_cache_key`) are still in it. Raises Refused
    (400).
    """
    modalities = body.get("modalities") or []
    if not isinstance(modalities, list):
        reject("Invalid type for 'modalities': expected an array.", "modalities", "invalid_type")
    if body.get("audio") or "audio" in modalities:
        name = "audio" if body.get("audio") else "modalities"
        reject("Audio output is not supported.", name, "unsupported_parameter")
    if chat.strict_params:
        for name in _LOGPROBS:
            if body.get(name):
                reject(f"Unsupported parameter: '{name}'.", name, "unsupported_parameter")
    result = {name: body[name] for name in SHARED if body.get(name) is not None}
    messages = body.get("messages")
    if messages is not None and not isinstance(messages, list):
        reject("Invalid type for 'messages': expected an array.", "messages", "invalid_type")
    if not messages:
        reject("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    text_format = _text_format(body.get("response_format"))
    json_mode = text_format is not None and text_format["type"] == "json_object"
    instructions, items = chat_messages.translate(
        messages,
        # The backend takes JSON mode only if the input, not the instructions, says "json".
        keep_system=json_mode and chat_messages.json_asked_by_system_only(messages),
        speaker_names=chat.speaker_names,
    )
    if not items:
        reject("Invalid 'messages': no message has any content.", "messages", "invalid_value")
    if instructions:
        result["instructions"] = instructions
    result["input"] = items
    text = {"format": text_format, "verbosity": body.get("verbosity")}
    reasoning = _reasoning(body, chat)
    tools = _tools(body)
    more = {
        "text": {name: value for name, value in text.items() if value is not None},
        "reasoning": reasoning,
        "tools": tools,
        "tool_choice": _tool_choice(body),
    }
    result.update((name, value) for name, value in more.items() if value)
    if _is_legacy(body):
        # A legacy message holds one call only.
        result["parallel_tool_calls"] = False
    return result


def wants_usage(body: dict[str, Any]) -> bool:
    """Whether a stream shall end with a usage chunk."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def stop_sequences(body: dict[str, Any]) -> tuple[str, ...]:
    """The stop sequences asked for, without empty ones. Raises Refused (400) for what is no text, or too much."""
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        reject("Invalid type for 'stop': expected a string or an array of strings.", "stop", "invalid_type")
    if len(stops) > MAX_STOPS:
        reject(f"Invalid 'stop': expected at most {MAX_STOPS} strings.", "stop", "array_above_max_length")
    return tuple(text for text in stops if text)


def choice_count(body: dict[str, Any], chat: ChatOptions) -> int:
    """The number of choices asked for. Raises Refused (400) if there may only be one."""
    n = body.get("n")
    if n is None:
        return 1
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_CHOICES:
        reject(f"Invalid 'n': expected an integer from 1 to {MAX_CHOICES}.", "n", "invalid_value")
    if n > 1 and chat.n_policy == "error":
        reject(
            "Unsupported value: 'n' must be 1, the backend gives one choice a request.",
            "n",
            "unsupported_value",
        )
    return n


def dropped(body: dict[str, Any], handled: frozenset[str], chat: ChatOptions) -> tuple[str, ...]:
    """The members that are left out although they ask for something, in the client's order."""
    return tuple(
        name
        for name, value in body.items()
        if value is not None
        and (name not in handled or (name == "stop" and chat.stop_policy == "drop"))
        and _IDLE.get(name) != value
    )


def _text_format(given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        reject(
            "Invalid 'response_format': supported types are 'text', 'json_object' and 'json_schema'.",
            "response_format.type",
            "invalid_value",
        )
    return None if kind == "text" else given


def _effort(body: dict[str, Any]) -> dict[str, Any]:
    """What the client says about reasoning, in any of the spellings in use, as one object."""
    reasoning: dict[str, Any] = {}
    effort = body.get("reasoning_effort")
    for given in (body.get("reasoning"), effort):
        if isinstance(given, dict):
            reasoning.update((name, given[name]) for name in ("effort", "summary") if given.get(name))
    if isinstance(effort, str):
        reasoning["effort"] = effort
    return reasoning


def _reasoning(body: dict[str, Any], chat: ChatOptions) -> dict[str, Any]:
    reasoning = _effort(body)
    if _exposes_reasoning(body, chat) and "summary" not in reasoning and reasoning.get("effort") != "none":
        reasoning["summary"] = "auto"
    return reasoning


def _exposes_reasoning(body: dict[str, Any], chat: ChatOptions) -> bool:
    wanted = body.get("include_reasoning")
    if isinstance(wanted, bool):
        return wanted
    given = body.get("reasoning")
    return chat.expose_reasoning and not (isinstance(given, dict) and given.get("exclude") is True)


def _is_legacy(body: dict[str, Any]) -> bool:
    """Whether the client speaks of functions and not of tools; if it names both, tools win."""
    return bool(body.get("functions")) and not body.get("tools")


def _tools(body: dict[str, Any]) -> list[Any]:
    name = "functions" if _is_legacy(body) else "tools"
    given = body.get(name) or []
    if not isinstance(given, list):
        reject(f"Invalid type for '{name}': expected an array.", name, "invalid_type")
    tools = list(given)
    if name == "functions":
        tools = [{**tool, "type": "function"} if isinstance(tool, dict) else tool for tool in given]
    search = body.get("web_search_options")
    types = [tool.get("type") for tool in tools if isinstance(tool, dict)]
    if isinstance(search, dict) and "web_search" not in types:
        tools.append(_web_search(search))
    return tools


def _web_search(options: dict[str, Any]) -> dict[str, Any]:
    tool: dict[str, Any] = {"type": "web_search"}
    location = options.get("user_location")
    if isinstance(location, dict):
        inner = location.get("approximate")
        tool["user_location"] = {"type": "approximate", **inner} if isinstance(inner, dict) else location
    if options.get("search_context_size") is not None:
        tool["search_context_size"] = options["search_context_size"]
    return tool


def _tool_choice(body: dict[str, Any]) -> Any:
    """The choice among the tools. Its wrapped forms are known to the Responses rules, except the oldest."""
    if not _is_legacy(body):
        return body.get("tool_choice")
    choice = body.get("function_call")
    return {"type": "function", "name": choice.get("name")} if isinstance(choice, dict) else choice
