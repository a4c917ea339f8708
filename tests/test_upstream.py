"""The transport: what becomes of its connections, and what its failures say."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from unittest import mock

import pytest
from aiohttp import web

from addon.upstream.http_sse import Upstream, UpstreamError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def backend(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_a_released_connection_serves_the_next_request_although_its_end_comes_late() -> None:
    peers: list[object] = []
    end = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport
        peers.append(request.transport.get_extra_info("peername"))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: the terminal event\n\n")
        await end.wait()
        await response.write_eof()
        return response

    async with backend(answer) as url, Upstream() as upstream:
        first = await upstream.send("POST", url, {}, b"{}")
        assert await first.read()
        first.release()  # its end is not there yet
        end.set()
        while upstream.draining:
            await asyncio.sleep(0)
        second = await upstream.send("POST", url, {}, b"{}")
        while await second.read():
            pass
        second.release()
    assert len(set(peers)) == 1


async def test_a_closed_answer_closes_its_connection() -> None:
    gone = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return response

    async with backend(answer) as url, Upstream() as upstream:
        reply = await upstream.send("POST", url, {}, b"{}")
        assert await reply.read()
        reply.close()
        await gone.wait()


async def test_nothing_was_sent_if_nobody_listens() -> None:
    async with Upstream() as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.send("POST", "http://127.0.0.1:1/", {}, b"{}")
    assert not error.value.sent
    assert error.value.failure.status == 502


async def test_an_answer_that_is_cut_says_so_and_may_have_been_billed() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        assert request.transport
        request.transport.abort()
        return response

    async with backend(answer) as url, Upstream() as upstream:
        reply = await upstream.send("POST", url, {}, b"{}")
        with pytest.raises(UpstreamError) as error:
            while await reply.read():
                pass
    assert error.value.sent
    assert error.value.failure.code == "upstream_cut"


async def test_silence_is_a_timeout() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with backend(answer) as url, Upstream(idle_timeout=0.01) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.send("POST", url, {}, b"{}")
    assert error.value.failure.status == 504


async def test_the_proxy_in_our_own_environment_is_not_ours() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text="straight")

    with mock.patch.dict(
        os.environ, {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    ):
        async with backend(answer) as url, Upstream() as upstream:
            reply = await upstream.send("POST", url, {}, b"{}")
            assert await reply.body() == b"straight"


async def test_a_proxy_of_our_own_is_used_if_it_is_set() -> None:
    asked: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nvia")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Upstream(proxy=f"http://127.0.0.1:{port}") as upstream:
            reply = await upstream.send("POST", "http://backend.invalid/x", {}, b"{}")
            assert await reply.body() == b"via"
    assert asked == ["POST http://backend.invalid/x HTTP/1.1"]
