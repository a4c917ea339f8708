"""
Which account made which encrypted reasoning, and which compacted history.

The backend binds `encrypted_content` to the account that produced it and answers 400 to anybody else's. So the
digest of every ciphertext is remembered with its account, here for speed and in the store for restarts and other
processes; before a request goes to an account, what others thought is taken out. Unknown origin is sent as it is,
and looked up again the next time: another process may be about to write it down.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

from accounts.models import Account
from addon.background import Background
from addon.protocol import resend

KEPT = 50_000
"""Digests held in memory: some megabytes, days of work."""

WRITE_DELAY = 1.0
"""Seconds for which new digests are gathered before they are written; a killed process forgets so much."""


class Ledger(Protocol):
    """The part of the store that outlives us."""

    async def remember(self, digests: Iterable[str], account: str) -> None: ...
    async def owners(self, digests: Iterable[str]) -> dict[str, str]: ...


class Provenance:
    """Asks and tells who made a ciphertext; accounts are known by their identity."""

    def __init__(self, ledger: Ledger, background: Background) -> None:
        self._ledger = ledger
        self._background = background
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._unwritten: dict[str, list[str]] = {}  # by identity
        self._writer: asyncio.Task[None] | None = None

    async def foreign(self, digests: list[str], account: Account) -> list[str]:
        """Those of `digests` that another account made."""
        owners = await self._find(digests)
        return [digest for digest in digests if owners.get(digest) not in (None, account.identity)]

    async def home(self, digests: list[str]) -> str | None:
        """The identity that made the last of `digests` whose maker is known."""
        owners = await self._find(digests)
        return next((owners[digest] for digest in reversed(digests) if digest in owners), None)

    async def _find(self, digests: list[str]) -> dict[str, str]:
        if unknown := [digest for digest in digests if digest not in self._owners]:
            for digest, owner in (await self._ledger.owners(unknown)).items():
                self._keep(digest, owner)
        return {digest: self._owners[digest] for digest in digests if digest in self._owners}

    def remember(self, items: list[dict[str, Any]], account: Account) -> None:
        """The account's answer held these output items."""
        digests = resend.ciphertexts({"input": items})
        if not digests:
            return
        for digest in digests:
            self._keep(digest, account.identity)
        self._unwritten.setdefault(account.identity, []).extend(digests)
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

    def _keep(self, digest: str, account: str) -> None:
        self._owners[digest] = account
        while len(self._owners) > KEPT:
            self._owners.popitem(last=False)
