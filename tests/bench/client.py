"""A lean HTTP/1.1 client: bytes out, chunks in, so that what is measured is the proxy and not the client."""

import asyncio
import re
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
END = b"\r\n0\r\n\r\n"


def untrusting() -> ssl.SSLContext:
    """TLS without verification: whom to trust is not measured here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


TLS = untrusting()


@dataclass(slots=True)
class Way:
    """How requests reach the backend: straight, or through a proxy's CONNECT."""

    name: str
    url: str
    proxy_port: int | None = None
    pid: int | None = None
    """Of the proxy, whose CPU time and memory count."""
    headers: bytes = b"authorization: Bearer any\r\n"

    def request(self, body: bytes) -> bytes:
        parts = urlsplit(self.url)
        head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n".encode() + self.headers
        return head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that is ready for requests."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or 443
        if self.proxy_port is None:
            return await asyncio.open_connection(host, port, ssl=TLS, limit=2**20)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy_port, limit=2**20)
        writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await writer.start_tls(TLS, server_hostname=host)
        return reader, writer


@dataclass(slots=True)
class Timing:
    """One answer: seconds to its first byte, and the delay of each stamped event in seconds."""

    first: float = 0.0
    delays: list[float] = field(default_factory=list)


async def ask(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes, *, stamped: bool = False
) -> Timing:
    """Send a request and read its whole answer."""
    reader, writer = connection
    timing = Timing()
    started = time.perf_counter()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head[:16]:
        raise RuntimeError(head.decode(errors="replace"))
    length = LENGTH.search(head)  # an answer that was complete at once has one
    tail, size = b"", 0
    while size < int(length[1]) if length else not tail.endswith(END):
        data = await reader.read(2**18)
        now = time.monotonic_ns()
        if not data:
            raise RuntimeError("the answer was cut")
        size += len(data)
        if not timing.first:
            timing.first = time.perf_counter() - started
        if stamped:
            timing.delays += delays(data, now)
        tail = (tail + data)[-len(END) :]
    return timing


def delays(data: bytes, now: int) -> list[float]:
    """Seconds since each stamp in the bytes: a delta whose text is the sender's monotonic clock."""
    found = []
    for part in data.split(b'"delta":"')[1:]:
        stamp = part[:20].strip()
        if stamp.isdigit():
            found.append((now - int(stamp)) / 1e9)
    return found
