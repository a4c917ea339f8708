"""
Requests in the background: answered like any other, but their end does not hang on the client.

`background: true` asks for an answer that is fetched later. Here it is made at once: who waits gets it whole, and who
leaves finds it among the stored responses. So the exchange runs in a task of its own, and the client's connection only
listens to it.

The rule: it ends by itself, by a cancel of the client that made it, or with the proxy.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mitmproxy import http

from addon.exchange import Exchange
from addon.protocol import errors, sse

logger = logging.getLogger(__name__)


class Running:
    """The background answers that are being made in this process, by response id once they have one."""

    def __init__(self) -> None:
        self._known: dict[str, Detached] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, id: str, client: str) -> "Detached | None":
        """The running answer of this id if this client asked for it."""
        found = self._known.get(id)
        return found if found and found.client == client else None

    def begin(self, detached: "Detached") -> asyncio.Task[None]:
        """Run it to its end."""
        task = asyncio.create_task(detached.run(), name="background response")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def name(self, id: str, detached: "Detached") -> None:
        """It said which response it is."""
        self._known[id] = detached

    def end(self, detached: "Detached") -> None:
        """It is over."""
        if detached.response_object:
            self._known.pop(detached.response_object["id"], None)

    async def close(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Detached:
    """An exchange behind an exchange; `input` are the items of the conversation it answers.

    `unfinished` gets what there is of an answer that was cancelled or broke off. See virtual_server.Answerer for the
    members.
    """

    def __init__(
        self,
        exchange: Exchange,
        running: Running,
        client: str,
        input: list[Any],
        unfinished: Callable[[dict[str, Any]], object],
    ) -> None:
        self.response: http.Response | None = None
        self.chunk = b""
        self.error: str | None = None
        self.upgraded = False
        self.sign_of_life = b""
        self.client = client
        self.input = input
        self.response_object: dict[str, Any] | None = None
        """The Response object as the client of a stream first saw it."""
        self._exchange = exchange
        self._running = running
        self._unfinished = unfinished
        self._task: asyncio.Task[None] | None = None
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._left = False

    async def open(self) -> None:
        self._task = self._running.begin(self)
        await self._begun.wait()

    async def read(self) -> None:
        self.chunk = await self._chunks.get()

    def feed(self, data: bytes) -> None:
        """A WebSocket client has no requests in the background."""

    def close(self) -> None:
        """The client has its answer, or is gone; the answer goes on."""
        self._left = True

    def cancel(self) -> dict[str, Any]:
        """End the answer; a client that still listens is told. Returns the cancelled Response object."""
        assert self._task
        assert self.response_object
        self._task.cancel()
        cancelled = errors.refuse(499, "The response was cancelled.", code="response_cancelled").failure
        end = self._exchange.abort(cancelled)
        self._chunks.put_nowait(end)
        output = _failed(end).get("output", [])
        self.response_object = {**self.response_object, "status": "cancelled", "output": output}
        self._running.end(self)
        self._unfinished(self.response_object)
        return self.response_object

    async def run(self) -> None:
        """Make the answer, whoever listens."""
        try:
            await self._exchange.open()
            self.response = self._exchange.response
            self.sign_of_life = self._exchange.sign_of_life
            self._begun.set()
            last = b""
            await self._exchange.read()
            while chunk := self._exchange.chunk:
                last = chunk
                if self.response_object is None:
                    self._identify(chunk)
                if not self._left:
                    self._chunks.put_nowait(chunk)
                await self._exchange.read()
            if self._exchange.broken:
                self._keep(last)
        except Exception:
            logger.exception("A background response broke.")
            self.error = "The proxy failed to answer this request; its log says why."
            self._keep(self._exchange.abort(errors.refuse(500, self.error, code="proxy_error").failure))
        finally:
            self._exchange.close()
            self._running.end(self)
            self._begun.set()
            self._chunks.put_nowait(b"")

    def _keep(self, end: bytes) -> None:
        """Store the failed answer whose last bytes these are, for who comes back for it."""
        if self.response_object:
            self._unfinished({**self.response_object, "status": "failed", **_failed(end)})

    def _identify(self, chunk: bytes) -> None:
        """Learn the response's id from the first events of a stream."""
        assert self.response
        if not self.response.headers["content-type"].startswith("text/event-stream"):
            return
        for frame in sse.Decoder().feed(chunk):
            if frame.type == "response.created":
                self.response_object = frame.json()["response"]
                self._running.name(self.response_object["id"], self)
                return


def _failed(end: bytes) -> dict[str, Any]:
    """The Response object of the `response.failed` in these bytes; empty if there is none."""
    failures = [frame.json() for frame in sse.Decoder().feed(end) if frame.type == "response.failed"]
    return failures[0]["response"] if failures else {}
