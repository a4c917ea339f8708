"""The seam: an exchange's answer reaches the client as from a server, and ends with it."""

import asyncio
import gc
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import h2.config
import h2.connection
import h2.events
import pytest
from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context

from addon.virtual_server import CLAIMED, SILENT_LOOKS, VirtualServer, VirtualServers
from tests.mitmproxy_in_process import mitmproxy

MIB = 2**20


class Script:
    """An exchange that does what a test says. `reads` counts the bytes it was asked for."""

    def __init__(
        self, chunks: Callable[[], AsyncIterator[bytes]] | None = None, *, http2: bool = False
    ) -> None:
        self.response: http.Response | None = None
        self.chunk = b""
        self.error: str | None = None
        self.upgraded = False
        self.sign_of_life = b""
        self.closed = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.given = 0
        self.http2 = http2
        self._chunks = (chunks or hello)()

    async def open(self) -> None:
        headers = {"content-type": "text/event-stream"}
        if not self.http2:
            headers["transfer-encoding"] = "chunked"
        self.response = http.Response.make(200, b"", headers)
        self.response.headers.pop("content-length", None)

    async def read(self) -> None:
        try:
            self.chunk = await anext(self._chunks, b"")
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        self.given += len(self.chunk)

    def feed(self, data: bytes) -> None:
        raise AssertionError("no frames here")

    def close(self) -> None:
        self.closed.set()


async def hello() -> AsyncIterator[bytes]:
    yield b"data: hello\n\n"
    yield b"data: world\n\n"


async def endless() -> AsyncIterator[bytes]:
    for _ in range(64):
        for _ in range(16):
            yield bytes(MIB // 16)


async def stalled() -> AsyncIterator[bytes]:
    yield b"data: first\n\n"
    await asyncio.Event().wait()


async def broken() -> AsyncIterator[bytes]:
    yield b"data: first\n\n"
    raise RuntimeError("a fault of ours")


class ClaimAll:
    """Claims every request for the exchange that `make` makes."""

    def __init__(self, servers: VirtualServers, make: Callable[[http.HTTPFlow], Script]) -> None:
        self.servers = servers
        self.make = make
        self.exchanges: list[Script] = []

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.metadata[CLAIMED] = "test"

    def request(self, flow: http.HTTPFlow) -> None:
        exchange = self.make(flow)
        self.exchanges.append(exchange)
        self.servers.claim(flow, exchange)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        assert flow.response
        flow.response.stream = True


class Seam:
    """What a test has in its hands."""

    def __init__(self, port: int, servers: VirtualServers, claims: ClaimAll, master: object) -> None:
        self.port = port
        self.servers = servers
        self.claims = claims
        self.master = master
        self.url = f"http://127.0.0.1:{port}/"


@asynccontextmanager
async def seam(
    confdir: Path, chunks: Callable[[], AsyncIterator[bytes]] = hello, **values: object
) -> AsyncIterator[Seam]:
    servers = VirtualServers()
    claims = ClaimAll(servers, lambda flow: Script(chunks, http2=flow.request.is_http2))
    async with mitmproxy(confdir, servers, claims, **values) as (master, port):
        yield Seam(port, servers, claims, master)


@pytest.fixture(scope="session")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mitmproxy")


async def test_an_http1_client_gets_the_streamed_answer(confdir: Path) -> None:
    async with seam(confdir) as proxy, aiohttp.ClientSession() as client, client.get(proxy.url) as answer:
        assert await answer.read() == b"data: hello\n\ndata: world\n\n"


async def test_a_chunk_arrives_before_the_next_one_exists(confdir: Path) -> None:
    async with (
        seam(confdir, stalled) as proxy,
        aiohttp.ClientSession() as client,
        client.get(proxy.url) as answer,
    ):
        assert await answer.content.readany() == b"data: first\n\n"


async def test_a_silent_stream_shows_a_sign_of_life_between_its_chunks(confdir: Path) -> None:
    news = asyncio.Queue[bytes]()

    async def slow() -> AsyncIterator[bytes]:
        while chunk := await news.get():
            yield chunk

    async with (
        seam(confdir, slow) as proxy,
        aiohttp.ClientSession() as client,
        client.get(proxy.url) as answer,
    ):

        def look(times: int) -> None:
            for _ in range(times):
                proxy.servers.look()

        exchange = proxy.claims.exchanges[0]
        look(SILENT_LOOKS)  # nothing, as long as the exchange has none to give
        exchange.sign_of_life = b": alive\n\n"
        look(SILENT_LOOKS - 1)
        news.put_nowait(b"data: first\n\n")
        assert await answer.content.readany() == b"data: first\n\n"
        [server] = proxy.servers.servers
        while not server.waiting or server.looks:
            await asyncio.sleep(0)
        look(SILENT_LOOKS - 1)  # the chunk was a sign of life too
        look(1)
        assert await answer.content.readany() == b": alive\n\n"
        news.put_nowait(b"data: last\n\n")
        news.put_nowait(b"")
        assert await answer.read() == b"data: last\n\n"


async def test_a_client_that_does_not_read_is_sent_no_signs_of_life(confdir: Path) -> None:
    async with seam(confdir, endless) as proxy:
        reader, writer = await request(proxy.port, limit=MIB)
        await reader.readuntil(b"\r\n\r\n")
        exchange = proxy.claims.exchanges[0]
        given = await settled(lambda: exchange.given)
        exchange.sign_of_life = b"x"
        for _ in range(SILENT_LOOKS):
            proxy.servers.look()
        assert not proxy.servers.signs
        assert await settled(lambda: exchange.given) == given
        writer.close()
        await exchange.closed.wait()


async def test_a_client_that_leaves_ends_the_exchange_at_once(confdir: Path) -> None:
    async with seam(confdir, stalled) as proxy:
        reader, writer = await request(proxy.port)
        await reader.readuntil(b"data: first")
        exchange = proxy.claims.exchanges[0]
        writer.close()
        await exchange.closed.wait()
        await asyncio.sleep(0)  # one turn of the loop, in which the cancellation reaches the pump
        assert exchange.cancelled.is_set()
        assert not proxy.servers.servers


async def test_a_client_that_leaves_before_the_answer_begins_ends_it_too(confdir: Path) -> None:
    class Hanging(Script):
        async def open(self) -> None:
            opened.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()

    opened = asyncio.Event()
    servers = VirtualServers()
    claims = ClaimAll(servers, lambda flow: Hanging())
    async with mitmproxy(confdir, servers, claims) as (_, port):
        _, writer = await request(port)
        await opened.wait()
        writer.close()
        await claims.exchanges[0].closed.wait()
        await asyncio.sleep(0)
        assert claims.exchanges[0].cancelled.is_set()


async def test_a_client_that_leaves_before_the_pump_has_begun_leaves_nothing() -> None:
    servers, exchange = VirtualServers(), Script()
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0.0)
    server = VirtualServer(Context(client, Options()), exchange, {}, servers.start)
    servers.start(server)
    server.finish()
    assert server.pump
    await asyncio.wait([server.pump])
    await asyncio.sleep(0)
    assert exchange.closed.is_set()
    assert not servers.servers


