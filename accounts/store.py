"""The store: everything about accounts that outlives a process, in one SQLite file shared by all of them.

The one idea: a `Store` is a `Database` plus one part per subject, each in a file of its own: accounts,
tokens, quota and marks, conversations, kept answers. Every method is one transaction; when it returns, what
it did is on the disk, and every other process sees it.

The rule that must not be broken: nobody else writes these tables, and nothing here knows where a request
comes from or goes to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from accounts import key
from accounts.account_records import AccountRecords
from accounts.conversation_records import ConversationRecords
from accounts.key_records import KeyRecords
from accounts.quota_records import QuotaRecords
from accounts.response_records import ResponseRecords


class Store(AccountRecords, QuotaRecords, ConversationRecords, ResponseRecords, KeyRecords):
    """The open store. Use `async with await Store.open(folder)`, or call `close` at the end."""

    @classmethod
    async def open(
        cls, folder: Path, *, keyring: bool = True, clock: Callable[[], float] = time.time
    ) -> Self:
        """Opens the store in `folder` (made with mode 0700), creating or upgrading it as needed.

        `keyring` False keeps the key of a new store in a file beside it, so that the folder can be moved.
        Raises StoreDamaged, StoreTooNew, StoreUnavailable, KeyUnavailable; the files are untouched then.
        """
        store = await cls._open(folder, clock)
        try:
            store.cipher = await key.unlock(store, keyring=keyring)
        except BaseException:
            await store.close()
            raise
        return store
