"""A real headless Chromium, driven over its debugging protocol by nothing but aiohttp."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no chromium found: apt-get install chromium"

FLAGS = (
    *("--headless=new", "--remote-debugging-port=0", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--no-proxy-server", "--window-size=800,600"),
)


class Page:
    """One tab. What it is asked to wait for is looked for after every event that the browser sends."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket = socket
        self._session = session
        self._sent = 0
        self._events: list[dict[str, Any]] = []

    async def goto(self, url: str) -> None:
        """Opens an address and waits until the page is loaded."""
        await self._call("Page.navigate", url=url)
        await self._event("Page.loadEventFired")

    async def press(self, selector: str) -> None:
        """Clicks an element as a person does, with the mouse, and waits for the page that this leads to."""
        middle = "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        x, y = await self.evaluate(f"{middle}(document.querySelector({selector!r}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            await self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        await self._event("Page.loadEventFired")

    async def choose(self, selector: str, value: str) -> None:
        await self.evaluate(f"void (document.querySelector({selector!r}).value = {value!r})")

    async def text(self) -> str:
        return str(await self.evaluate("document.body.innerText"))

    async def evaluate(self, expression: str) -> Any:
        answer = await self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def screenshot(self, *, dark: bool = False) -> bytes:
        """A PNG of what a person sees."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._call("Emulation.setEmulatedMedia", features=[scheme])
        return base64.b64decode((await self._call("Page.captureScreenshot"))["data"])

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        call = {"id": self._sent, "method": method, "params": params}
        await self._socket.send_json(call | ({"sessionId": self._session} if self._session else {}))
        while "id" not in (message := await self._socket.receive_json()):
            self._events.append(message)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def _event(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(await self._socket.receive_json())
        self._events.clear()


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Page]:
    """A tab of a fresh browser, whose profile lies in `folder`."""
    assert BINARY, MISSING
    browser = await asyncio.create_subprocess_exec(
        BINARY, *FLAGS, f"--user-data-dir={folder}", "about:blank", stderr=asyncio.subprocess.PIPE
    )
    try:
        async with (
            asyncio.timeout(60),
            aiohttp.ClientSession() as http,
            http.ws_connect(await _address(browser), max_msg_size=0) as socket,
        ):
            root = Page(socket, "")
            target = (await root._call("Target.createTarget", url="about:blank"))["targetId"]
            attached = await root._call("Target.attachToTarget", targetId=target, flatten=True)
            page = Page(socket, attached["sessionId"])
            await page._call("Page.enable")
            yield page
    finally:
        browser.kill()
        await browser.communicate()


async def _address(browser: asyncio.subprocess.Process) -> str:
    assert browser.stderr
    seen = ""
    async for line in browser.stderr:
        seen += (text := line.decode(errors="replace"))
        if found := re.search(r"DevTools listening on (ws://\S+)", text):
            return found[1]
    raise AssertionError(f"chromium did not start:\n{seen}")
