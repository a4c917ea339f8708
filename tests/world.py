"""
A whole small world for end-to-end tests: the fake backend, a store with accounts, a real mitmdump, real clients.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai

from accounts.importer import read_logins
from accounts.store import Store
from tests.codex_fake.accounts import FakeAccount
from tests.codex_fake.server import CodexFake
from tests.forked import ForkedProxy, openai_auth
from tests.proxy_process import ProxyProcess

KEY = "any"
"""What a client without a key of its own sends."""


class World:
    """`main` and `work` are two accounts of the fake, known to the proxy in this order."""

    def __init__(self, home: Path, fake: CodexFake) -> None:
        self.home = home
        self.fake = fake
        self.proxy: ProxyProcess

    @property
    def main(self) -> FakeAccount:
        return self.fake.account("acct-main")

    @property
    def work(self) -> FakeAccount:
        return self.fake.account("acct-work")

    @property
    def environ(self) -> dict[str, str]:
        return {
            "OPENAI_AUTH_BACKEND_URL": self.fake.backend_url,
            "OPENAI_AUTH_ISSUER_URL": self.fake.issuer_url,
            "OPENAI_AUTH_QUOTA_POLL": "false",  # requests are what is counted; tests of polling turn it on
        }

    async def know(
        self, account: FakeAccount, label: str | None = None, *, expires_in: float = 864_000.0
    ) -> None:
        """Import an account into the store."""
        path = account.write_auth_json(self.home / f"{account.name}.auth.json", expires_in)
        async with await Store.open(self.home, keyring=False) as store:
            for login in read_logins(path):
                await store.add(login, label)

    def start_proxy(self, *options: str, **environ: str) -> ProxyProcess:
        """Another mitmdump on the same home."""
        return ForkedProxy(self.home, self.environ | environ, *options)

    async def openai_auth(self, *arguments: str) -> str:
        """What the command says, run beside the proxy."""
        environ = self.environ | {"OPENAI_AUTH_HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        return await openai_auth([*arguments], environ, self.home)

    def client(
        self, *, direct: bool = False, proxy: ProxyProcess | None = None, **values: Any
    ) -> openai.AsyncOpenAI:
        """The real SDK: through HTTPS_PROXY and CA, or by base URL."""
        return openai.AsyncOpenAI(**self._client(direct, proxy, values, httpx.AsyncClient))

    def sync_client(self, *, direct: bool = False, **values: Any) -> openai.OpenAI:
        return openai.OpenAI(**self._client(direct, None, values, httpx.Client))

    def _client(
        self, direct: bool, proxy: ProxyProcess | None, values: dict[str, Any], kind: type[Any]
    ) -> dict[str, Any]:
        proxy = proxy or self.proxy
        values = {"api_key": KEY, "max_retries": 0} | values
        if direct:
            return {"base_url": proxy.base_url} | values
        http_client = (
            openai.DefaultAsyncHttpxClient if kind is httpx.AsyncClient else openai.DefaultHttpxClient
        )
        return {
            "http_client": http_client(
                proxy=proxy.url, verify=ssl.create_default_context(cafile=proxy.bundle)
            )
        } | values

    def http(self) -> httpx.AsyncClient:
        """A bare HTTP client, through the proxy."""
        return httpx.AsyncClient(
            proxy=self.proxy.url,
            verify=ssl.create_default_context(cafile=self.proxy.bundle),
            base_url="https://api.openai.com/v1",
            headers={"authorization": f"Bearer {KEY}"},
        )


@contextlib.asynccontextmanager
async def world(
    home: Path, *options: str, accounts: bool = True, environ: dict[str, str] | None = None
) -> AsyncIterator[World]:
    """A running world."""
    async with CodexFake() as fake:
        here = World(home, fake)
        if accounts:
            await here.know(here.main)
            await here.know(here.work, "work")
        async with here.start_proxy(*options, **(environ or {})) as proxy:
            here.proxy = proxy
            yield here
