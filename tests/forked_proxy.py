"""
The same mitmdump, forked from a process that has imported it already: a second less for each end-to-end test.

What runs is mitmproxy's own `mitmdump` function, with `-s addon/main.py`, in a process and on a port of its own.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess

from tests.proxy_process import ROOT, ProxyProcess

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preloaded"])


class ForkedProxy(ProxyProcess):
    """See ProxyProcess."""

    _fork: BaseProcess

    async def _launch(self, arguments: list[str], environ: dict[str, str]) -> asyncio.StreamReader:
        fifo = self.home / f"output-{id(self)}"
        os.mkfifo(fifo)
        self._fork = FORKS.Process(target=mitmdump, args=(arguments, environ, str(fifo)), daemon=True)
        await asyncio.to_thread(self._fork.start)
        reader = asyncio.StreamReader()
        pipe = await asyncio.to_thread(open, fifo, "rb")
        fifo.unlink()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        assert self._fork.pid
        self.pid = self._fork.pid
        return reader

    async def _end(self, how: signal.Signals) -> None:
        if self._fork.is_alive():
            os.kill(self.pid, how)
        await asyncio.to_thread(self._fork.join)


def mitmdump(arguments: list[str], environ: dict[str, str], fifo: str) -> None:
    """In the fork: become mitmdump, with the output and the environment of a program that was started afresh."""
    output = os.open(fifo, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environ)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = ["mitmdump", *arguments]
    from mitmproxy.tools.main import mitmdump as program

    sys.exit(program(arguments))
