"""
Which account made which encrypted reasoning.

The backend binds `encrypted_content` to the account that produced it and answers 400 to anybody else's. So the
digest of every ciphertext is remembered with its account, here for speed and in the store for restarts and other
processes; before a request goes to an account, what others made is taken out. Unknown origin is sent as it is.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

from accounts.models import Account
from addon.background import Background
from addon.protocol import codex_request

KEPT = 50_000
"""Digests held in memory: some megabytes, days of work."""

WRITE_DELAY = 1.0
"""Seconds for which new digests are gathered before they are written; a killed process forgets so much."""


class Ledger(Protocol):
    """The part of the store that outlives us."""

    async def remember(self, digests: Iterable[str], account: str) -> None: ...
    async def owners(self, digests: Iterable[str]) -> dict[str, str]: ...


class Provenance:
    """Asks and tells who made a ciphertext; accounts are known by their internal ids."""

    def __init__(self, ledger: Ledger, background: Background) -> None:
        self._ledger = ledger
        self._background = background
        self._owners: OrderedDict[str, str | None] = OrderedDict()
        self._unwritten: dict[str, list[str]] = {}  # by account id
        self._writer: asyncio.Task[None] | None = None

    async def foreign(self, digests: list[str], account: Account) -> list[str]:
        """Those of `digests` that another account made."""
        unknown = [digest for digest in digests if digest not in self._owners]
        if unknown:
            owners = await self._ledger.owners(unknown)
            for digest in unknown:
                self._keep(digest, owners.get(digest))
        return [digest for digest in digests if self._owners.get(digest) not in (None, account.id)]

    def remember(self, items: list[dict[str, Any]], account: Account) -> None:
        """The account's answer held these output items."""
        digests = codex_request.ciphertexts({"input": items})
        if not digests:
            return
        for digest in digests:
            self._keep(digest, account.id)
        self._unwritten.setdefault(account.id, []).extend(digests)
        if self._writer is None:
            self._writer = self._background.start(self._write_later())

    async def close(self) -> None:
        """Write what is left."""
        if self._writer:
            self._writer.cancel()
        await self._write()

    async def _write_later(self) -> None:
        await asyncio.sleep(WRITE_DELAY)
        self._writer = None
        await self._write()

    async def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        for account, digests in unwritten.items():
            await self._ledger.remember(digests, account)

    def _keep(self, digest: str, account: str | None) -> None:
        self._owners[digest] = account
        while len(self._owners) > KEPT:
            self._owners.popitem(last=False)
