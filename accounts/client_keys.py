"""The client keys as a running proxy sees them: who is let in, and what is noted about it.

The one idea: as with the pool, requests read a view and leave notes. The view is loaded from the store and again when
another process changed it, half a second later at most; use is written behind.

The rules that must not be broken: with one key in the list nobody without a key of the list is served; and which key
was offered, or how much of it was right, cannot be told from the time a refusal takes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from accounts.key_records import ClientKey, KeyRecords, KeyUse
from accounts.models import AccountsError
from accounts.ticking import every

logger = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks at the store, and between two writes."""


class NotServed(AccountsError):
    """The token that was offered is none of the client keys."""


class ClientKeys:
    """The live view. Call `start` before the first request and `close` at the end."""

    def __init__(self, store: KeyRecords, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._keys: tuple[ClientKey, ...] = ()
        self._notes: dict[str, KeyUse] = {}
        self._version: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the keys and keep them current from now on."""
        await self._reload()
        self._task = asyncio.create_task(every(TICK, self.tick), name="client keys")

    async def close(self) -> None:
        """Stop, and write what is pending."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.flush()
        except AccountsError as error:
            logger.error("%s", error)

    @property
    def wanted(self) -> bool:
        """Whether only clients with a key of the list are served."""
        return any(key.revoked_at is None for key in self._keys)

    def admit(self, token: str) -> str | None:
        """The id of the key that `token` is; None if there are no keys and everybody is served.

        token: as it stood in a header, bytes that are no UTF-8 as surrogates. Raises NotServed.
        """
        offered = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found = [key for key in self._keys if hmac.compare_digest(key.hash, offered)]
        if found and found[0].revoked_at is None:
            return found[0].id
        if found or self.wanted:
            raise NotServed(
                "Incorrect API key provided: this proxy serves its own client keys only. "
                "`openai-auth keys add LABEL` makes one."
            )
        return None

    def asked(self, id: str) -> None:
        """A request came with this key."""
        self._note(id, KeyUse(requests=1, last_used_at=self._clock()))

    def used(self, id: str, usage: Mapping[str, Any] | None) -> None:
        """An answer to this key is whole; `usage` is its `usage`, in the words of either API."""
        self._note(id, counted(usage))

    async def tick(self) -> None:
        """One turn of keeping current."""
        await self.flush()
        if await self._store.version() != self._version:
            await self._reload()

    async def flush(self) -> None:
        """Write what is pending. If the store refuses, it stays pending."""
        notes, self._notes = self._notes, {}
        if not notes:
            return
        try:
            await self._store.add_key_use(notes)
        except BaseException:
            for id, use in notes.items():
                self._note(id, use)
            raise

    def _note(self, id: str, use: KeyUse) -> None:
        self._notes[id] = self._notes.get(id, KeyUse()).plus(use)

    async def _reload(self) -> None:
        # The version first: a change that comes while we read is then seen at the next tick.
        version = await self._store.version()
        self._keys = tuple(await self._store.client_keys())
        self._version = version


def counted(usage: Mapping[str, Any] | None) -> KeyUse:
    """The token counts of a `usage`: `input_tokens` and its like, or chat's `prompt_tokens`."""
    if usage is None:
        return KeyUse()
    details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details")
    return KeyUse(
        input_tokens=_count(usage.get("input_tokens", usage.get("prompt_tokens"))),
        cached_tokens=_count(details.get("cached_tokens") if isinstance(details, Mapping) else None),
        output_tokens=_count(usage.get("output_tokens", usage.get("completion_tokens"))),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
