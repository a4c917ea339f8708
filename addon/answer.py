"""What all exchanges have in common: bytes that are due, more where they come from, and an end."""

from abc import ABC, abstractmethod

from mitmproxy import http


class Answer(ABC):
    """See virtual_server.Answerer for the members. A subclass makes `_next`, and `_over` once nothing follows."""

    def __init__(self) -> None:
        self.response: http.Response | None = None
        self.chunk = b""
        self.error: str | None = None
        self.upgraded = False
        self.sign_of_life = b""
        self._ready = b""
        """Bytes that are due before anything is read."""
        self._over = False
        """Nothing comes after `_ready`."""

    async def read(self) -> None:
        while not self._ready and not self._over:
            self._ready = await self._next()
        self.chunk, self._ready = self._ready, b""

    def feed(self, data: bytes) -> None:  # noqa: B027 - nothing to do, for all of them
        """Only a WebSocket client sends anything after its request, and its upgrade is refused with a 426."""

    def close(self) -> None:
        self._over = True
        self._ready = b""

    @abstractmethod
    async def _next(self) -> bytes:
        """The client's next bytes; may be none yet."""
