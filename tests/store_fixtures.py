"""Fixtures of the store's tests: a plugin, because several files want them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from accounts.store import Store
from tests.store_bench import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path / "state", keyring=False, clock=clock) as opened:
        yield opened