async def test_a_client_that_leaves_while_its_request_is_prepared_leaves_no_exchange(confdir: Path) -> None:
    class SlowClaim(ClaimAll):
        async def request(self, flow: http.HTTPFlow) -> None:  # type: ignore[override]
            asked.set()
            await let_go.wait()
            super().request(flow)

    asked, let_go = asyncio.Event(), asyncio.Event()
    servers = VirtualServers()
    claims = SlowClaim(servers, lambda flow: Script())
    gone = asyncio.Event()

    class Watch:
        def client_disconnected(self, client: object) -> None:
            gone.set()

    async with mitmproxy(confdir, servers, claims, Watch()) as (_, port):
        _, writer = await request(port)
        await asked.wait()
        writer.close()
        await gone.wait()
        let_go.set()
        await asyncio.sleep(0)
        while not claims.exchanges:
            await asyncio.sleep(0)
        await claims.exchanges[0].closed.wait()
        assert not servers.exchanges


async def test_a_fault_in_the_middle_cuts_the_connection(confdir: Path) -> None:
    async with seam(confdir, broken) as proxy, aiohttp.ClientSession() as client:
        answer = await client.get(proxy.url)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        assert proxy.claims.exchanges[0].closed.is_set()


async def test_a_fault_before_the_head_is_an_error_answer(confdir: Path) -> None:
    class Faulty(Script):
        async def open(self) -> None:
            raise RuntimeError("a fault of ours")

    servers = VirtualServers()
    claims = ClaimAll(servers, lambda flow: Faulty())
    async with mitmproxy(confdir, servers, claims) as (_, port), aiohttp.ClientSession() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/")
        assert answer.status == 502


async def test_a_slow_http1_client_holds_the_exchange_back(confdir: Path) -> None:
    async with seam(confdir, endless) as proxy:
        reader, writer = await request(proxy.port, limit=MIB)
        await reader.readuntil(b"\r\n\r\n")
        exchange = proxy.claims.exchanges[0]
        assert await settled(lambda: exchange.given) < 24 * MIB  # kernel buffers and ours, far from all of it
        writer.close()
        await exchange.closed.wait()


async def test_a_slow_http1_client_that_reads_on_gets_everything(confdir: Path) -> None:
    async with seam(confdir, endless) as proxy:
        reader, writer = await request(proxy.port)
        await settled(lambda: proxy.claims.exchanges[0].given if proxy.claims.exchanges else 0)
        total = 0
        while data := await reader.read(MIB):
            total += len(data)
            if proxy.claims.exchanges[0].closed.is_set() and data.endswith(b"0\r\n\r\n"):
                break
        assert total > 64 * MIB
        writer.close()


