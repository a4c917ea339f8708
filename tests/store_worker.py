"""A process of its own that uses the store: what `test_store_processes` starts, races and kills.

`python -m tests.store_worker COMMAND FOLDER …`; it says `ready`, waits for a line on stdin, then does COMMAND.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from accounts.models import Account, Login, Quota, Secret, Window
from accounts.quota_records import Observations
from accounts.store import Store

START = 1_800_000_000.0
"""The tests' "now", in epoch seconds."""


def say(word: str) -> None:
    print(word, flush=True)


async def refresh(folder: Path, url: str) -> None:
    """Renews main's token once, after a 401 for the token it had at the start; says the new one's hash.

    Says `waiting` first if it has to wait for another process.
    """
    import aiohttp  # only here: the other commands start faster without it

    from accounts.oauth import Issuer
    from accounts.tokens import Tokens

    async with (
        await Store.open(folder, keyring=False, clock=lambda: START) as store,
        aiohttp.ClientSession() as http,
    ):
        account = (await store.accounts())[0]
        waiting = False

        async def sleep(seconds: float) -> None:
            nonlocal waiting
            if not waiting:
                waiting = True
                say("waiting")
            await asyncio.sleep(seconds)

        tokens = Tokens(store, Issuer(http, url, clock=lambda: START), lambda: START, sleep)
        before = await tokens.access(account)
        say("ready")
        sys.stdin.readline()
        after = await tokens.renew(account, before)
        say(after.token.hash)


async def start(folder: Path) -> None:
    """Opens the store, adds a login of its own, and says the name of its thread for one session."""
    say("ready")
    name = sys.stdin.readline().strip()
    async with await Store.open(folder, keyring=False) as store:
        await store.add(
            Login("oauth", Secret(f"token {name}"), Secret(f"refresh {name}"), START, f"acc-{name}")
        )
        say(await store.thread_id("session"))


async def write(folder: Path, run: str) -> None:
    """Writes without end: logins, rotations and quota; says each login and rotation once it is acknowledged."""
    async with await Store.open(folder, keyring=False) as store:
        say("ready")
        number = 0
        while True:
            name = f"{run}-{number}"
            login = Login("oauth", Secret(f"a {name}"), Secret(f"r {name}"), START, f"acc-{name}")
            account, _ = await store.add(login)
            say(f"added {name}")
            await store.rotate(account.id, Secret(f"r {name}").hash, Rotated(name))
            say(f"rotated {name}")
            await store.observe(Observations({account.id: quota(account, number)}, used={account.id: START}))
            if number % 3 == 2:
                await store.switch(account.id)
            number += 1


class Rotated:
    """The grant that follows a login's own tokens."""

    def __init__(self, name: str) -> None:
        self.access, self.refresh, self.expires_at = Secret(f"a2 {name}"), Secret(f"r2 {name}"), START + 1


def quota(account: Account, used: int) -> Quota:
    return Quota(account.account_id, (Window(300, used % 100, None, START, "headers"),), seen_at=START)


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    asyncio.run({"refresh": refresh, "start": start, "write": write}[command](Path(folder), *rest))
