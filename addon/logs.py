"""
The log file, and the redaction of everything that this mitmproxy logs, its terminal and event log included.

The rule: the guard is in place before anything of ours can log, and the level follows the settings live.
"""

from mitmproxy.addonmanager import Loader

from accounts.logs import Log
from accounts.redaction import Known
from addon.options import Options
from addon.services import Services


class Logs:
    """The addon. It stands behind `Options`, before all others."""

    def __init__(self, options: Options, services: Services) -> None:
        self._options = options
        self._services = services
        self._log = Log(self._known)
        self._secrets: frozenset[str] = frozenset()
        self._blotted = Known()

    def load(self, _loader: Loader) -> None:
        self._log.open()
        self._follow()
        self._options.changed.append(self._follow)

    def done(self) -> None:
        self._log.close()

    def _follow(self) -> None:
        self._log.use(self._options.current)

    def _known(self) -> Known:
        """What there is now of accounts and their tokens."""
        pool = getattr(self._services, "pool", None)  # not there before the store is open
        if pool is not None and (secrets := pool.secrets()) != self._secrets:
            self._secrets, self._blotted = secrets, Known(secrets)
        return self._blotted
