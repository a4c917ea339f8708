"""Shared by the tests of chat requests: bodies in, what is sent or refused out."""

from __future__ import annotations

from typing import Any

import pytest

from addon.protocol import chat_request
from addon.protocol.asked import Shaped
from addon.protocol.chat_request import ChatOptions
from addon.protocol.codex_request import Options
from addon.protocol.errors import Refused

OPTIONS = Options(web_search=False)
CHAT = ChatOptions()
USER = {"role": "user", "content": "hi"}


def chat(*messages: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": list(messages) or [USER], **members}


def shaped(*messages: dict[str, Any], options: ChatOptions = CHAT, **members: Any) -> Shaped:
    return chat_request.shape(chat(*messages, **members), OPTIONS, options)


def sent(*messages: dict[str, Any], options: ChatOptions = CHAT, **members: Any) -> dict[str, Any]:
    return shaped(*messages, options=options, **members).body


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def developer(text: str) -> dict[str, Any]:
    return {**user(text), "role": "developer"}


def refusal_of(body: dict[str, Any], options: ChatOptions = CHAT) -> tuple[int, str | None, str | None]:
    with pytest.raises(Refused) as caught:
        chat_request.shape(body, OPTIONS, options)
    failure = caught.value.failure
    return failure.status, failure.param, failure.code


FUNCTION = {"name": "look", "description": "d", "parameters": {"type": "object", "properties": {}}}
FLAT = {"type": "function", "name": "look", "description": "d", "strict": False}
