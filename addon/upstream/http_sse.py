"""
The HTTP transport: one request to the backend, its answer read as it comes.

One pooled aiohttp session serves all accounts. A second session makes a fresh connection for every request: it is
for the single retry after a connection failed or Cloudflare refused one. Neither looks at HTTPS_PROXY, which in our
own environment may well name ourselves; a proxy for the way up is a setting of its own.

The rule: nothing is retried here, and every failure says whether the request can have reached the backend.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp

from accounts.online import trusted_roots
from addon.protocol import errors

CONNECT_TIMEOUT = 15.0
"""Seconds for TCP and TLS, as the official client's."""
IDLE_TIMEOUT = 300.0
"""Seconds without a byte on a stream, as the official client's `stream_idle_timeout_ms`."""
DRAIN_TIMEOUT = 2.0
"""Seconds for which a finished answer may still hold its connection; a backend that takes longer loses it."""
ERROR_BODY_LIMIT = 2**20
"""Bytes of a refusal's body that are read: enough for any JSON, and for what is worth reading of a page."""


class UpstreamError(Exception):
    """The transport failed. `sent` tells whether the request may have been processed, and billed."""

    def __init__(self, failure: errors.Failure, *, sent: bool) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.sent = sent


class Reply:
    """An answer whose head has come. `read` gives its bytes as they arrive; `close` ends it at once."""

    def __init__(
        self, response: aiohttp.ClientResponse, drain: Callable[[aiohttp.ClientResponse], None]
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._drain = drain

    async def read(self) -> bytes:
        """The next bytes; b"" at the end. Raises UpstreamError when the stream is cut or idle too long."""
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise UpstreamError(
                errors.network("timeout", "The backend sent nothing for too long; the answer was given up."),
                sent=True,
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(
                errors.network("cut", f"The backend's answer broke off ({_cause(error)})."), sent=True
            ) from None

    async def body(self) -> bytes:
        """The rest of a refusal, at most ERROR_BODY_LIMIT bytes; what a broken one had until then."""
        parts, size = [], 0
        try:
            while size < ERROR_BODY_LIMIT and (part := await self.read()):
                parts.append(part)
                size += len(part)
        except UpstreamError:
            pass
        return b"".join(parts)

    def release(self) -> None:
        """Everything that matters was read: keep the connection for the next request, once its last bytes are there."""
        if self._response.content.at_eof():
            self._response.close()
        else:
            self._drain(self._response)

    def close(self) -> None:
        """Close the connection unless the answer was read to its end."""
        self._response.close()


class Upstream:
    """The pooled way to the backend. Use as an async context manager."""

    def __init__(
        self,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
        proxy: str | None = None,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=connect_timeout, sock_read=idle_timeout
        )
        self._proxy = proxy
        self._pooled: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self.draining: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        tls = trusted_roots()
        self._pooled = self._session(aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=60))
        self._fresh = self._session(aiohttp.TCPConnector(limit=0, ssl=tls, force_close=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self.draining:
            task.cancel()
        for session in (self._pooled, self._fresh):
            if session:
                await session.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            trust_env=False,
            proxy=self._proxy,
            cookie_jar=aiohttp.DummyCookieJar(),  # Cloudflare's cookies would tie the accounts together
            skip_auto_headers=("user-agent", "accept-encoding"),
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
            read_bufsize=64 * 1024,
        )

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pooled session, for the small calls beside the main one: tokens, usage, catalogue."""
        assert self._pooled, "Upstream is used before it is entered"
        return self._pooled

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, fresh: bool = False
    ) -> Reply:
        """Send one request; returns when the answer's head is there. Raises UpstreamError."""
        session = self._fresh if fresh else self._pooled
        assert session, "Upstream is used before it is entered"
        try:
            response = await session.request(method, url, data=body, headers=headers, allow_redirects=False)
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ClientProxyConnectionError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientHttpProxyError,
        ) as error:
            raise UpstreamError(
                errors.network("connect", f"The backend cannot be reached ({_cause(error)})."), sent=False
            ) from None
        except TimeoutError:
            raise UpstreamError(
                errors.network("timeout", "The backend did not answer in time."), sent=True
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(
                errors.network(
                    "cut", f"The backend closed the connection without an answer ({_cause(error)})."
                ),
                sent=True,
            ) from None
        return Reply(response, self._drain)

    def _drain(self, response: aiohttp.ClientResponse) -> None:
        task = asyncio.create_task(_drained(response))
        self.draining.add(task)
        task.add_done_callback(self.draining.discard)


async def _drained(response: aiohttp.ClientResponse) -> None:
    """Read what is left of an answer, which is its end and no more."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    finally:
        response.close()


def _cause(error: BaseException) -> str:
    """A short text for people; never a header or a body."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error.strerror or error.os_error) if error.os_error else type(error).__name__
    if isinstance(error, asyncio.TimeoutError):
        return "timed out"
    return type(error).__name__
