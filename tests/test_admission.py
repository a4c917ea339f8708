"""Who may ask at all, before anything else is looked at, and what is kept of those who may not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from mitmproxy import http

from accounts.client_keys import NotServed
from accounts.settings import Settings
from addon.admission import admit, refuse_foreign_names, refuse_pages, require_key
from addon.intercept import Intercept
from addon.protocol.errors import Refused
from addon.virtual_server import VirtualServers
from tests.mitmproxy_in_process import mitmproxy

CLIENT_KEY = "oa-mine"


def request(**headers: str) -> http.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.Request.make("POST", "http://127.0.0.1:8080/v1/responses", b"", named)


def named(host: str) -> http.Request:
    return http.Request.make("GET", f"http://{host}:8080/v1/models")


class Services:
    """Has client keys, or none."""

    settings = Settings()
    no_settings = ""

    def __init__(self, *keys: str) -> None:
        self.keys = SimpleNamespace(admit=self._admit)
        self._keys = keys

    async def ready(self) -> None: ...

    def _admit(self, token: str) -> str | None:
        if self._keys and token not in self._keys:
            raise NotServed("not served")
        return token if self._keys else None


@pytest.mark.parametrize("origin", ["https://evil.example", "http://evil.example:8080", "http://192.168.1.9"])
def test_a_page_of_a_web_site_is_refused_whatever_else_it_sends(origin: str) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_pages(request(origin=origin, authorization="Bearer any"))
    assert refusal.value.failure.status == 403


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://localhost:3000",
        "http://app.localhost:3000",
        "http://127.0.0.1:5173",
        "http://[::1]:1",
        "app://desktop",
        "file://",
    ],
)
def test_programs_and_pages_of_this_machine_are_not(origin: str) -> None:
    refuse_pages(request(**({"origin": origin} if origin else {})))


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer  ", "Basic abc"])
def test_a_bearer_token_is_wanted(value: str | None) -> None:
    with pytest.raises(Refused) as refusal:
        require_key(request(**({} if value is None else {"authorization": value})))
    assert refusal.value.failure.status == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", "EVIL.example.", "127.0.0.1.nip.io", "localhost.evil.example", "1.evil", "local.ai"],
)
def test_a_name_of_some_domain_is_refused(host: str) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_foreign_names(named(host))
    assert refusal.value.failure.status == 403


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "192.168.1.9",
        "[::1]",
        "fe80::1%eth0",
        "localhost",
        "LOCALHOST.",
        "app.localhost",
        "proxy",  # a service of Docker Compose, a machine of this network
        "host.docker.internal",
        "machine.local",
        "proxy.ns.svc.cluster.local",
        "machine.lan",
        "api.openai.com",
        socket.gethostname(),
    ],
)
def test_addresses_and_names_that_no_web_site_can_have_are_served(host: str) -> None:
    asked = named("127.0.0.1")
    asked.host = host
    refuse_foreign_names(asked)


async def test_a_client_key_is_served_by_any_name() -> None:
    """A page that has had its name pointed at us does not know it."""
    flow: Any = SimpleNamespace(request=named("llm.example.org"), metadata={})
    flow.request.headers["authorization"] = f"Bearer {CLIENT_KEY}"
    services: Any = Services(CLIENT_KEY)
    await admit(flow, services)
    assert list(flow.metadata.values()) == [CLIENT_KEY]


class Seen:
    """Remembers what mitmproxy kept of the requests that were answered."""

    def __init__(self) -> None:
        self.bodies: list[bytes | None] = []

    def response(self, flow: http.HTTPFlow) -> None:
        self.bodies.append(flow.request.raw_content)


@contextlib.asynccontextmanager
async def proxy(
    tmp_path: Path, services: Any, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Seen]]:
    servers, seen = VirtualServers(), Seen()
    async with (
        mitmproxy(tmp_path, servers, Intercept(services, servers), seen, **options) as (_, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/v1", trust_env=False) as client,
    ):
        yield client, seen


async def test_a_page_whose_name_was_pointed_at_us_gets_nothing(tmp_path: Path) -> None:
    async with proxy(tmp_path, Services()) as (client, _):
        key = {"authorization": "Bearer any"}
        for headers in (key, key | {"origin": "null"}):
            answer = await client.get(
                "/responses", headers=headers | {"host": f"evil.example:{client.base_url.port}"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_host")
        admitted = await client.get("/responses", headers=key | {"host": "host.docker.internal:8080"})
        assert admitted.status_code == 426


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {CLIENT_KEY}", "origin": "https://evil.example"},
    ],
)
@pytest.mark.parametrize("options", [{}, {"stream_large_bodies": "1"}], ids=["whole", "streaming"])
async def test_the_body_of_a_request_that_is_not_admitted_is_not_kept(
    tmp_path: Path, headers: dict[str, str], options: dict[str, str]
) -> None:
    async with proxy(tmp_path, Services(CLIENT_KEY), **options) as (client, seen):
        answer = await client.post("/responses", content=bytes(2**20), headers=headers)
        assert answer.status_code in (401, 403)
        assert (await client.get("/health")).status_code == 200  # its connection goes on
    assert seen.bodies == [b"", b""]


async def test_who_is_refused_by_mitmproxys_own_password_goes_nowhere(tmp_path: Path) -> None:
    real = {"authorization": "Bearer sk-proj-Ab3dE5gH1jK2mN4pQ6rS8tU0"}
    async with proxy(tmp_path, Services(), proxyauth="user:word") as (client, seen):
        for path in ("/responses", "/embeddings"):
            assert (await client.post(path, content=bytes(2**20), headers=real)).status_code == 407
    assert seen.bodies == [b"", b""]
