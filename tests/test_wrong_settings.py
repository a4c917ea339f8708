"""A settings file that is wrong at the start: no proxy that goes by other settings than its owner's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from mitmproxy.exceptions import OptionsError

from addon.options import Options
from tests.forked import ForkedProxy
from tests.mitmproxy_in_process import mitmproxy
from tests.proxy_process import ROOT

WRONG = json.dumps({"quota": {"poll": "maybe"}})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path))
    (tmp_path / "openai-auth.json").write_text(WRONG)
    return tmp_path


async def test_it_ends_the_start_and_says_what_is_wrong_and_what_is_allowed(home: Path) -> None:
    async with ForkedProxy(home, {}, listen=False) as proxy:
        await proxy.wait_for("Error logged during startup, exiting")
        assert await proxy.exit_code() == 1
    (said,) = (line for line in proxy.lines if "openai-auth.json: " in line)
    assert said.endswith(
        f'{home / "openai-auth.json"}: quota.poll: found "maybe"; '
        "allowed: true or false (also 1/yes/on, 0/no/off/empty)"
    )


async def test_a_proxy_that_runs_already_serves_nothing_until_it_is_right(home: Path) -> None:
    """As when mitmweb's user adds the script: mitmproxy ends for errors of its start only."""
    async with mitmproxy(home / "mitmproxy", listen_host="") as (master, _):
        proxyserver, changed = master.addons.get("proxyserver"), asyncio.Event()
        proxyserver.servers.changed.connect(changed.set)
        master.options.update(scripts=[str(ROOT / "addon/main.py")])
        while {host for host, *_ in proxyserver.listen_addrs()} != {"127.0.0.1"}:
            await changed.wait()
            changed.clear()
        port = proxyserver.listen_addrs()[0][1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/v1") as client:
            client.headers["authorization"] = "Bearer any"
            for path in ("/responses", "/embeddings"):
                answer = await client.post(path, json={"model": "m", "input": "x"})
                assert answer.status_code == 503
                assert 'quota.poll: found "maybe"; allowed:' in answer.json()["error"]["message"]
            (home / "openai-auth.json").write_text("{}")
            async with asyncio.timeout(20):
                while (answer := await client.get("/models")).status_code == 503:
                    pass
            assert answer.status_code == 200
        services = [task for task in asyncio.all_tasks() if task.get_name() == "openai-auth services"]
        master.options.update(scripts=[])
        await asyncio.gather(*services)


async def test_other_machines_are_turned_away_meanwhile(home: Path) -> None:
    options = Options()
    async with mitmproxy(home / "mitmproxy", options, lean=True):
        with pytest.raises(OptionsError, match=r"quota\.poll"):
            options.configure({"codex_web_search"})
        foreign = SimpleNamespace(peername=("192.0.2.1", 40000), error=None)
        options.client_connected(foreign)  # type: ignore[arg-type]
        assert foreign.error
