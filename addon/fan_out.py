"""
One answer out of several: n choices, or n images, each a generation of its own.

Every exchange goes its own way, to the account that the same conversation has. The chunks of a stream are handed on as
they come, each knows its place; objects are joined at the end (addon/protocol/choices.py).

The rules: a read goes on only when the client has taken what came before, so back-pressure reaches every backend
stream. And they stand and fall together: the first failure is the answer, and ends the others.
"""

import asyncio
from collections.abc import Callable, Sequence

from mitmproxy import http

from addon.answer import Answer
from addon.exchange import ACCOUNT_HEADER, Exchange
from addon.protocol import errors
from addon.protocol.failure import Refused

AT_ONCE = 16
"""Exchanges that look for an answer at the same time."""


class FanOut(Answer):
    """Answers one request with several exchanges.

    `join` makes the end of the stream, or the whole body, once every answer is there.
    """

    def __init__(self, exchanges: Sequence[Exchange], join: Callable[[], bytes], *, stream: bool) -> None:
        super().__init__()
        self._exchanges = exchanges
        self._join = join
        self._stream = stream
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}
        self._running = list(exchanges)

    async def open(self) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        for exchange in self._exchanges:
            self._tasks[exchange] = asyncio.create_task(_open(exchange, gate))
        while self._tasks:
            for exchange in await self._done():
                assert exchange.response
                if exchange.response.status_code != 200:
                    await self._only(exchange)
                    return
        self.response = self._head()
        self.sign_of_life = self._exchanges[0].sign_of_life
        if not self._stream:
            try:
                self._finish(self._join())
            except Refused as broken:
                self._finish(errors.body(broken.failure))
                self.response.status_code = broken.failure.status
            self.response.headers["content-length"] = str(len(self._ready))

    def close(self) -> None:
        super().close()
        for task in self._tasks.values():
            task.cancel()
        for exchange in self._exchanges:
            exchange.close()

    async def _next(self) -> bytes:
        """What the next exchange that has something has for the client."""
        for exchange in self._running:
            if exchange not in self._tasks:
                self._tasks[exchange] = asyncio.create_task(exchange.read())
        parts: list[bytes] = []
        for exchange in await self._done():
            parts.append(exchange.chunk)
            if exchange.broken:  # its chunk tells the client so; no [DONE] comes after that
                self._end_others(exchange)
                self._finish(b"".join(parts))
                return self._ready
            if not exchange.chunk:
                self._running.remove(exchange)
        if not self._running:
            self._finish(b"".join((*parts, self._join())))
            return self._ready
        return b"".join(parts)

    async def _done(self) -> list[Exchange]:
        """The exchanges whose step is done, when there is one. Raises what went wrong in it."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        finished = [exchange for exchange, task in self._tasks.items() if task in done]
        for exchange in finished:
            await self._tasks.pop(exchange)
        return finished

    async def _only(self, exchange: Exchange) -> None:
        """The answer is this exchange's refusal."""
        self._end_others(exchange)
        await exchange.read()
        self.response = exchange.response
        self._finish(exchange.chunk)

    def _end_others(self, kept: Exchange) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        for exchange in self._exchanges:
            if exchange is not kept:
                exchange.close()

    def _finish(self, last: bytes) -> None:
        self._over = True
        self._ready = last

    def _head(self) -> http.Response:
        """The head of the first answer, naming every account that served."""
        heads = [exchange.response for exchange in self._exchanges if exchange.response]
        names = dict.fromkeys(head.headers.get(ACCOUNT_HEADER, "") for head in heads)
        heads[0].headers[ACCOUNT_HEADER] = ", ".join(names)
        return heads[0]


async def _open(exchange: Exchange, gate: asyncio.Semaphore) -> None:
    async with gate:
        await exchange.open()
