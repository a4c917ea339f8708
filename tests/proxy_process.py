"""
A real mitmdump with the addon in it, for end-to-end tests, the demo and the benchmarks.

It listens on an ephemeral port of 127.0.0.1 and says which in its log; that line is what `start` waits for. The
process is ended by its own id.
"""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent
LISTENING = re.compile(r"proxy listening at .*:(\d+)\.")
SETTLED = re.compile(r"proxy listening at .*:(\d+)\.|Error logged during startup")


class ProxyProcess:
    """One mitmdump. `home` holds settings, state and CA; `environ` adds to the environment."""

    def __init__(
        self,
        home: Path,
        environ: dict[str, str],
        *options: str,
        script: Path | None = ROOT / "addon/main.py",
        program: str = "mitmdump",
        listen: bool = True,
    ) -> None:
        self.home = home
        self.confdir = home / "mitmproxy"
        self.lines: list[str] = []
        self.port = 0
        self._environ = environ
        self._options = options
        self._script = script
        self._program = program
        self._listen = listen
        self._output: asyncio.StreamReader | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._ended = False
        self.pid = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def ca(self) -> Path:
        return self.confdir / "mitmproxy-ca-cert.pem"

    @property
    def bundle(self) -> Path:
        return self.confdir / "openai-auth-bundle.pem"

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> Self:
        arguments = ["-p", "0", "--set", f"confdir={self.confdir}"]
        if self._listen:
            arguments += ["--listen-host", "127.0.0.1"]
        if self._script:
            arguments += ["-s", str(self._script)]
        clean = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
        environ = clean | {"OPENAI_AUTH_HOME": str(self.home), "PYTHONUNBUFFERED": "1"} | self._environ
        self._output = await self._launch([*arguments, *self._options], environ)
        self._reader = asyncio.create_task(self._read())
        line = await self.wait_for(SETTLED)
        found = LISTENING.search(line)
        assert found, f"the proxy did not start:\n{self.log}"
        self.port = int(found[1])
        return self

    async def _launch(self, arguments: list[str], environ: dict[str, str]) -> asyncio.StreamReader:
        """Start the program; its output."""
        self._process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / self._program,
            *arguments,
            cwd=ROOT,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.pid = self._process.pid
        assert self._process.stdout
        return self._process.stdout

    async def _end(self, how: signal.Signals) -> None:
        """Send a signal and wait until the process is gone."""
        if self._process.returncode is None:
            self._process.send_signal(how)
            await self._process.wait()

    async def exit_code(self) -> int:
        """Its exit code, when it has ended."""
        return await self._process.wait()

    async def wait_for(self, pattern: str | re.Pattern[str]) -> str:
        """The first log line, past or future, that matches. Fails when the process ends without one."""
        expression = re.compile(pattern)
        seen = 0
        async with self._news:
            while True:
                for line in self.lines[seen:]:
                    if expression.search(line):
                        return line
                seen = len(self.lines)
                if self._ended:
                    raise AssertionError(f"no {expression.pattern!r} in the log:\n{self.log}")
                await self._news.wait()

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process and wait until it is gone."""
        if self.pid:
            await self._end(how)
        if self._reader:
            await self._reader

    async def _read(self) -> None:
        assert self._output
        async for line in self._output:
            async with self._news:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()
