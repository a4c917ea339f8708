"""
mitmproxy's options: ours beside its own, and the defaults a proxy for one API should have.

Every setting is an option too (`--set codex_web_search=false`, or live in mitmweb), declared from the settings
model. An option that is not set is None, so that the weaker sources decide.

The rules: a default of mitmproxy's is changed only where the user left it; and `load` never fails, because mitmproxy
would go on as a plain proxy without a word. What is wrong comes up in `configure`, which ends a start.
"""

import asyncio
import ipaddress
import logging
import re
from collections.abc import Callable, Set

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.exceptions import OptionsError

from accounts.settings import Settings
from accounts.settings_file import SettingsFile
from accounts.settings_sources import Loaded, Origin, SettingsError
from accounts.settings_table import describe
from certs.authority import HOST

logger = logging.getLogger(__name__)

DEFAULTS = {
    "listen_host": "127.0.0.1",  # mitmproxy itself would listen everywhere
    "connection_strategy": "lazy",  # no connection to the real API for a flow that we answer
    "allow_hosts": [f"^{re.escape(HOST)}:443$"],  # every other host is tunnelled undecrypted
}

RELOAD_INTERVAL = 0.5
"""Seconds between two looks at the settings file: a change is seen within one."""


class Options:
    """The addon that holds the settings, and what must be told when they change."""

    def __init__(self) -> None:
        self._file: SettingsFile | None = None
        self._rows = describe()
        self._watcher: asyncio.Task[None] | None = None
        self._rebinding: asyncio.Task[None] | None = None
        self.changed: list[Callable[[], None]] = []
        self.trouble = ""
        """What is wrong with the settings while there are none to go by: then nothing is served."""
        self.usable = asyncio.Event()
        """Set once there are settings to go by."""

    @property
    def current(self) -> Settings:
        """The settings as they are now, the defaults while they cannot be read; never kept by others."""
        return self._file.current if self._file else Settings()

    def value_and_origin(self, path: str) -> tuple[object, Origin]:
        """A setting as it is now and what decides it. Raises KeyError for an unknown JSON path."""
        loaded = self._file.loaded if self._file else Loaded(Settings())
        return loaded.value_and_origin(path)

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can reach the port."""
        return not loopback(ctx.options.listen_host)

    def reload(self) -> None:
        """Take over at once what was just written to the file, or has changed in it."""
        if self._file is None:
            self._begin()
            if self._file is not None:
                logger.info("The settings are right now.")
                self._announce()
        elif self._file.reload_if_changed():
            self._say_problems(self._file)
            self._announce()

    def load(self, loader: Loader) -> None:
        for row in self._rows:
            help = f"{row.help} (default: {row.default})"
            loader.add_option(row.option, str | None, None, help)  # type: ignore[arg-type]  # unions are taken
        for name, value in DEFAULTS.items():
            if not ctx.options.has_changed(name):
                ctx.options.update(**{name: value})
        self._begin()

    def configure(self, updated: Set[str]) -> None:
        if updated.isdisjoint(row.option for row in self._rows):
            return
        if self._file is None:
            raise OptionsError(self.trouble)
        try:
            self._file.use_options(self._chosen())
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

    def _begin(self) -> None:
        """Read the settings for the first time, if they can be read."""
        try:
            self._file = SettingsFile(options=self._chosen())
        except SettingsError as error:
            self.trouble = f"The settings of the proxy are wrong:\n{error}"
            return
        self.trouble = ""
        self.usable.set()
        self._say_problems(self._file)

    def _chosen(self) -> dict[str, object]:
        """The options that are set."""
        values = {row.option: getattr(ctx.options, row.option) for row in self._rows}
        return {name: value for name, value in values.items() if value is not None}

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_INTERVAL)
            self.reload()

    def _announce(self) -> None:
        for tell in self.changed:
            tell()

    @staticmethod
    def _say_problems(file: SettingsFile) -> None:
        for problem in file.problems:
            logger.warning("%s", problem)


def loopback(host: str) -> bool:
    """Whether an address, or a name, always means the machine that uses it."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
