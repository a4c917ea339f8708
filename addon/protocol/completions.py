"""The legacy Completions API: a prompt in, text out.

The one idea: a prompt is a conversation of one user message. Everything else is chat's: the request goes
through `codex_request.shape`, the answer through the same reader.

The rule of this file: what made this API different (continuing after a suffix, echoing the prompt, log
probabilities, tokens instead of text) cannot be had from a chat model and is refused, not ignored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from addon.protocol import codex_request
from addon.protocol.asked import Shaped
from addon.protocol.chat_events import Call, Reader
from addon.protocol.chat_object import Pieces, WholeObject
from addon.protocol.chat_request import (
    MAX_CHOICES,
    SHARED,
    ChatOptions,
    choice_count,
    dropped,
    stop_sequences,
    wants_usage,
)
from addon.protocol.chunks import ChunkStream
from addon.protocol.failure import reject

# Members that ask for what cannot be given, and the values that ask for nothing.
_IMPOSSIBLE: dict[str, tuple[Any, ...]] = {
    "suffix": (None, ""),
    "echo": (None, False),
    "best_of": (None, 1),
    "logprobs": (None, False),
}
_HANDLED = frozenset((*SHARED, *_IMPOSSIBLE, "prompt", "n", "stop", "stream_options"))


def shape(
    body: dict[str, Any],
    options: codex_request.Options,
    chat: ChatOptions = ChatOptions(),  # noqa: B008 - frozen
) -> Shaped:
    """The Codex request for a Completions body with one prompt. Raises Refused (400)."""
    stop = stop_sequences(body) if chat.stop_policy == "local" else ()
    choices = choice_count(body, chat)
    shaped = codex_request.shape(responses_body(body), options)
    asked = replace(
        shaped.asked,
        api="completions",
        include_usage=wants_usage(body),
        stop=stop,
        n=choices,
        expose_reasoning=False,
    )
    return replace(shaped, asked=asked, dropped=(*dropped(body, _HANDLED, chat), *shaped.dropped))


def responses_body(body: dict[str, Any]) -> dict[str, Any]:
    """The body in the words of the Responses API. Raises Refused (400)."""
    for name, idle in _IMPOSSIBLE.items():
        value = body.get(name)
        if not any(type(value) is type(nothing) and value == nothing for nothing in idle):
            reject(f"Unsupported parameter: '{name}'.", name, "unsupported_parameter")
    prompts = _prompts(body)
    if len(prompts) != 1:
        reject("Unsupported value: 'prompt' must be one text.", "prompt", "unsupported_value")
    content = [{"type": "input_text", "text": prompts[0]}]
    shared = {name: body[name] for name in SHARED if body.get(name) is not None}
    return {**shared, "input": [{"type": "message", "role": "user", "content": content}]}


def bodies(body: dict[str, Any], chat: ChatOptions) -> list[dict[str, Any]]:
    """The body once per prompt, for a caller that makes a request for each choice of it. Raises Refused (400)."""
    prompts = _prompts(body)
    if len(prompts) * choice_count(body, chat) > MAX_CHOICES:
        reject(f"Too many choices for all prompts: at most {MAX_CHOICES}.", "prompt", "invalid_value")
    return [{**body, "prompt": prompt} for prompt in prompts]


def _prompts(body: dict[str, Any]) -> list[str]:
    prompt = body.get("prompt")
    if prompt is None or prompt == []:
        reject("Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not all(isinstance(text, str) for text in prompts):
        reject("Invalid type for 'prompt': only text is supported, no tokens.", "prompt", "invalid_type")
    return prompts


class CompletionStream(ChunkStream):
    """Text completion chunks. A refusal is text here: the API has no other place for it."""

    prefix = "cmpl-"
    object_name = "text_completion"

    def text(self, piece: str) -> None:
        self._out += (self._head, orjson.dumps(piece), self._tail)

    refusal = text

    def reasoning(self, piece: str) -> None:
        """No place for it."""

    def call(self, call: Call) -> None:
        """No place for it; the request had no tools."""

    def arguments(self, call: Call, piece: str) -> None:
        """No place for it."""

    def _ends(self) -> tuple[bytes, bytes]:
        return b'{"text":', b',"index":%d,"logprobs":null,"finish_reason":null}' % self._index

    def _begin(self) -> None:
        """Nothing: a text has no role to name."""

    def _close(self, response: dict[str, Any]) -> None:
        self._last(_choice("", self._index, self._reader.finish_reason(response)), {})


class CompletionObject(WholeObject):
    """A text completion."""

    prefix = "cmpl-"
    object_name = "text_completion"

    def _choice(self, pieces: Pieces, reader: Reader, finish_reason: str) -> dict[str, Any]:
        return _choice("".join((*pieces.texts, *pieces.refusals)), self._index, finish_reason)


def _choice(text: str, index: int, finish_reason: str) -> dict[str, Any]:
    # A call, were there one, would be nothing this API knows.
    reason = "stop" if finish_reason == "tool_calls" else finish_reason
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
