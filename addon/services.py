"""
What lives as long as the proxy runs: settings, store, account pool, the way upstream.

mitmproxy calls `running` and `done` as plain functions, at a reload too, and gives addons nothing to await at the
end. So one task holds everything open: it starts with `running`, and closes what it opened when it is told to stop
or is cancelled with the event loop. Requests that come before it is ready wait for it.

The rule: a proxy that cannot open its store still answers, and says why.
"""

import asyncio
import gc
import logging
from contextlib import AsyncExitStack

from mitmproxy import ctx

from accounts import paths
from accounts.client_keys import ClientKeys
from accounts.models import AccountsError
from accounts.online import user_agent
from accounts.pool import AccountPool
from accounts.routing import Policy
from accounts.settings import Settings
from accounts.store import Store
from accounts.tokens import Tokens
from addon.background import Background
from addon.continuity import Continuity
from addon.detached import Running
from addon.dispatch import Dispatcher
from addon.options import Options
from addon.protocol import errors
from addon.protocol.identity import Identity
from addon.provenance import Provenance
from addon.quota_service import QuotaService
from addon.renewal import Renewal
from addon.sessions import Sessions
from addon.stored import Stored
from addon.upstream.catalogue import Catalogue
from addon.upstream.http_sse import Upstream

logger = logging.getLogger(__name__)


class Services:
    """Opened once, used by every request."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._life: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._settled = asyncio.Event()
        self._trouble = ""
        self.dispatcher: Dispatcher
        self.sessions: Sessions
        self.stored: Stored
        self.continuity = Continuity()
        self.detached = Running()
        self.pool: AccountPool
        self.keys: ClientKeys
        self.store: Store
        self.quota: QuotaService
        self.catalogue: Catalogue

    @property
    def settings(self) -> Settings:
        return self._options.current

    @property
    def no_settings(self) -> str:
        """Why there are no settings to go by; empty if there are."""
        return self._options.trouble

    def running(self) -> None:
        """Begin to open everything."""
        if self._life is None:
            self._life = asyncio.create_task(self._live(), name="openai-auth services")

    def done(self) -> None:
        """Begin to close everything, for a reload. When the process ends, the cancelled task does it alone."""
        if not ctx.master.should_exit.is_set():
            self._stop.set()

    async def ready(self) -> None:
        """Wait until requests can be served. Raises Refused with the reason when they cannot."""
        if not self.no_settings:
            await self._settled.wait()
        if trouble := self.no_settings or self._trouble:
            raise errors.refuse(503, trouble, code="proxy_error", type="server_error")

    async def _live(self) -> None:
        try:
            await self._options.usable.wait()
            await self._open()
        except asyncio.CancelledError:
            raise
        except AccountsError as error:
            self._fail(str(error))
        except Exception as error:
            logger.exception("The proxy cannot serve requests.")
            self._fail(f"The proxy cannot serve requests ({type(error).__name__}); its log says why.")
        finally:
            self._settled.set()

    def _fail(self, trouble: str) -> None:
        logger.error("%s", trouble)
        self._trouble = trouble

    async def _open(self) -> None:
        """Open everything in order, serve until told to stop, and close in the reverse order."""
        settings = self.settings
        async with AsyncExitStack() as opened:
            store = self.store = await Store.open(paths.state_folder(), keyring=paths.home() is None)
            opened.push_async_callback(store.close)
            upstream = await opened.enter_async_context(
                Upstream(
                    connect_timeout=settings.connect_timeout,
                    idle_timeout=settings.idle_timeout,
                    proxy=settings.upstream_proxy,
                )
            )
            background = Background()
            opened.push_async_callback(background.finish)
            policy = lambda: Policy.from_settings(self.settings)  # noqa: E731
            tokens = Tokens(store, Renewal(upstream.session, lambda: self.settings))
            self.pool = AccountPool(store, tokens, policy, ahead=self._refresh_ahead)
            opened.push_async_callback(self.pool.close)
            await self.pool.start()
            self.keys = ClientKeys(store)
            opened.push_async_callback(self.keys.close)
            await self.keys.start()
            if self._options.open_to_others and not self.keys.wanted:
                logger.warning(
                    "Other machines can reach this port, and whoever does is served by your accounts: "
                    "`openai-auth keys add LABEL` makes a client key, without which nobody is."
                )
            self.catalogue = Catalogue(
                upstream.session,
                self.pool,
                accounts=lambda: self.pool.accounts,
                url=lambda: f"{self.settings.backend_url}/codex/models",
                identity=self.identity,
            )
            opened.push_async_callback(self.catalogue.close)
            self.stored = Stored(store, background, lambda: self.settings)
            opened.push_async_callback(self.stored.close)
            self.stored.start()
            provenance = Provenance(store, background)
            opened.push_async_callback(provenance.close)
            opened.push_async_callback(self.detached.close)
            self.quota = QuotaService(store, self.pool, upstream.session, lambda: self.settings)
            opened.push_async_callback(self.quota.close)
            self.quota.start()
            self.sessions = Sessions(store.thread_id)
            self.dispatcher = Dispatcher(
                pool=self.pool,
                upstream=upstream,
                url=lambda: self.settings.responses_url,
                identity=self.identity,
                fallback_on=lambda: self.settings.fallback_on,
                sessions=self.sessions,
                provenance=provenance,
                catalogue=self.catalogue,
                openai_url=lambda: self.settings.openai_url,
                hold=lambda: self.settings.hold_timeout,
            )
            self._settled.set()
            gc.freeze()  # what is here by now stays: spare every collection the look at some 200,000 objects
            await self._stop.wait()

    def _refresh_ahead(self) -> float | None:
        refresh = self.settings.refresh
        return refresh.refresh_before_expiry_minutes * 60 if refresh.enabled else None

    def identity(self) -> Identity:
        """How we name ourselves to the backend."""
        identity = self.settings.identity
        return Identity(
            originator=identity.originator,
            user_agent=user_agent(self.settings),
            version=identity.version,
            beta_features=identity.beta_features or "",
        )
