"""The fixture of the tests of tokens: a plugin, because several files want it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from accounts.store import Store
from tests.rotating_issuer import LIFE, RotatingIssuer
from tests.tokens_bench import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with RotatingIssuer() as issuer, await Store.open(tmp_path, keyring=False) as store:
        bench = Bench(store, issuer, None, None)  # type: ignore[arg-type]
        store.clock = bench.clock
        bench.tokens = bench.another_process()
        bench.account = await bench.left(LIFE)
        yield bench
