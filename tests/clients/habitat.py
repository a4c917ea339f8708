"""The world that a client lives in for all of its cases: accounts enough for each fallback, and no way out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.codex_fake.server import CodexFake
from tests.world import World

ACCOUNTS = 6
HERE = Path(__file__).parent


@contextlib.asynccontextmanager
async def habitat(home: Path) -> AsyncIterator[World]:
    """A running world with that many accounts, whose proxy reaches nothing but the backend."""
    async with CodexFake() as fake:
        here = World(home, fake)
        for number in range(ACCOUNTS):
            await here.know(fake.account(f"acct-{number}"), f"account-{number}")
        async with here.start_proxy("-s", str(HERE / "only_openai.py")) as here.proxy:
            yield here
