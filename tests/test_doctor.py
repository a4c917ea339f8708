"""`openai-auth doctor`: each thing that can be wrong is found, named, and comes with what to do."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

from accounts import doctor, doctor_online
from accounts.cli import program
from accounts.doctor import Finding, State
from accounts.paths import PREFIXES
from accounts.settings import Settings
from accounts.store import Store
from certs import authority
from tests.codex_fake import CodexFake, FakeProcess
from tests.test_cli import INSTALLED
from tests.world import world

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def shared_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProcess]:
    folder = tmp_path_factory.mktemp("auth")
    with FakeProcess("--account", "acct-main", "--account", "acct-work", "--auth", str(folder)) as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: FakeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    """Backend and issuer, and a machine of its own for each test."""
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name.upper() in ("HTTPS_PROXY", "NO_PROXY", "OPENAI_BASE_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_AUTH_BACKEND_URL", shared_fake.backend_url)
    monkeypatch.setenv("OPENAI_AUTH_ISSUER_URL", shared_fake.issuer_url)
    monkeypatch.setenv("OPENAI_AUTH_CONFDIR", str(tmp_path / "mitmproxy"))
    return shared_fake


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(program(), arguments)


def know(fake: FakeProcess, name: str, label: str) -> None:
    result = cli("import", fake.ready["accounts"][name]["auth_json"], "--label", label)
    assert result.exit_code == 0, result.output


def examined(*arguments: str) -> dict[str, list[dict[str, Any]]]:
    """The findings by check."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in json.loads(cli("doctor", "--json", "--proxy", NOBODY, *arguments).stdout):
        found.setdefault(each["check"], []).append(each)
    return found


def the(findings: dict[str, list[dict[str, Any]]], check: str) -> tuple[str, str, str]:
    (one,) = findings[check]
    return one["state"], one["text"], one["advice"] or ""


def test_everything_that_is_well(fake: FakeProcess, tmp_path: Path) -> None:
    know(fake, "acct-main", "home")
    authority.ensure(tmp_path / "mitmproxy")
    found = examined()
    well = [
        "python",
        "packages",
        "settings",
        "store",
        "key",
        "account home",
        "ca",
        "trust",
        "backend",
        "issuer",
    ]
    for check in [*well, "clock"]:
        assert the(found, check)[0] == "ok", found[check]
    assert "the backend takes its login" in the(found, "account home")[1]
    assert the(found, "port")[0] == "warning"  # nothing is broken about a proxy that is not running
    assert "mitmdump -s" in the(found, "port")[2]
    assert cli("doctor", "--proxy", NOBODY).exit_code == 0


def test_each_line_has_a_sign_and_says_what_to_do(fake: FakeProcess) -> None:
    result = cli("doctor", "--proxy", NOBODY)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert all(line[0] in "✓!✗" or line.startswith("  → ") for line in lines)
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert line[0] not in "!✗" or following.startswith("  → ")


def test_no_account_yet_and_no_file_is_made(fake: FakeProcess, tmp_path: Path) -> None:
    state, _, advice = the(examined(), "accounts")
    assert (state, advice) == ("broken", "add one with `openai-auth login`")
    assert list(tmp_path.iterdir()) == []


def test_a_token_goes_to_the_backend_only(fake: FakeProcess, tmp_path: Path) -> None:
    know(fake, "acct-main", "home")
    before = len(fake.get()["order"])
    examined()
    seen = fake.get()["order"][before:]
    # The token with the one, nothing with the other.
    assert seen == [["acct-main", "usage", 200], [None, "models", 401]]


def test_a_dead_login(fake: FakeProcess) -> None:
    know(fake, "acct-work", "work")
    fake.call("accounts/acct-work/revoke")
    try:
        state, _, advice = the(examined(), "account work")
        assert state == "broken"
        assert "openai-auth login" in advice
    finally:
        fake.call("accounts/acct-work/heal")


