"""What the tests of tokens share: a store with one account, a real issuer, and time that moves when told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from accounts.models import (
    Account,
    Credentials,
    Login,
    Secret,
)
from accounts.store import Store
from accounts.tokens import Tokens
from tests.rotating_issuer import START, RotatingIssuer, jwt

MINUTE = 60.0


@dataclass
class Bench:
    """A store with one account, an issuer, and time that only moves when told."""

    store: Store
    issuer: RotatingIssuer
    tokens: Tokens
    account: Account
    now: float = START
    slept: float = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds
        await asyncio.sleep(0)

    def another_process(self) -> Tokens:
        """Tokens without the memory of the first ones."""
        return Tokens(self.store, self.issuer.client, self.clock, self.sleep)

    async def left(self, seconds: float | None, account: str = "acc-1") -> Account:
        """Logs in again with a token that has so long to live."""
        expires_at = None if seconds is None else self.now + seconds
        token = Secret(jwt(account, expires_at or 0, serial=-1))
        refresh = Secret(f"rt|{account}|{self.issuer.serials.get(account, 0)}")
        stored, _ = await self.store.add(Login("oauth", token, refresh, expires_at, account))
        return stored


async def stored(bench: Bench) -> Credentials:
    return await bench.store.credentials(bench.account.id)
