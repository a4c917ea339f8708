"""A proxy for the way up that refuses us: its password is in no error of anyone who meets it."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from accounts import doctor_online
from accounts.models import Access, Secret
from accounts.oauth import Issuer
from accounts.online import session
from accounts.settings import Settings
from accounts.wham import Wham
from addon.upstream.http_sse import Upstream

PASSWORD = "correct-horse"


@pytest.fixture
async def settings() -> AsyncIterator[Settings]:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield Settings(
            upstream_proxy=f"http://me:{PASSWORD}@127.0.0.1:{port}",
            backend_url="https://backend.invalid",
            issuer_url="https://issuer.invalid",
        )


async def refresh(http: aiohttp.ClientSession) -> object:
    return await Issuer(http, "https://issuer.invalid").refresh(Secret("rt"))


async def usage(http: aiohttp.ClientSession) -> object:
    wham = Wham(http, lambda: "https://backend.invalid", user_agent=lambda: "test")
    return await wham.call("GET", "/wham/usage", Access(Secret("at"), "acc"), now=0.0)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("call", [refresh, usage])
async def test_a_refusing_proxy_is_named_without_its_password(
    settings: Settings, call: Callable[[aiohttp.ClientSession], Awaitable[object]]
) -> None:
    async with session(settings) as http:
        with pytest.raises(Exception, match="ClientHttpProxyError") as refused:
            await call(http)
    assert PASSWORD not in shown(refused.value)


async def test_a_request_names_it_without_its_password(settings: Settings) -> None:
    async with Upstream(proxy=settings.upstream_proxy) as upstream:
        with pytest.raises(Exception, match="cannot be reached") as refused:
            await upstream.send("POST", "https://backend.invalid", {}, b"{}")
    assert PASSWORD not in shown(refused.value)


async def test_doctor_names_it_without_its_password(settings: Settings) -> None:
    found = [str(finding) async for finding in doctor_online.servers(settings)]
    assert any("ClientHttpProxyError" in finding for finding in found)
    assert not any(PASSWORD in finding for finding in found)