def test_a_login_that_died_earlier_is_known_without_asking(fake: FakeProcess) -> None:
    know(fake, "acct-work", "work")
    fake.call("accounts/acct-work/revoke")
    examined()
    asked = [who for who, _, _ in fake.get()["order"]].count("acct-work")
    found = examined()
    assert the(found, "account work")[0] == "broken"
    assert the(found, "account work")[2] == "log in again with `openai-auth login --label work`"
    assert [who for who, _, _ in fake.get()["order"]].count("acct-work") == asked
    assert the(found, "accounts")[:2] == ("broken", "none of them can serve")


def test_a_disabled_account(fake: FakeProcess) -> None:
    know(fake, "acct-main", "home")
    cli("disable", "home")
    states = [(each["state"], each["advice"]) for each in examined()["account home"]]
    assert ("warning", "`openai-auth enable home` lets it serve again") in states


def test_an_api_key_is_not_tried(fake: FakeProcess) -> None:
    CliRunner().invoke(program(), ["login", "--api-key", "--label", "paid"], input="sk-abc\n")
    assert the(examined(), "account paid")[0] == "ok"


def test_a_wrong_settings_file(fake: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "openai-auth.json").write_text('{"webSerch": true}')
    found = examined()
    state, text, _ = the(found, "settings")
    assert state == "broken"
    assert "webSearch" in text
    assert "backend" not in found  # which backend is meant is not known


