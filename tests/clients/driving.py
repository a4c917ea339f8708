"""The test's end of the conversation with a driver: start it, give it a job, be its tool, hear what came of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from certs import authority, trust
from tests.clients.registry import Api, Client, Way
from tests.proxy_process import ProxyProcess

MODEL = "gpt-5.5"
PATIENCE = 120.0  # seconds until a client that says nothing more is given up
NOWHERE = "http://127.0.0.1:9"
"""A proxy for a client that has a base URL: whatever else it wants to reach, it must not."""

_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "USER", "SYSTEMROOT")


def environ(way: Way, proxy: ProxyProcess, home: Path) -> dict[str, str]:
    """The environment of a client: nothing of this machine's settings, and what tells it where the proxy is."""
    found = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    found |= {"HOME": str(home), "OPENAI_API_KEY": "any", "CODEX_API_KEY": "any"}
    if way == "base":
        elsewhere = {"HTTPS_PROXY": NOWHERE, "https_proxy": NOWHERE, "NODE_USE_ENV_PROXY": "1"}
        local = ",".join(trust.LOCAL)
        return found | elsewhere | {"NO_PROXY": local, "no_proxy": local, "OPENAI_BASE_URL": proxy.base_url}
    told = trust.variables(authority.ensure(proxy.confdir), proxy.url, found)  # what `openai-auth env` prints
    return found | {each.name: each.value for each in told}


@dataclass(slots=True)
class Outcome:
    """What a client made of a job."""

    text: str | None = None
    pieces: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None


class Driver:
    """A driver at work."""

    def __init__(self, client: Client, environ: Mapping[str, str]) -> None:
        self._client = client
        self._environ = {**environ, **client.environ}
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._client.environment.command(self._client.driver),
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        elif self._process.stdin:
            self._process.stdin.close()  # no more jobs
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()

    async def ask(
        self, api: Api, text: str, *, stream: bool = False, tool: Callable[[str], str] | None = None
    ) -> Outcome:
        """One job. `tool` is what the client's tool does with its word."""
        outcome = Outcome()
        job = {"api": api, "model": MODEL, "text": text, "stream": stream, "tool": tool is not None}
        await self._write(job)
        while True:
            said = await self._read()
            if "piece" in said:
                outcome.pieces.append(said["piece"])
            elif "call" in said:
                assert tool
                outcome.calls.append(said["call"])
                await self._write({"output": tool(said["call"]["arguments"]["word"])})
            else:
                outcome.text, outcome.error = said.get("text"), said.get("error")
                return outcome

    async def _write(self, said: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(orjson.dumps(said) + b"\n")
        await self._process.stdin.drain()

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the driver ended; its last words are above"
        said: dict[str, Any] = orjson.loads(line)
        return said
