"""The programs as a user starts them: what is there before the first request."""

import re
import ssl
from pathlib import Path

import httpx
import pytest

from certs import authority
from tests.codex_fake.server import CodexFake
from tests.codex_fake.tls import server_context
from tests.proxy_process import ProxyProcess
from tests.world import World

LOOPBACK = re.compile(r"listening at 127\.0\.0\.1:(\d+)")


@pytest.mark.parametrize("program", ["mitmdump", "mitmweb"])
async def test_a_first_start_serves_a_client_that_trusts_the_new_ca(tmp_path: Path, program: str) -> None:
    web = (
        ["--no-web-open-browser", "--web-port", "0", "--web-host", "127.0.0.1"]
        if program == "mitmweb"
        else []
    )
    async with CodexFake() as fake:
        here = World(tmp_path, fake)
        await here.know(here.main)
        async with ProxyProcess(tmp_path, here.environ, *web, program=program) as proxy:
            here.proxy = proxy
            assert authority.inspect(proxy.confdir).constrained
            async with here.client() as client:
                answer = await client.responses.create(model="gpt-5.5", input="hello")
            assert answer.output_text == "You said: hello"


async def test_without_a_word_about_it_the_port_is_open_to_this_machine_only(tmp_path: Path) -> None:
    async with ProxyProcess(tmp_path, {}, listen=False) as proxy:
        found = LOOPBACK.search(await proxy.wait_for(LOOPBACK))
        assert found
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{found[1]}/health")
        assert answer.status_code == 200
        addresses = {line.split()[1] for table in ("tcp", "tcp6") for line in sockets(table, int(found[1]))}
        assert {address.split(":")[0] for address in addresses} == {"0100007F"}


def sockets(table: str, port: int) -> list[str]:
    """The kernel's lines of the sockets that listen on a port."""
    path = Path("/proc/net") / table
    lines = path.read_text().splitlines()[1:] if path.exists() else pytest.skip("no /proc/net")
    return [line for line in lines if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"]


async def test_a_ca_that_was_there_is_never_touched_and_is_said_to_sign_anything(tmp_path: Path) -> None:
    async with ProxyProcess(tmp_path, {}, script=None) as plain:
        before = (plain.confdir / "mitmproxy-ca.pem").read_bytes()
    async with ProxyProcess(tmp_path, {}) as proxy:
        await proxy.wait_for("was there before and can sign any name")
        assert (proxy.confdir / "mitmproxy-ca.pem").read_bytes() == before


async def test_another_host_is_tunnelled_with_its_own_certificate(tmp_path: Path) -> None:
    context, certificate = server_context(tmp_path)
    async with await CodexFake().start(ssl_context=context) as other, ProxyProcess(tmp_path, {}) as proxy:
        trusted = ssl.create_default_context(cafile=certificate)
        async with httpx.AsyncClient(proxy=proxy.url, verify=trusted) as client:
            answer = await client.get(f"{other.issuer_url}/backend-api/wham/usage")
    assert answer.status_code == 401  # the other server's own word
