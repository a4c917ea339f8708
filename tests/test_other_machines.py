"""What a proxy that listens beyond loopback does for other machines: over real sockets, from a made-up address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.connection import Client
from mitmproxy.test import taddons
from openai import AuthenticationError

from accounts.settings import Settings
from addon.intercept import Intercept
from addon.options import Options
from addon.other_machines import OtherMachines, from_here
from addon.virtual_server import VirtualServers
from tests.mitmproxy_in_process import mitmproxy
from tests.openai_stand_in import OpenAIStandIn
from tests.world import world

FAR = "192.0.2.9"


class From:
    """Makes clients come from an address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def client_connected(self, client: Client) -> None:
        client.peername = (self.address, 40000)


@contextlib.asynccontextmanager
async def proxy(tmp_path: Path, address: str, **options: Any) -> AsyncIterator[int]:
    servers = VirtualServers()
    services: Any = SimpleNamespace(settings=Settings(), no_settings="")
    addons = (From(address), servers, OtherMachines(), Intercept(services, servers))
    async with mitmproxy(tmp_path, *addons, **options) as (_, port):
        yield port


async def ask(port: int, head: str) -> str:
    """What the proxy answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode())
    if head.startswith("CONNECT"):
        answer = await reader.readuntil(b"\r\n\r\n")
    else:
        answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_other_machines_get_openai_and_no_other_host(tmp_path: Path) -> None:
    async with OpenAIStandIn() as inside, proxy(tmp_path, FAR) as port:
        host = f"127.0.0.1:{inside.port}"
        for head in (
            f"CONNECT {host} HTTP/1.1\r\nHost: {host}",
            f"CONNECT {host} HTTP/1.1\r\nHost: api.openai.com:443",
            "CONNECT api.openai.com:22 HTTP/1.1\r\nHost: api.openai.com:22",
            f"GET http://{host}/v1/files HTTP/1.1\r\nHost: {host}",
            f"GET https://{host}/v1/files HTTP/1.1\r\nHost: api.openai.com",
        ):
            assert (await ask(port, head)).startswith("HTTP/1.1 403"), head
        assert not inside.requests
        tunnel = await ask(port, "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443")
        assert tunnel.startswith("HTTP/1.1 200")
        for head in (
            "GET /health HTTP/1.1\r\nHost: evil.example:1",
            f"GET http://127.0.0.1:{port}/health HTTP/1.1\r\nHost: 127.0.0.1:{port}",
        ):
            assert (await ask(port, head)).endswith("ok\n")
        through = await ask(port, "GET http://api.openai.com/v1/files HTTP/1.1\r\nHost: api.openai.com")
        assert "unsupported_endpoint" in through  # answered here, for want of a real key


async def test_this_machine_and_whoever_has_the_password_reach_every_host(tmp_path: Path) -> None:
    async with OpenAIStandIn() as other:
        head = f"GET http://127.0.0.1:{other.port}/ HTTP/1.1\r\nHost: 127.0.0.1:{other.port}"
        for address, options in (("127.0.0.1", {}), ("::ffff:127.0.0.1", {}), (FAR, {"proxyauth": "any"})):
            async with proxy(tmp_path, address, **options) as port:
                answer = await ask(port, f"{head}\r\nProxy-Authorization: Basic dXNlcjp3b3Jk")
                assert answer.startswith("HTTP/1.1 200"), address


@pytest.mark.parametrize(
    ("peer", "own", "here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("192.168.1.5", "192.168.1.5", True),  # by the machine's name
        ("192.168.1.6", "192.168.1.5", False),
        ("172.17.0.1", "172.17.0.2", False),  # into a container
    ],
)
def test_a_client_of_this_machine_is_known_by_its_address(peer: str, own: str, here: bool) -> None:
    assert from_here(Client(peername=(peer, 40000), sockname=(own, 8080))) is here


@pytest.mark.parametrize(
    ("listen_host", "open_to_others"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("", True),
        ("0.0.0.0", True),
        ("box", True),
    ],
)
def test_a_port_is_open_to_others_unless_it_is_loopback(listen_host: str, open_to_others: bool) -> None:
    with taddons.context() as mitmproxy:
        mitmproxy.options.update(listen_host=listen_host)
        assert Options().open_to_others is open_to_others


async def test_the_start_warns_when_everybody_is_served(tmp_path: Path) -> None:
    everywhere = ("--listen-host", "0.0.0.0")
    async with world(tmp_path, *everywhere, accounts=False) as here:
        await here.proxy.wait_for("Other machines can reach this port")
        await here.openai_auth("keys", "add", "laptop")
        async with here.start_proxy(*everywhere) as proxy, here.client(proxy=proxy, direct=True) as client:
            with pytest.raises(AuthenticationError, match="client keys only"):
                await client.models.list()
            assert "Other machines" not in proxy.log