async def test_a_slow_http2_client_holds_the_exchange_back_and_may_read_on(confdir: Path) -> None:
    async with seam(confdir, endless, mode=["reverse:https://api.openai.com"]) as proxy:
        client = await Http2Client.connect(proxy.port)
        stream = client.get("/")
        await client.until(h2.events.ResponseReceived)
        exchange = proxy.claims.exchanges[0]
        assert await settled(lambda: exchange.given) < 2 * MIB
        total = 0
        while total < 64 * MIB:
            event = await client.until(h2.events.DataReceived)
            total += len(event.data)
            client.acknowledge(event.flow_controlled_length, stream)
        await client.until(h2.events.StreamEnded)
        assert total == 64 * MIB
        client.close()


async def test_an_http2_client_that_resets_one_stream_ends_only_that_exchange(confdir: Path) -> None:
    async with seam(confdir, stalled, mode=["reverse:https://api.openai.com"]) as proxy:
        client = await Http2Client.connect(proxy.port)
        first, _second = client.get("/1"), client.get("/2")
        for _ in range(2):
            await client.until(h2.events.DataReceived)
        client.reset(first)
        one, two = proxy.claims.exchanges
        await one.closed.wait()
        assert not two.closed.is_set()
        client.close()
        await two.closed.wait()


async def test_a_size_option_never_streams_a_claimed_request(confdir: Path) -> None:
    async with seam(confdir, stream_large_bodies="1k") as proxy, aiohttp.ClientSession() as client:

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(8):
                yield bytes(1024)

        async with client.post(proxy.url, data=parts()) as answer:
            assert await answer.read() == b"data: hello\n\ndata: world\n\n"


async def test_ten_thousand_requests_leave_nothing_behind(confdir: Path) -> None:
    async with seam(confdir, lean=True) as proxy:
        connector = aiohttp.TCPConnector(limit=8)
        async with aiohttp.ClientSession(connector=connector) as client:

            async def some(count: int) -> None:
                for _ in range(count):
                    async with client.get(proxy.url) as answer:
                        await answer.read()

            await asyncio.gather(*(some(50) for _ in range(8)))
            proxy.claims.exchanges.clear()
            before = census()
            await asyncio.gather(*(some(1250) for _ in range(8)))
            proxy.claims.exchanges.clear()
            after = census()
        assert not proxy.servers.exchanges
        assert not proxy.servers.servers
        assert after["VirtualServer"] <= before["VirtualServer"] + 8
        assert after["Script"] <= before["Script"] + 8
        assert after["Task"] <= before["Task"] + 8
        assert after["Server"] <= before["Server"] + 16


def census() -> dict[str, int]:
    """Living objects of the kinds that could leak."""
    gc.collect()
    counts = dict.fromkeys(("VirtualServer", "Script", "Server", "Task"), 0)
    for found in gc.get_objects():
        name = type(found).__name__
        if name in counts:
            counts[name] += 1
    assert VirtualServer.__name__ in counts
    return counts


async def request(port: int, limit: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare HTTP/1.1 request, so that the test decides when to read and when to leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    writer.write(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    await writer.drain()
    return reader, writer


async def settled(measure: Callable[[], int]) -> int:
    """The measured number, once the proxy has not moved it for a thousand turns of the loop after it began."""
    last, still, deadline = -1, 0, time.monotonic() + 30
    while still < 1000 and time.monotonic() < deadline:
        await asyncio.sleep(0)
        current = measure()
        still = still + 1 if current == last and current > 0 else 0
        last = current
    return last


class Http2Client:
    """An HTTP/2 client that takes only what the test lets it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.events: list[h2.events.Event] = []

    @classmethod
    async def connect(cls, port: int) -> "Http2Client":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="api.openai.com"
        )
        client = cls(reader, writer)
        client.connection.initiate_connection()
        client.flush()
        return client

    def get(self, path: str) -> int:
        stream: int = self.connection.get_next_available_stream_id()
        names = {":method": "GET", ":scheme": "https", ":authority": "api.openai.com", ":path": path}
        self.connection.send_headers(stream, list(names.items()), end_stream=True)
        self.flush()
        return stream

    def acknowledge(self, size: int, stream: int) -> None:
        self.connection.acknowledge_received_data(size, stream)
        self.flush()

    def reset(self, stream: int) -> None:
        self.connection.reset_stream(stream, 8)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.connection.data_to_send())

    def close(self) -> None:
        self.writer.close()

    async def until[E: h2.events.Event](self, kind: type[E]) -> E:
        """The next event of this kind."""
        while True:
            for position, event in enumerate(self.events):
                if isinstance(event, kind):
                    del self.events[: position + 1]
                    return event
            data = await self.reader.read(65536)
            assert data, "the connection ended"
            self.events += self.connection.receive_data(data)
            self.flush()
