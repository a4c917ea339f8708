"""An HTTP client in the part of the browser, for tests of the login."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp


async def no_sleep(_seconds: float) -> None:
    """Waits for nothing, but lets others run."""
    await asyncio.sleep(0)


def asked(url: str) -> dict[str, str]:
    """What an authorize URL asks for."""
    return dict(parse_qsl(urlsplit(url).query))


def port_of(url: str) -> int:
    port = urlsplit(asked(url)["redirect_uri"]).port
    assert port is not None
    return port


class Answer:
    def __init__(self, status: int, headers: dict[str, str], text: str) -> None:
        self.status, self.headers, self.text = status, headers, text


async def get(port: int, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """One request of a browser; `host` overrides the Host header."""
    sent = {"Host": f"localhost:{port}"} | {k.replace("_", "-").title(): v for k, v in headers.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"http://127.0.0.1:{port}{path}", headers=sent) as response,
    ):
        return Answer(response.status, dict(response.headers), await response.text())


async def come_back(url: str, **query: str) -> Answer:
    """The issuer's redirect to the callback; without `state` it is the right one, "" leaves it out."""
    query = {"state": asked(url)["state"]} | query
    text = urlencode({name: value for name, value in query.items() if value})
    return await get(port_of(url), f"/auth/callback?{text}")


def is_listening(port: int) -> bool:
    """Whether a connection is accepted at this very moment: nothing else of the loop runs meanwhile."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def occupied() -> socket.socket:
    """A port held by a program that is no login server and never answers."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


class Browser:
    """Plays person and browser: `on_url` starts the walk, `page` is what they see in the end."""

    def __init__(self, **query: str) -> None:
        self.query = query
        self.walk: asyncio.Task[Answer] | None = None

    def on_url(self, url: str) -> None:
        self.walk = asyncio.create_task(come_back(url, **self.query))

    async def page(self) -> Answer:
        assert self.walk is not None
        return await self.walk