def test_an_ignored_variable(fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_AUTH_DUMP", "perhaps")
    assert the(examined(), "settings")[0] == "warning"


def test_a_damaged_store(fake: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database" * 100)
    state, text, advice = the(examined(), "store")
    assert state == "broken"
    assert "is damaged" in text
    assert advice


def test_a_lost_key(fake: FakeProcess, tmp_path: Path) -> None:
    know(fake, "acct-main", "home")
    (tmp_path / "key").unlink()
    assert the(examined(), "key")[0] == "broken"


def test_a_token_that_cannot_be_decrypted(fake: FakeProcess, tmp_path: Path) -> None:
    know(fake, "acct-main", "home")
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("update accounts set access = x'00'")
        connection.commit()
    assert the(examined(), "account home")[0] == "broken"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_key_that_others_can_read(fake: FakeProcess, tmp_path: Path) -> None:
    know(fake, "acct-main", "home")
    (tmp_path / "key").chmod(0o644)
    assert the(examined(), "key") == (
        "warning",
        f"{tmp_path / 'key'} can be read by others",
        f"chmod 600 {tmp_path / 'key'}",
    )


def test_no_ca_yet(fake: FakeProcess) -> None:
    assert the(examined(), "ca")[0] == "warning"


def test_a_ca_that_can_sign_anything(tmp_path: Path) -> None:
    from mitmproxy.certs import CertStore

    CertStore.from_store(tmp_path, "mitmproxy", 2048)
    (ca, trust) = doctor.ca(tmp_path)
    assert (ca.state, trust.state) == (State.WARNING, State.BROKEN)  # there is no bundle beside it
    assert "can sign any name" in ca.text


@pytest.mark.parametrize(("ahead", "state"), [(800, State.WARNING), (900, State.BROKEN)])
def test_a_ca_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int, state: State) -> None:
    authority.ensure(tmp_path)
    now = time.time() + ahead * 86_400
    monkeypatch.setattr(time, "time", lambda: now)
    ca = next(doctor.ca(tmp_path))
    assert ca.state is state
    assert ca.advice


def test_a_bundle_of_another_ca(tmp_path: Path) -> None:
    ours = authority.ensure(tmp_path / "a")
    other = authority.ensure(tmp_path / "b")
    ours.bundle.write_bytes(other.bundle.read_bytes())
    *_, trust = doctor.ca(tmp_path / "a")
    assert (trust.state, trust.text) == (State.BROKEN, f"{ours.bundle} lacks the CA")


def test_this_shell() -> None:
    proxy = "http://127.0.0.1:8080"
    (none,) = doctor.environment(proxy, {})
    (well,) = doctor.environment(proxy, {"HTTPS_PROXY": proxy})
    (based,) = doctor.environment(proxy, {"OPENAI_BASE_URL": f"{proxy}/v1"})
    (kept, _) = doctor.environment(proxy, {"NO_PROXY": "*"})
    assert (none.state, well.state, based.state) == (State.WARNING, State.OK, State.OK)
    assert "NO_PROXY" in kept.text


def test_a_backend_that_cannot_be_reached(fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    know(fake, "acct-main", "home")
    monkeypatch.setenv("OPENAI_AUTH_BACKEND_URL", NOBODY)
    found = examined()
    assert the(found, "backend")[0] == "broken"
    assert "upstreamProxy" in the(found, "backend")[2]
    assert the(found, "account home")[0] == "warning"  # nothing is known against the login


@contextlib.asynccontextmanager
async def answering(status: int, **headers: str) -> AsyncIterator[str]:
    """A server that gives one answer to everything."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={k.title(): v for k, v in headers.items()})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def asked(url: str) -> dict[str, Finding]:
    settings = Settings(backend_url=url, issuer_url=url)
    return {finding.check: finding async for finding in doctor_online.servers(settings)}


@pytest.mark.parametrize(
    ("ahead", "state"),
    [(0, State.OK), (-10, State.OK), (120, State.WARNING), (-120, State.WARNING), (3600, State.BROKEN)],
)
async def test_a_clock_that_is_off(ahead: float, state: State) -> None:
    async with answering(401, date=email.utils.formatdate(time.time() + ahead, usegmt=True)) as url:
        clock = (await asked(url))["clock"]
    assert clock.state is state
    if state is not State.OK:
        assert ("behind" if ahead > 0 else "ahead") in clock.text


async def test_a_backend_in_trouble() -> None:
    async with answering(503) as url:
        assert (await asked(url))["backend"].state is State.WARNING


async def test_another_program_at_the_port(tmp_path: Path) -> None:
    async with answering(404) as url:
        (port,) = [each async for each in doctor_online.proxy(url, tmp_path / "bundle", "mitmdump")]
    assert port.state is State.BROKEN
    assert "status 404" in port.text
    assert "-p 8081" in (port.advice or "")


async def test_the_proxy_as_a_client_reaches_it(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        ours = [each async for each in doctor_online.proxy(here.proxy.url, here.proxy.bundle, "mitmdump")]
        assert [(each.check, each.state) for each in ours] == [("port", State.OK), ("client", State.OK)]

        other = authority.ensure(tmp_path / "other").bundle
        theirs = [each async for each in doctor_online.proxy(here.proxy.url, other, "mitmdump")]
        assert [(each.check, each.state) for each in theirs] == [("port", State.OK), ("client", State.BROKEN)]
        assert "--confdir" in (theirs[1].advice or "")
        assert not here.fake.requests  # it cost nothing


async def test_installed(tmp_path: Path) -> None:
    async with CodexFake() as fake:
        here = tmp_path / "home"
        path = fake.account("acct-main").write_auth_json(tmp_path / "auth.json")
        environ = os.environ | {
            "OPENAI_AUTH_HOME": str(here),
            "OPENAI_AUTH_CONFDIR": str(here / "mitmproxy"),
            "OPENAI_AUTH_BACKEND_URL": fake.backend_url,
            "OPENAI_AUTH_ISSUER_URL": fake.issuer_url,
        }
        for arguments, code in (
            (["doctor"], 1),
            (["import", str(path)], 0),
            (["doctor", "--proxy", NOBODY], 0),
        ):
            process = await asyncio.create_subprocess_exec(
                INSTALLED, *arguments, env=environ, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert process.returncode == code, out.decode()
        assert "✓ account main" in out.decode()
        async with await Store.open(here, keyring=False) as store:
            assert await store.quotas()  # what was learned is kept
