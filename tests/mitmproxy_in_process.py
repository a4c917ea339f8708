"""A mitmproxy in the test's own event loop, for tests that look inside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mitmproxy import options
from mitmproxy.addons import core, next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master
from mitmproxy.tools.dump import DumpMaster


class Running:
    """Tells when mitmproxy runs."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def running(self) -> None:
        self.event.set()


@asynccontextmanager
async def mitmproxy(
    confdir: Path, *addons: object, lean: bool = False, **values: Any
) -> AsyncIterator[tuple[Master, int]]:
    """The running master and its port. A lean one has no more addons than it takes to be a proxy."""
    opts = options.Options(confdir=str(confdir), listen_host="127.0.0.1", listen_port=0)
    if lean:
        master = Master(opts)
        master.addons.add(
            core.Core(), proxyserver.Proxyserver(), next_layer.NextLayer(), tlsconfig.TlsConfig()
        )
    else:
        master = DumpMaster(opts, with_termlog=False, with_dumper=False)
    opts.update(connection_strategy="lazy", **values)
    started = Running()
    master.addons.add(*addons, started)
    task = asyncio.create_task(master.run())
    try:
        await started.event.wait()
        yield master, master.addons.get("proxyserver").listen_addrs()[0][1]
    finally:
        master.shutdown()
        await task
