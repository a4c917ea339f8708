"""
`python -m tests.bench`: direct, plain mitmdump passing through, and the proxy, side by side in one run.

All three talk to the same stand-in backend over TLS. Rounds are interleaved and medians are reported, since machines
are noisy; ratios are what counts. CPU time is that of the proxy process alone, read from the kernel.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from rich.console import Console

from accounts.importer import read_logins
from accounts.store import Store
from tests.bench import translation
from tests.bench.client import Timing, Way, ask
from tests.codex_fake.process import FakeProcess
from tests.proxy_process import ROOT, ProxyProcess

EVENTS_AROUND = 12
"""Events of an answer beside its text deltas: lifecycle, reasoning, items, parts."""

console = Console(highlight=False, width=120)


def cpu(pid: int) -> float:
    """CPU seconds a process has used, all its threads."""
    return (
        sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
        / 1e9
    )


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def body(size: int, order: str) -> bytes:
    """A request of about `size` bytes: a history of messages, as an agent sends it, and an order to the backend."""
    items: list[dict[str, object]] = []
    while len(orjson.dumps(items)) < size - 400:
        role = "assistant" if len(items) % 2 else "user"
        kind = "output_text" if len(items) % 2 else "input_text"
        text = "The quick brown fox jumps over the lazy dog, said the agent. " * (size // 2400 + 1)
        items.append({"type": "message", "role": role, "content": [{"type": kind, "text": text}]})
    items.append({"type": "message", "role": "user", "content": [{"type": "input_text", "text": order}]})
    tool = {
        "type": "function",
        "name": "read",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    return orjson.dumps({"model": "gpt-5.5", "stream": True, "store": False, "input": items, "tools": [tool]})


class Bench:
    """The ways, and what was measured on each."""

    def __init__(self, ways: list[Way], fake: FakeProcess, rounds: int) -> None:
        self.ways = ways
        self.fake = fake
        self.rounds = rounds
        self.results: dict[str, dict[str, list[float]]] = {}
        self.firsts: dict[tuple[int, str], list[float]] = {}

    def note(self, measure: str, way: Way, value: float) -> None:
        self.results.setdefault(measure, {}).setdefault(way.name, []).append(value)

    async def interleaved(self, measure: Callable[[Way], Awaitable[None]]) -> None:
        for _ in range(self.rounds):
            for way in self.ways:
                await measure(way)

    async def throughput(self, label: str, size: int, count: int, workers: int = 8) -> None:
        """Requests/s with kept-alive connections, and CPU per request."""

        async def measure(way: Way) -> None:
            request = way.request(body(size, "stream:20"))
            connections = [await way.connect() for _ in range(workers)]
            for connection in connections:
                await ask(connection, request)
            before, started = cpu(way.pid) if way.pid else 0.0, time.perf_counter()

            async def work(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
                for _ in range(count // workers):
                    await ask(connection, request)

            await asyncio.gather(*map(work, connections))
            elapsed = time.perf_counter() - started
            self.note(f"requests/s, {label}", way, count / elapsed)
            if way.pid:
                self.note(f"CPU ms per request, {label}", way, (cpu(way.pid) - before) / count * 1000)
            for _, writer in connections:
                writer.close()

        await self.interleaved(measure)

    async def streams(self, count: int, deltas: int, pace: float, *, times: int = 1) -> None:
        """Time to first byte and delay per event of `count` streams side by side, and CPU per event.

        They begin one after the other within the time of one stream: each first byte is that of a request that comes
        while the others run.
        """

        async def measure(way: Way) -> None:
            request = way.request(body(2000, f"stream:{deltas}@{pace}"))
            connections = [await way.connect() for _ in range(count)]
            warm = way.request(body(2000, "stream:1"))
            for connection in connections:
                await ask(connection, warm)
            before = cpu(way.pid) if way.pid else 0.0

            async def one(number: int) -> Timing:
                await asyncio.sleep(number * deltas * pace / count)
                return await ask(connections[number], request, stamped=True)

            timings: list[Timing] = []
            for _ in range(times):
                timings += await asyncio.gather(*map(one, range(count)))
            if way.pid and count > 1:
                events = count * (deltas + EVENTS_AROUND)
                self.note("CPU µs per stream event", way, (cpu(way.pid) - before) / events * 1e6)
            firsts = sorted(timing.first * 1000 for timing in timings)
            self.firsts.setdefault((count, way.name), []).extend(firsts)
            delays = [delay * 1000 for timing in timings for delay in timing.delays]
            plural = "stream" if count == 1 else "streams"
            self.note(f"ms delay per event, {count} {plural}, median", way, statistics.median(delays))
            for _, writer in connections:
                writer.close()

        await self.interleaved(measure)
        for way in self.ways:
            firsts = sorted(self.firsts[count, way.name])
            plural = "stream" if count == 1 else "streams"
            self.note(f"ms to first byte, {count} {plural}, median", way, statistics.median(firsts))
            self.note(f"ms to first byte, {count} {plural}, p99", way, firsts[int(len(firsts) * 0.99)])

    async def connections(self, count: int) -> None:
        """CPU of a new client connection with one small request on it."""

        async def measure(way: Way) -> None:
            if not way.pid:
                return
            request = way.request(body(2000, "stream:1"))
            kept = await way.connect()
            await ask(kept, request)
            before = cpu(way.pid)
            for _ in range(count):
                await ask(kept, request)
            on_one = cpu(way.pid) - before
            kept[1].close()
            before = cpu(way.pid)
            for _ in range(count):
                connection = await way.connect()
                await ask(connection, request)
                connection[1].close()
            self.note(
                "CPU ms per new client connection", way, (cpu(way.pid) - before - on_one) / count * 1000
            )

        await self.interleaved(measure)

    async def open_streams(self, count: int) -> None:
        """Memory of streams that wait for their next event."""

        async def measure(way: Way) -> None:
            if not way.pid:
                return
            request = way.request(body(2000, "stream:2@3"))
            connections = [await way.connect() for _ in range(count)]
            warm = way.request(body(2000, "stream:1"))
            await asyncio.gather(*(ask(connection, warm) for connection in connections))
            before = memory(way.pid)
            running = [asyncio.create_task(ask(connection, request)) for connection in connections]
            await asyncio.sleep(1.5)  # all have begun, none has its second delta
            self.note(f"KB per open stream, {count} streams", way, (memory(way.pid) - before) / count / 1024)
            await asyncio.gather(*running)
            for _, writer in connections:
                writer.close()

        await self.interleaved(measure)

    async def fallback(self, count: int) -> None:
        """What a refusal of main adds to a request that the next account serves."""
        way = self.ways[-1]
        assert way.pid
        request = way.request(body(50_000, "hello"))
        self.fake.call("set", fast=False)
        connection = await way.connect()
        await ask(connection, request)
        costs = {}
        for refused in (False, True):
            if refused:
                refusal = {"detail": {"code": "invalid_workspace_selected"}}
                self.fake.call("accounts/acct-main/fail", status=403, body=refusal, times=None)
            used = cpu(way.pid)
            firsts = [(await ask(connection, request)).first for _ in range(count)]
            costs[refused] = (statistics.median(firsts) * 1000, (cpu(way.pid) - used) / count * 1000)
        self.fake.call("accounts/acct-main/heal")
        self.fake.call("set", fast=True)
        self.note("ms that one fallback adds to the first byte", way, costs[True][0] - costs[False][0])
        self.note("CPU ms that one fallback adds", way, costs[True][1] - costs[False][1])
        connection[1].close()

    def table(self) -> str:
        """Markdown: medians, and the proxy's share of plain mitmdump's value."""
        names = [way.name for way in self.ways]
        lines = [
            f"| measure | {' | '.join(names)} | proxy : plain |",
            f"| --- |{' ---: |' * (len(names) + 1)}",
        ]
        for measure, by_way in self.results.items():
            values = {name: statistics.median(found) for name, found in by_way.items()}
            plain, ours = values.get("plain mitmdump"), values.get("proxy")
            ratio = f"{ours / plain:.2f}" if plain and ours else ""
            cells = [f"{values[name]:.2f}" if name in values else "" for name in names]
            lines.append(f"| {measure} | {' | '.join(cells)} | {ratio} |")
        return "\n".join(lines)


@asynccontextmanager
async def ways(home: Path) -> AsyncIterator[tuple[list[Way], FakeProcess]]:
    """The backend, a plain mitmdump and the proxy, all running."""
    quiet = ("--set", "flow_detail=0", "--set", "connection_strategy=lazy")
    accounts = ("--account", "acct-main", "--account", "acct-work")
    with FakeProcess("--fast", "--tls", str(home), "--auth", str(home), *accounts) as fake:
        async with await Store.open(home / "proxy", keyring=False) as store:
            for name in ("acct-main", "acct-work"):
                for login in read_logins(home / f"{name}.json"):
                    await store.add(login)
        environ = {
            "SSL_CERT_FILE": str(fake.ca),
            "OPENAI_AUTH_BACKEND_URL": fake.backend_url,
            "OPENAI_AUTH_ISSUER_URL": fake.issuer_url,
        }
        plain = ProxyProcess(
            home / "plain", {}, "--set", "ssl_insecure=true", *quiet, script=ROOT / "tests/bench/plain.py"
        )
        async with plain, ProxyProcess(home / "proxy", environ, *quiet) as proxy:
            token = orjson.loads((home / "acct-main.json").read_bytes())["tokens"]["access_token"].encode()
            allowed = b"authorization: Bearer %s\r\nchatgpt-account-id: acct-main\r\n" % token
            yield (
                [
                    Way("direct", fake.responses_url, headers=allowed),
                    Way("plain mitmdump", fake.responses_url, plain.port, plain.pid, allowed),
                    Way("proxy", "https://api.openai.com/v1/responses", proxy.port, proxy.pid),
                ],
                fake,
            )


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    arguments = parser.parse_args()
    scale, rounds = (10, 1) if arguments.quick else (1, arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="openai-auth-bench-") as folder:
        async with ways(Path(folder)) as (found, fake):
            bench = Bench(found, fake, rounds)
            steps: list[tuple[str, Awaitable[None]]] = [
                ("requests of 50 KB", bench.throughput("50 KB", 50_000, 400 // scale)),
                ("requests of 1 MB", bench.throughput("1 MB", 1_000_000, 80 // scale)),
                ("one stream", bench.streams(1, 10, 0.02, times=20 // scale)),
                ("50 streams", bench.streams(50, 200 // scale, 0.05)),
                ("new connections", bench.connections(100 // scale)),
                ("200 open streams", bench.open_streams(200 // scale)),
                ("fallbacks", bench.fallback(100 // scale)),
            ]
            for name, step in steps:
                console.print(f"[dim]measuring {name} …[/]")
                await step
    print("\n" + bench.table())
    print("\n" + translation.report(rounds * 10))


if __name__ == "__main__":
    asyncio.run(main())
