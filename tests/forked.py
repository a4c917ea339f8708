"""
Programs forked from a process that has imported them already: a second less for each end-to-end test.

What runs is the program's own main function, in a process of its own, with the output and the environment of a program
that was started afresh.
"""

import asyncio
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from tests.proxy_process import ROOT, ProxyProcess

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preloaded"])
COUNT = itertools.count()


class Fork:
    """A running `program(arguments)`. `output` is what it says; `folder` holds a pipe for a moment."""

    def __init__(self, process: BaseProcess, output: asyncio.StreamReader) -> None:
        assert process.pid
        self.pid = process.pid
        self.output = output
        self._process = process

    @classmethod
    async def start(
        cls,
        program: Callable[[list[str]], object],
        arguments: list[str],
        environ: dict[str, str],
        folder: Path,
    ) -> Self:
        fifo = folder / f"output-{next(COUNT)}"
        os.mkfifo(fifo)
        process = FORKS.Process(target=become, args=(program, arguments, environ, str(fifo)), daemon=True)
        await asyncio.to_thread(process.start)
        output = asyncio.StreamReader()
        pipe = await asyncio.to_thread(open, fifo, "rb")
        fifo.unlink()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), pipe)
        return cls(process, output)

    def kill(self, how: signal.Signals) -> None:
        if self._process.is_alive():
            os.kill(self.pid, how)

    async def join(self) -> int:
        """Its exit code, when it has ended."""
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode is not None
        return self._process.exitcode


class ForkedProxy(ProxyProcess):
    """See ProxyProcess."""

    _fork: Fork

    async def _launch(self, arguments: list[str], environ: dict[str, str]) -> asyncio.StreamReader:
        self._fork = await Fork.start(mitmdump, arguments, environ, self.home)
        self.pid = self._fork.pid
        return self._fork.output

    async def _end(self, how: signal.Signals) -> None:
        self._fork.kill(how)
        await self._fork.join()

    async def exit_code(self) -> int:
        return await self._fork.join()


async def openai_auth(arguments: list[str], environ: dict[str, str], folder: Path) -> str:
    """What the command says. Fails when the command does."""
    fork = await Fork.start(command, arguments, environ, folder)
    said = (await fork.output.read()).decode()
    assert await fork.join() == 0, said
    return said


def become(
    program: Callable[[list[str]], object], arguments: list[str], environ: dict[str, str], fifo: str
) -> None:
    """In the fork."""
    output = os.open(fifo, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environ)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = [program.__name__, *arguments]
    sys.exit(program(arguments))  # type: ignore[arg-type]


def mitmdump(arguments: list[str]) -> object:
    from mitmproxy.tools.main import mitmdump as program

    return program(arguments)


def command(arguments: list[str]) -> object:
    from accounts.cli import program

    return program(arguments[0])(arguments)
