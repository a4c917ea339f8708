"""What a command needs to speak to the backend: one HTTP session, tokens, usage polls, reset credits.

The one idea: the same parts that a running proxy uses, put together for the length of one command over the
open store. The rule that must not be broken: what is learned here (numbers, renewed tokens) goes
into the store before it is shown, so that every process sees it.
"""

from __future__ import annotations

import platform
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import aiohttp
import certifi

from accounts.models import Account, Quota
from accounts.oauth import Issuer
from accounts.paths import DISTRIBUTION
from accounts.quota_records import Observations
from accounts.reset_credits import ResetCredits
from accounts.reset_records import ResetRecords
from accounts.settings import Settings
from accounts.store import Store
from accounts.tokens import Tokens
from accounts.usage import Poller
from accounts.wham import Wham


@dataclass(frozen=True, slots=True)
class Online:
    """The parts; valid inside `connect`."""

    poller: Poller
    resets: ResetCredits
    records: ResetRecords


@asynccontextmanager
async def connect(store: Store, settings: Settings) -> AsyncIterator[Online]:
    """Opens the way to the backend that the settings name. Nothing is sent before a part is used."""
    agent = user_agent(settings)
    async with session(settings) as http:
        tokens = Tokens(store, Issuer(http, settings.issuer_url, user_agent=agent))
        wham = Wham(http, lambda: settings.backend_url, user_agent=lambda: agent)

        async def save(account: Account, numbers: Quota) -> None:
            await keep(store, account, numbers)

        records = ResetRecords(store)
        try:
            yield Online(Poller(wham, tokens, save, store), ResetCredits(wham, tokens, records), records)
        finally:
            await tokens.close()


async def keep(store: Store, account: Account, numbers: Quota) -> None:
    """Stores a fresh snapshot."""
    await store.observe(Observations(quotas={account.id: numbers}))


def session(settings: Settings) -> aiohttp.ClientSession:
    """A session that goes through our own proxy setting only.

    HTTPS_PROXY is not looked at: in this environment it may well name ourselves.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trusted_roots()),
        trust_env=False,
        proxy=settings.upstream_proxy,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def trusted_roots() -> ssl.SSLContext:
    """The system's roots (or SSL_CERT_FILE's) and certifi's: a bare Python may know none of its own."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def user_agent(settings: Settings) -> str:
    """How we name ourselves to the backend: as configured, else by originator, version and system."""
    return settings.identity.user_agent or _user_agent(settings.identity.originator)


@cache  # asked for with every request, and made from files
def _user_agent(originator: str) -> str:
    """`<originator>/<our version> (<system> <release>; <machine>)`, the official client's form."""
    system = f"{platform.system()} {platform.release()}; {platform.machine()}"
    return f"{originator}/{version(DISTRIBUTION)} ({system})"
