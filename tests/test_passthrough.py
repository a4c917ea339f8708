"""What is not served goes on to the real API as it came, or is answered here: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from accounts.settings import Settings
from addon.intercept import Intercept
from addon.virtual_server import VirtualServers
from tests.codex_fake.tls import server_context
from tests.mitmproxy_in_process import mitmproxy
from tests.openai_stand_in import OpenAIStandIn

REAL = "Bearer sk-proj-Ab3dE5gH1jK2mN4pQ6rS8tU0"


class ToStandIn:
    """Leads connections to api.openai.com to the stand-in, and counts every attempt to connect anywhere."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.wanted: list[tuple[str, int]] = []

    def server_connect(self, data: ServerConnectionHookData) -> None:
        assert data.server.address
        self.wanted.append(data.server.address[:2])
        data.server.address = ("127.0.0.1", self.port)


@dataclass
class Way:
    """A proxy with the real API behind it."""

    port: int
    openai: OpenAIStandIn
    connections: ToStandIn
    ca: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, direct: bool, **values: Any) -> httpx.AsyncClient:
        if direct:
            return httpx.AsyncClient(base_url=self.origin, trust_env=False, **values)
        tls = ssl.create_default_context(cafile=self.ca)
        return httpx.AsyncClient(
            base_url="https://api.openai.com", proxy=self.origin, verify=tls, trust_env=False, **values
        )

    async def raw(self, data: bytes) -> bytes:
        """All that the proxy answers to these bytes on its port."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def way(tmp_path: Path, **settings: Any) -> AsyncIterator[Way]:
    tls, _ = server_context(tmp_path)
    services: Any = SimpleNamespace(settings=Settings(**settings), no_settings="")
    servers = VirtualServers()
    async with OpenAIStandIn(tls) as openai:
        connections = ToStandIn(openai.port)
        addons = (servers, Intercept(services, servers), connections)
        async with mitmproxy(tmp_path / "conf", *addons, ssl_insecure=True) as (_, port):
            yield Way(port, openai, connections, tmp_path / "conf/mitmproxy-ca-cert.pem")


@pytest.fixture(params=[True, False], ids=["base URL", "HTTPS_PROXY"])
def direct(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_real_key_goes_on_with_path_query_body_and_headers_as_they_came(
    tmp_path: Path, direct: bool
) -> None:
    body = gzip.compress(b'{"input": "hello"}')
    headers = {"authorization": REAL, "content-encoding": "gzip", "x-own": "1", "openai-project": "p"}
    async with way(tmp_path) as here, here.client(direct) as client:
        answer = await client.post("/v1/embeddings?a=%2Fb&c", content=body, headers=headers)
    assert answer.json() == {"object": "list", "data": []}
    assert answer.headers["x-request-id"] == "req_real"
    (seen,) = here.openai.requests
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/embeddings?a=%2Fb&c", body)
    assert headers.items() <= seen.headers.items()
    assert seen.headers["host"] == "api.openai.com"
    assert here.connections.wanted == [("api.openai.com", 443)]


async def test_without_a_real_key_the_answer_comes_from_here_alone(tmp_path: Path, direct: bool) -> None:
    async with way(tmp_path) as here, here.client(direct) as client:
        for key in ("any", "sk-proxy", "oa-mine"):
            answer = await client.post("/v1/embeddings", json={}, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "unsupported_endpoint"
        assert (await client.put("/v1/responses/what", content=b"x")).status_code == 400
        assert (await client.post("/v1/teleport")).status_code == 404
    assert not here.connections.wanted


async def test_the_setting_decides(tmp_path: Path) -> None:
    async with way(tmp_path, unsupported="error") as here, here.client(True) as client:
        answer = await client.get("/v1/files", headers={"authorization": REAL})
        assert answer.status_code == 400
    async with way(tmp_path, unsupported="pass") as here, here.client(True) as client:
        answer = await client.get("/v1/files", headers={"authorization": "Bearer any"})
        assert answer.status_code == 200


async def test_an_answer_streams_through(tmp_path: Path, direct: bool) -> None:
    async with way(tmp_path) as here, here.client(direct) as client:
        gate = here.openai.hold()
        async with client.stream("POST", "/v1/audio/speech", headers={"authorization": REAL}) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == b"data: one\n\n"
            gate.release()
            assert b"".join([piece async for piece in pieces]) == b"data: two\n\n"


async def test_an_upload_streams_through(tmp_path: Path, direct: bool) -> None:
    arrived = asyncio.Event()

    async def upload() -> AsyncIterator[bytes]:
        yield b"first"
        await arrived.wait()
        yield b"last"

    async with way(tmp_path) as here, here.client(direct) as client:
        sending = asyncio.create_task(
            client.post("/v1/files", content=upload(), headers={"authorization": REAL})
        )
        await here.openai.board.until(
            lambda: here.openai.requests[-1:] != [] and here.openai.requests[0].body == b"first"
        )
        arrived.set()
        assert (await sending).status_code == 200
        assert here.openai.requests[0].body == b"firstlast"


async def test_traces_of_openai_agents_are_taken_without_a_word(tmp_path: Path, direct: bool) -> None:
    async with way(tmp_path) as here, here.client(direct) as client:
        answer = await client.post(
            "/v1/traces/ingest", json={"data": []}, headers={"authorization": "Bearer any"}
        )
        assert answer.status_code == 204
        assert not here.connections.wanted
        await client.post("/v1/traces/ingest", json={"data": []}, headers={"authorization": REAL})
        assert here.openai.requests[0].path == "/v1/traces/ingest"


async def test_our_own_port_says_what_it_is(tmp_path: Path) -> None:
    async with way(tmp_path) as here, here.client(True) as client:
        for path in ("/", "/v1", "/v1/"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "openai-auth-proxy" in answer.text
            assert answer.headers["content-type"].startswith("text/plain")
        assert (await client.get("/health")).text == "ok\n"
        assert (await client.get("/favicon.ico")).status_code == 204
        assert (await client.head("/")).status_code == 200
        assert (await client.head("/v1/files")).status_code == 400
        assert (await client.options("/v1/responses")).status_code == 204
        assert (await client.get("/health")).status_code == 200  # nothing above broke the connection
    assert not here.connections.wanted


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: anything.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a-name-of-ours:1\r\nConnection: close\r\n\r\n",
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n",
        "GET http://localhost:{port}/v1/ HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n",
    ],
)
async def test_our_own_port_is_found_however_it_is_asked(tmp_path: Path, request_line: str) -> None:
    async with way(tmp_path) as here:
        answer = await here.raw(request_line.format(port=here.port).encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"openai-auth-proxy" in answer
    assert not here.connections.wanted


@pytest.mark.parametrize("host", ["127.0.0.1:{other}", "localhost:{other}", "other.example:{port}"])
async def test_a_proxied_request_for_somebody_else_is_left_alone(tmp_path: Path, host: str) -> None:
    async with way(tmp_path) as here, OpenAIStandIn() as other:
        here.connections.port = other.port
        host = host.format(port=here.port, other=other.port)
        request = f"POST http://{host}/v1/responses HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        answer = await here.raw(f"{request}Content-Length: 14\r\n\r\n".encode() + b'{"model": "m"}')
        assert b"from the real API" in answer
        assert other.requests[0].body == b'{"model": "m"}'


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


async def test_a_stray_http2_preface_ends_its_own_connection_only(tmp_path: Path) -> None:
    """mitmproxy itself gives such a connection up. It reaches nobody, and the next client is served."""
    async with way(tmp_path, unsupported="pass") as here:
        assert await here.raw(PREFACE) == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await writer.start_tls(ssl.create_default_context(cafile=here.ca), server_hostname="api.openai.com")
        writer.write(PREFACE)
        assert await reader.read() == b""
        writer.close()
        assert (await here.raw(b"GET /health HTTP/1.0\r\n\r\n")).endswith(b"ok\n")
    assert not here.connections.wanted


async def test_an_upload_that_is_refused_is_not_kept(tmp_path: Path) -> None:
    async def upload() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield bytes(2**20)

    async with (
        way(tmp_path) as here,
        aiohttp.ClientSession() as client,
        client.post(f"{here.origin}/v1/files", data=upload()) as answer,
    ):
        assert answer.status == 400
    assert not here.connections.wanted
