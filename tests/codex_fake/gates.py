"""Where a test makes the server wait: gates, event-by-event holds, and the board that tells what happened.

Nothing here sleeps or polls: the server announces every change on the board, a test waits for a condition on
it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Gate:
    """A closed door that a request stands before until `release()`."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._reached = asyncio.Event()

    async def reached(self) -> None:
        """Wait until a request stands at the gate."""
        await self._reached.wait()

    def release(self) -> None:
        """Open the gate for good."""
        self._open.set()

    async def passing(self) -> None:
        """Server side: announce the arrival and wait for the release."""
        self._reached.set()
        await self._open.wait()


class Hold:
    """Lets a stream go on one event at a time."""

    def __init__(self) -> None:
        self.written = 0  # events that have been handed to the socket
        self._permits = asyncio.Semaphore(0)
        self._free = False
        self._finished = False
        self._progress = asyncio.Event()

    async def step(self, events: int = 1) -> None:
        """Let `events` more events out and wait until they are written (or the stream has ended)."""
        target = self.written + events
        for _ in range(events):
            self._permits.release()
        while self.written < target and not self._finished:
            await self._progress.wait()
            self._progress.clear()

    def release(self) -> None:
        """Let everything else out without waiting."""
        self._free = True
        self._permits.release()

    async def before(self) -> None:
        """Server side: wait for the permission to write one event."""
        if not self._free:
            await self._permits.acquire()

    def wrote(self) -> None:
        """Server side: one event is written."""
        self.written += 1
        self._progress.set()

    def finish(self) -> None:
        """Server side: no more events will come."""
        self._finished = True
        self._progress.set()


class Board:
    """Counters of the server, and a way to wait for them."""

    def __init__(self) -> None:
        self.open_streams = 0
        self.aborted = 0  # streams the client left before their end
        self.served = 0  # requests that got a generation answer
        self._changed = asyncio.Event()

    def change(self) -> None:
        """Wake everybody who waits for a condition."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()` holds; it is asked again after each change."""
        while not condition():
            await self._changed.wait()
