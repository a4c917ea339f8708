"""What the client asked for, kept beside the request until the answer is written.

The Codex backend takes fewer members than OpenAI's API and answers with what *it* was sent. `Asked` remembers
the client's own wishes, so that the answer can name the client's model, echo its temperature and restore its
tool names; `Shaped` joins that memory to the body that goes upstream.

The rule: both are made once per request and never changed. The dicts inside may be the client's own objects;
nobody writes to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["responses", "chat", "completions"]


@dataclass(frozen=True, slots=True)
class Asked:
    """The client's wishes that the answer has to honour.

    echo: members of the Response object that must be as the client sent them (OpenAI's default where it sent
    none): store, metadata, user, instructions, tools, temperature, prompt_cache_key and their like.
    tool_names: name sent upstream → the client's name, only where they differ.
    anchored: web_search was added by us, so searches in the answer are hidden.
    """

    api: Api
    stream: bool
    model: str | None
    echo: dict[str, Any] = field(default_factory=dict)
    tool_names: Mapping[str, str] = field(default_factory=dict)
    anchored: bool = False
    include_usage: bool = False
    stop: tuple[str, ...] = ()
    legacy_functions: bool = False
    custom_tools: frozenset[str] = frozenset()
    n: int = 1
    expose_reasoning: bool = True


@dataclass(frozen=True, slots=True)
class Shaped:
    """A request ready for the backend, but for the identity that `codex_request.encode` adds.

    body: the Codex body without prompt_cache_key and client_metadata.
    dropped: names of the members that were removed, fit for a response header.
    lite: a native Responses-Lite request; its header has to go upstream too.
    client_metadata: the client's own entries that travel on beside ours.
    """

    body: dict[str, Any]
    asked: Asked
    dropped: tuple[str, ...] = ()
    lite: bool = False
    client_metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the official client calls it in its turn metadata: `compaction`, or an ordinary `turn`."""
        last = self.body["input"][-1:]
        return "compaction" if last and last[0].get("type") == "compaction_trigger" else "turn"
