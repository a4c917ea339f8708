"""A model of the backend's prompt cache: what share of a request's input was seen before.

The cache is per (account, `session-id` header, model, instructions, tools); without a session header nothing
is ever found. Every prefix of the input's items is remembered as a rolling hash over the items' own bytes, so
a history that is serialised differently misses, as it does on the real service. Prefixes die after five
minutes unused, thirty for the 5.6 family."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson

Json = dict[str, Any]

LIFE = 5 * 60.0
LONG_LIFE = 30 * 60.0
_KEPT = 200_000  # prefixes remembered before the oldest half is dropped


@dataclass(slots=True)
class PromptCache:
    """Knobs: `minimum` tokens of a useful prefix (1024 on the real service), `step` tokens it is rounded down
    to (128 there), `lose_every`: every n-th request whose tools are functions only misses (None = never)."""

    minimum: int = 0
    step: int = 1
    lose_every: int | None = None
    hits: int = 0
    misses: int = 0
    cached_tokens: int = 0
    input_tokens: int = 0
    _function_only: int = 0
    _prefixes: dict[bytes, float] = field(default_factory=dict)

    def usage(self, account_id: str, session: str | None, body: Json, now: float) -> tuple[int, int]:
        """(input tokens, cached tokens) of this request; remembers its prefixes."""
        model = str(body.get("model"))
        tools = body.get("tools") or []
        base = orjson.dumps([body.get("instructions"), tools])
        tokens = [len(base) // 4]
        key = hashlib.sha256(f"{account_id}\0{session}\0{model}\0".encode() + base).digest()
        keys = [key]
        for item in body.get("input") or []:
            raw = orjson.dumps(item)
            key = hashlib.sha256(key + raw).digest()
            keys.append(key)
            tokens.append(tokens[-1] + len(raw) // 4 + 1)
        found = 0
        if session is not None:
            found = max((n for n, k in enumerate(keys) if n and self._prefixes.get(k, 0.0) > now), default=0)
            self._remember(keys, now + (LONG_LIFE if "5.6" in model else LIFE))
        cached = tokens[found] if found else 0
        cached = 0 if cached < self.minimum or self._lost(tools) else cached // self.step * self.step
        self.hits, self.misses = self.hits + bool(cached), self.misses + (not cached)
        self.cached_tokens += cached
        self.input_tokens += tokens[-1]
        return tokens[-1], cached

    def _lost(self, tools: list[Json]) -> bool:
        if self.lose_every is None or not tools or any(tool.get("type") == "web_search" for tool in tools):
            return False
        self._function_only += 1
        return self._function_only % self.lose_every == 0

    def _remember(self, keys: list[bytes], until: float) -> None:
        for key in keys:
            self._prefixes.pop(key, None)
            self._prefixes[key] = until
        if len(self._prefixes) > _KEPT:
            for key in list(self._prefixes)[: _KEPT // 2]:
                del self._prefixes[key]
