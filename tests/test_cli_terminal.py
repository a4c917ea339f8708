"""`openai-auth` on a real terminal, under tmux: what only shows there: colour, large letters, lines that change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.codex_fake import CodexFake
from tests.test_login_end_to_end import Person

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux found: apt-get install tmux")

BIN = Path(sys.executable).parent


class Terminal:
    """A shell of 100 by 40 in a tmux of its own."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")

    async def tmux(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "tmux", "-S", self._socket, "-f", "/dev/null", *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out.decode()

    async def start(self, environ: dict[str, str]) -> None:
        settings = [f"{name}={value}" for name, value in environ.items()]
        shell = ["env", "-i", *settings, "PS1=ready$ ", "TERM=screen-256color", "sh"]
        await self.tmux("new-session", "-d", "-x", "100", "-y", "40", shlex.join(shell))
        await self.shows("ready")

    async def run(self, line: str) -> None:
        await self.tmux("send-keys", "-l", line)
        await self.tmux("send-keys", "Enter")

    async def screen(self, *, styled: bool = False) -> str:
        return await self.tmux("capture-pane", "-p", "-J", *(["-e"] if styled else []))

    async def shows(self, text: str, *, styled: bool = False) -> str:
        """Looks until the screen has the text; the screen."""
        async with asyncio.timeout(30):
            while text not in (seen := await self.screen(styled=styled)):
                await asyncio.sleep(0.05)
        return seen


@contextlib.asynccontextmanager
async def terminal(folder: Path) -> AsyncIterator[tuple[Terminal, CodexFake]]:
    async with CodexFake() as fake:
        fake.issuer.lenient_ports = True
        fake.issuer.device_interval = "1"
        fake.account("acct-main", email="main@example.com")
        one = Terminal(folder)
        await one.start(
            {
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                "LANG": "C.UTF-8",
                "HOME": str(folder),
                "OPENAI_AUTH_HOME": str(folder / "home"),
                "OPENAI_AUTH_ISSUER_URL": fake.issuer_url,
                "OPENAI_AUTH_BACKEND_URL": fake.backend_url,
            }
        )
        try:
            yield one, fake
        finally:
            await one.tmux("kill-server")


async def test_a_headless_login_shows_large_letters_and_the_time_left(tmp_path: Path) -> None:
    async with terminal(tmp_path) as (term, fake):
        await term.run("openai-auth login --headless")
        seen = await term.shows("left …")
        (device,) = fake.issuer.devices.values()
        assert f"Code: {device.user_code}" in seen
        assert f"{fake.issuer_url}/codex/device" in seen
        assert "▀" in seen
        assert "Waiting for the code to be typed, 1" in seen
        await term.shows("14:58 left")  # it counts down, in its place
        assert (await term.screen()).count(" left …") == 1
        await Person("approve").press(f"{fake.issuer_url}/codex/device", user_code=device.user_code)
        seen = await term.shows("Logged in as main (main@example.com, plus, main).")
        assert " left …" not in seen  # the line that changed is gone


@pytest.mark.xdist_group("login ports")
async def test_a_browser_login_ends_with_ctrl_c(tmp_path: Path) -> None:
    async with terminal(tmp_path) as (term, _):
        await term.run("openai-auth login; echo exit $?")
        await term.shows("Waiting for the browser")
        await term.tmux("send-keys", "C-c")
        seen = await term.shows("exit 130")
        assert "Traceback" not in seen


async def test_an_api_key_is_asked_for_and_does_not_show(tmp_path: Path) -> None:
    async with terminal(tmp_path) as (term, _):
        await term.run("openai-auth login --api-key --label paid")
        await term.shows("API key:")
        await term.run("sk-typed-by-hand")
        seen = await term.shows("Stored the API key paid")
        assert "typed-by-hand" not in seen


async def test_tables_and_signs_have_colour(tmp_path: Path) -> None:
    async with terminal(tmp_path) as (term, fake):
        path = fake.account("acct-main").write_auth_json(tmp_path / "auth.json")
        await term.run(f"openai-auth import {path} 2>/dev/null; clear; openai-auth list; echo do''ne")
        await term.shows("\ndone\n")
        assert "\x1b[32mok" in await term.screen(styled=True)
        await term.run("clear; openai-auth doctor --proxy 127.0.0.1:9; echo exit $?")
        await term.shows("exit 0")
        styled = await term.screen(styled=True)
        assert "\x1b[32m✓" in styled
        assert "\x1b[33m!" in styled
