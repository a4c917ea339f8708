"""
mitmproxy's options: ours beside its own, and the defaults a proxy for one API should have.

Every setting is an option too (`--set codex_web_search=false`, or live in mitmweb), declared from the settings
model. An option that is not set is None, so that the weaker sources decide.

The rule: a default of mitmproxy's is changed only where the user left it.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence, Set

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.exceptions import OptionsError

from accounts.settings import Settings
from accounts.settings_file import SettingsFile
from accounts.settings_sources import SettingsError
from accounts.settings_table import describe

logger = logging.getLogger(__name__)

DEFAULTS = {
    "listen_host": "127.0.0.1",  # mitmproxy itself would listen everywhere
    "connection_strategy": "lazy",  # no connection to the real API for a flow that we answer
    "allow_hosts": [r"^api\.openai\.com:443$"],  # every other host is tunnelled undecrypted
}

RELOAD_INTERVAL = 0.5
"""Seconds between two looks at the settings file: a change is seen within one."""


class Options:
    """The addon that holds the settings, and what must be told when they change."""

    def __init__(self) -> None:
        self._file: SettingsFile
        self._rows = describe()
        self._watcher: asyncio.Task[None] | None = None
        self._rebinding: asyncio.Task[None] | None = None
        self.changed: list[Callable[[], None]] = []

    @property
    def current(self) -> Settings:
        """The settings as they are now; never kept by others."""
        return self._file.current

    def load(self, loader: Loader) -> None:
        for row in self._rows:
            help = f"{row.help} (default: {row.default})"
            loader.add_option(row.option, str | None, None, help)  # type: ignore[arg-type]  # unions are taken
        for name, value in DEFAULTS.items():
            if not ctx.options.has_changed(name):
                ctx.options.update(**{name: value})
        try:
            self._file = SettingsFile()
        except SettingsError as error:
            raise OptionsError(str(error)) from None
        self._say_problems()

    def configure(self, updated: Set[str]) -> None:
        ours = [row.option for row in self._rows]
        if not updated.isdisjoint(ours):
            values = {name: getattr(ctx.options, name) for name in ours}
            try:
                self._file.use_options({name: value for name, value in values.items() if value is not None})
            except SettingsError as error:
                raise OptionsError(str(error)) from None
            self._announce()

    def running(self) -> None:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="settings file")
            self._rebinding = asyncio.create_task(self._rebind(), name="listen address")

    def done(self) -> None:
        if self._watcher:
            self._watcher.cancel()

    async def _rebind(self) -> None:
        """Listen where the option says. mitmproxy opens its ports before it has loaded a script."""
        servers = ctx.master.addons.get("proxyserver").servers
        chosen = ctx.options.listen_host
        addresses = [address[0] for server in servers for address in server.listen_addrs]
        if chosen == DEFAULTS["listen_host"] and any(address != chosen for address in addresses):
            logger.info("Listening on %s only; --listen-host chooses another address.", chosen)
            await servers.update([])
            await ctx.master.addons.get("proxyserver").setup_servers()

    def client_connected(self, client: Client) -> None:
        if ctx.options.listen_host == DEFAULTS["listen_host"] and not loopback(client.peername[0]):
            client.error = "came in before the port was closed to other machines"

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_INTERVAL)
            if self._file.reload_if_changed():
                self._say_problems()
                self._announce()

    def _announce(self) -> None:
        for tell in self.changed:
            tell()

    def _say_problems(self) -> None:
        problems: Sequence[object] = self._file.problems
        for problem in problems:
            logger.warning("%s", problem)


def loopback(address: str) -> bool:
    """Whether a peer's address is of this machine."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
