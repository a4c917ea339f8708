"""The store under several real processes: first starts, refreshes at one moment, and kill -9 in mid-write."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio import FIRST_COMPLETED
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from accounts.models import Login, Secret
from accounts.store import Store
from tests.rotating_issuer import LIFE, START, RotatingIssuer, jwt

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
"""Seconds after which a silent process is a failure."""


async def worker(command: str, folder: Path, *arguments: str) -> Process:
    """A `tests.store_worker` that has said it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.store_worker",
        command,
        str(folder),
        *arguments,
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
    )
    assert await heard(process) == "ready"
    return process


async def heard(process: Process) -> str:
    """The next line; empty at the end."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode().rstrip("\n")


def tell(process: Process, line: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())


async def ended(process: Process) -> int:
    return await asyncio.wait_for(process.wait(), PATIENCE)


async def test_processes_that_refresh_at_once_use_each_refresh_token_once(tmp_path: Path) -> None:
    async with RotatingIssuer() as issuer, await Store.open(tmp_path, keyring=False) as store:
        token = Secret(jwt("acc-1", START + LIFE))
        await store.add(Login("oauth", token, Secret("rt|acc-1|0"), START + LIFE, "acc-1"))
        processes = await asyncio.gather(*(worker("refresh", tmp_path, issuer.url) for _ in range(3)))
        issuer.gate.clear()
        for process in processes:
            tell(process)
        # The issuer holds its answer back until the two others have found the lease taken.
        lines = {asyncio.ensure_future(heard(process)): process for process in processes}
        waiting: set[asyncio.Future[str]] = set()
        while len(waiting) < 2:
            waiting |= (await asyncio.wait(lines.keys() - waiting, return_when=FIRST_COMPLETED))[0]
        assert [line.result() for line in waiting] == ["waiting", "waiting"]
        issuer.gate.set()
        hashes = {await (heard(process) if line in waiting else line) for line, process in lines.items()}
        assert [await ended(process) for process in processes] == [0, 0, 0]
        held = await store.credentials((await store.accounts())[0].id)
    assert issuer.reused == []
    assert len(issuer.requests) == 1
    assert hashes == {held.access.hash} != {token.hash}


async def test_a_refresh_that_is_killed_leaves_the_lease_but_no_damage(tmp_path: Path) -> None:
    async with RotatingIssuer() as issuer, await Store.open(tmp_path, keyring=False) as store:
        token = Secret(jwt("acc-1", START + LIFE))
        account, _ = await store.add(Login("oauth", token, Secret("rt|acc-1|0"), START + LIFE, "acc-1"))
        process = await worker("refresh", tmp_path, issuer.url)
        issuer.gate.clear()
        tell(process)
        await asyncio.wait_for(issuer.asked.wait(), PATIENCE)
        process.kill()
        await ended(process)
        issuer.gate.set()
        assert (await store.credentials(account.id)).access == token
        # The worker's clock stood at START; by ours, 90 seconds later, its lease has run out.
        store.clock = lambda: START + 89
        async with store.lease(f"refresh {account.id}", 90) as early:
            assert not early
        store.clock = lambda: START + 90
        async with store.lease(f"refresh {account.id}", 90) as late:
            assert late


async def test_first_starts_at_once_agree_on_key_accounts_and_thread(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    processes = await asyncio.gather(*(worker("start", folder) for _ in range(4)))
    for number, process in enumerate(processes):
        tell(process, str(number))
    threads = {await heard(process) for process in processes}
    assert [await ended(process) for process in processes] == [0, 0, 0, 0]
    assert len(threads) == 1
    async with await Store.open(folder, keyring=False) as store:
        accounts = await store.accounts()
        tokens = {(await store.credentials(account.id)).access.reveal() for account in accounts}
    assert tokens == {f"token {number}" for number in range(4)}
    assert [account.position for account in accounts] == [0, 1, 2, 3]
    assert sorted(file.name for file in folder.iterdir()) == ["key", "state.db"]


async def test_kill_9_in_mid_write_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Six lives of a writer, each ended at a random (but seeded) moment after a random number of writes."""
    moments = random.Random(20_261_127)
    acknowledged: set[tuple[str, str]] = set()
    for life in range(6):
        process = await worker("write", tmp_path, str(life))
        for _ in range(moments.randrange(1, 12)):
            what, name = (await heard(process)).split()
            acknowledged.add((what, name))
        for _ in range(moments.randrange(2000)):
            await asyncio.sleep(0)
        process.kill()
        await ended(process)
        while line := await heard(process):  # said before it died, so promised
            what, _, name = line.partition(" ")
            acknowledged.add((what, name))
        async with await Store.open(tmp_path, keyring=False) as store:
            assert await store.check() is None
            accounts = {str(account.account_id): account for account in await store.accounts()}
            assert sorted(account.position for account in accounts.values()) == list(range(len(accounts)))
            for what, name in acknowledged:
                held = await store.credentials(accounts[f"acc-{name}"].id)
                possible = {f"a2 {name}"} if what == "rotated" else {f"a {name}", f"a2 {name}"}
                assert held.access.reveal() in possible
                assert held.refresh is not None
                assert held.refresh.reveal() == held.access.reveal().replace("a", "r", 1)
