"""The world that a client lives in for all of its cases: accounts enough for each fallback, and no way out.

The cases of one client by one way share a world, because starting one takes longer than all of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.clients.registry import WAYS
from tests.codex_fake.server import CodexFake
from tests.world import World

ACCOUNTS = 6
HERE = Path(__file__).parent
INVALID = {
    "error": {
        "message": "Sadly the mood is not blue.",
        "type": "invalid_request_error",
        "param": "mood",
        "code": "invalid_value",
    }
}
"""What the backend answers to a request that is wrong in itself."""


@contextlib.asynccontextmanager
async def habitat(home: Path) -> AsyncIterator[World]:
    """A running world with that many accounts, whose proxy reaches nothing but the backend."""
    async with CodexFake() as fake:
        here = World(home, fake)
        for number in range(ACCOUNTS):
            await here.know(fake.account(f"acct-{number}"), f"account-{number}")
        async with here.start_proxy("-s", str(HERE / "only_openai.py")) as here.proxy:
            yield here


class Named(Protocol):
    """A client or a program."""

    @property
    def name(self) -> str: ...


def pairs(every: Iterable[Named]) -> list[Any]:
    """Every one of them by every way; those of a pair stay together when tests are spread over processes."""
    found = []
    for each in every:
        for way in WAYS:
            name = f"{each.name}-{way}"
            found.append(pytest.param((each, way), id=name, marks=pytest.mark.xdist_group(name)))
    return found
