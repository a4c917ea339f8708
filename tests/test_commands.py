"""The `codex.*` commands: in mitmproxy's own command manager, over a real store and issuer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.exceptions import CommandError
from mitmproxy.log import ALERT

from accounts.importer import read_logins
from accounts.store import Store
from addon.commands import HEADINGS, Commands
from addon.logs import Logs
from addon.options import Options
from addon.services import Services
from tests.codex_fake import FakeProcess
from tests.mitmproxy_in_process import mitmproxy
from tests.test_login_end_to_end import Person


class Told(logging.Handler):
    """What was logged, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._news.set()

    async def until(self, pattern: str) -> logging.LogRecord:
        """The next record that matches."""
        async with asyncio.timeout(30):
            while True:
                self._news.clear()
                for number, record in enumerate(self.records):
                    if re.search(pattern, record.getMessage()):
                        del self.records[: number + 1]
                        return record
                await self._news.wait()


class Proxy:
    """A running mitmproxy with our addons, seen from its command line."""

    def __init__(self, master: Any, services: Services, fake: FakeProcess, told: Told) -> None:
        self.master, self.services, self.fake, self.told = master, services, fake, told

    def __call__(self, line: str) -> Any:
        return self.master.commands.execute(line)

    def completions(self, line: str) -> list[str]:
        """What mitmproxy's prompt offers for the last word."""
        from mitmproxy.types import CommandTypes

        parts, _ = self.master.commands.parse_partial(line)
        kind = parts[-1].type
        return list(CommandTypes.get(kind).completion(self.master.commands, kind, parts[-1].value))

    def names(self) -> list[str]:
        return [account.name for account in self.services.pool.accounts]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeProcess]:
    """In a process of its own: a command that waits for it holds this one's loop up."""
    accounts = ("acct-main", "acct-work", "acct-new:pro:new@example.com")
    words = [word for account in accounts for word in ("--account", account)]
    with FakeProcess(*words, "--auth", str(tmp_path)) as fake:
        fake.call("set", issuer={"device_interval": "1"})
        yield fake


@pytest.fixture
async def proxy(fake: FakeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_AUTH_ISSUER_URL", fake.issuer_url)
    monkeypatch.setenv("OPENAI_AUTH_BACKEND_URL", fake.backend_url)
    async with await Store.open(tmp_path, keyring=False) as store:
        for account, label in (("acct-main", "home"), ("acct-work", "work")):
            (login,) = read_logins(Path(fake.ready["accounts"][account]["auth_json"]))
            await store.add(login, label)
    options = Options()
    services = Services(options)
    addons = (options, Logs(options, services), services, Commands(services, options))
    async with mitmproxy(tmp_path / "mitmproxy", *addons) as (master, _):
        await services.ready()
        told = Told()
        logging.getLogger().addHandler(told)
        logging.getLogger().setLevel(logging.DEBUG)
        yield Proxy(master, services, fake, told)
        services._stop.set()
        assert services._life
        await services._life


def test_nothing_of_a_command_needs_the_store_to_be_open() -> None:
    """mitmproxy looks at every attribute of an addon when it loads it."""
    commands = Commands(Services(Options()), Options())
    for name in dir(commands):
        getattr(commands, name)
    with pytest.raises(CommandError, match="not loaded yet"):
        commands.accounts()


async def test_accounts(proxy: Proxy) -> None:
    heading, home, work = proxy("codex.accounts")
    assert heading == HEADINGS
    assert home[:5] == ["home", "main", "plus", "acct-main@example.com", "ok"]
    assert (work[0], work[1], work[6]) == ("work", "fallback", "acct-work")


async def test_completion(proxy: Proxy) -> None:
    assert {"main", "home", "work", "acct-work"} < set(proxy.completions("codex.switch w"))
    assert proxy.completions("codex.logging d") == ["error", "warn", "info", "debug", "trace"]
    assert "routing.mode" in proxy.completions("codex.config r")


async def test_switch_order_rename_disable_enable_remove(proxy: Proxy) -> None:
    for line, said, names in (
        ("codex.switch work", "work is main now", ["work", "home"]),
        ("codex.order home work", "Order: home, work", ["home", "work"]),
        ("codex.rename work office", "Renamed: office", ["home", "office"]),
        ("codex.disable office", "office is disabled", ["home", "office"]),
        ("codex.enable OFFICE", "office is enabled", ["home", "office"]),
        ("codex.remove main", r"Removed home\. office is main now", ["office"]),
    ):
        assert proxy(line) is None
        assert (await proxy.told.until(said)).levelno == ALERT
        assert proxy.names() == names  # at once, not at the next look at the store


@pytest.mark.parametrize("command", ["switch", "order home", "remove", "logout", "enable", "disable"])
async def test_an_unknown_account_is_an_error_at_once(proxy: Proxy, command: str) -> None:
    with pytest.raises(CommandError, match="there is no account 'nobody': known are home, work"):
        proxy(f"codex.{command} nobody")


async def test_a_reserved_or_taken_label_is_an_error_at_once(proxy: Proxy) -> None:
    for line in ("codex.rename work main", "codex.login Main", "codex.login.headless MAIN"):
        with pytest.raises(CommandError, match="is reserved"):
            proxy(line)
    with pytest.raises(CommandError, match="already names another account"):
        proxy("codex.rename work home")


@pytest.mark.xdist_group("login ports")
async def test_login_gives_the_address_at_once_and_reports_later(proxy: Proxy) -> None:
    url = proxy("codex.login third")
    assert url.startswith(f"{proxy.fake.issuer_url}/oauth/authorize?")
    other = proxy("codex.login")  # a second one at the same time, on the same port
    assert re.search(r"localhost%3A(\d+)", url)[0] == re.search(r"localhost%3A(\d+)", other)[0]  # type: ignore[index]
    assert "You are logged in" in await Person("approve").press(url, account="acct-new")
    assert (await proxy.told.until("Logged in as third")).levelno == ALERT
    assert proxy.names() == ["home", "work", "third"]
    await Person("deny").press(other)
    assert (await proxy.told.until("denied the request")).levelno == logging.ERROR


async def test_login_headless_gives_the_code_at_once_and_reports_later(proxy: Proxy) -> None:
    url, _, code = proxy("codex.login.headless").split()
    await Person("approve").press(url, user_code=code, account="acct-work")
    await proxy.told.until("Updated the login of work")
    assert proxy.names() == ["home", "work"]


async def test_a_login_that_fails_at_once_is_an_error(proxy: Proxy) -> None:
    proxy.fake.call("issuer/fail", on="device_start", status=404)
    with pytest.raises(CommandError, match="not enabled"):
        proxy("codex.login.headless")


async def test_an_issuer_that_takes_its_time_is_waited_for_in_the_log(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("addon.logins.PATIENCE", 0.0)
    gate = proxy.fake.call("issuer/stall", on="device_start")["gate"]
    assert "the log says what to do" in proxy("codex.login.headless")
    proxy.fake.call(f"gates/{gate}/reached")
    proxy.fake.call(f"gates/{gate}/release")
    said = (await proxy.told.until("To log in: ")).getMessage().split()
    await Person("approve").press(said[3], user_code=said[5], account="acct-new")
    await proxy.told.until("Logged in as")


async def test_logout_revokes(proxy: Proxy) -> None:
    proxy("codex.logout work")
    await proxy.told.until("Logged out and removed work")
    assert proxy.fake.get()["revoked"] == ["acct-work"]
    assert proxy.names() == ["home"]


async def test_logout_says_when_it_could_not_revoke(proxy: Proxy) -> None:
    proxy.fake.call("issuer/fail", on="revoke", status=500)
    proxy("codex.logout work")
    assert (await proxy.told.until("could not be revoked")).levelno == logging.WARNING
    await proxy.told.until("Logged out and removed work")


async def test_config(proxy: Proxy, tmp_path: Path) -> None:
    assert proxy("codex.config webSearch") == "webSearch = true"
    assert proxy("codex.config webSearch off") == "webSearch = false"
    assert proxy.services.settings.web_search is False
    assert proxy("codex.config upstreamProxy http://me:secret@127.0.0.1:9").startswith(
        'upstreamProxy = "http://***@127.0.0.1:9'
    )
    with pytest.raises(CommandError, match="did you mean webSearch"):
        proxy("codex.config webSerch")
    with pytest.raises(CommandError, match="allowed: true or false"):
        proxy("codex.config webSearch perhaps")


async def test_logging_is_live(proxy: Proxy, tmp_path: Path) -> None:
    assert proxy("codex.logging") == f"info, into {tmp_path / 'openai-auth.log'}"
    proxy("codex.logging debug")
    await until(lambda: logging.getLogger("addon").level == logging.DEBUG)
    with pytest.raises(CommandError, match="allowed"):
        proxy("codex.logging loud")


async def test_the_log_names_no_account_id_and_no_address(proxy: Proxy, tmp_path: Path) -> None:
    logging.getLogger("addon.x").warning("acct-work of acct-main@example.com is limited")
    line = (tmp_path / "openai-auth.log").read_text().splitlines()[-1]
    assert line.endswith("***REDACTED*** of ***REDACTED*** is limited")
    assert proxy.told.records[-1].getMessage().startswith("***REDACTED***")


async def until(condition: Any) -> None:
    """The settings file is looked at twice a second."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.05)


def test_no_addon_of_ours_bears_a_name_of_mitmproxys_own() -> None:
    """mitmproxy knows an addon by its class's name, and console and mitmweb have more of their own."""
    from mitmproxy.addonmanager import _get_name
    from mitmproxy.addons import default_addons, eventstore, intercept, readfile, save, view

    from addon.main import addons

    theirs = {_get_name(each) for each in default_addons()}
    theirs |= {each.__name__.lower() for each in (intercept.Intercept, view.View, eventstore.EventStore)}
    theirs |= {each.__name__.lower() for each in (readfile.ReadFileStdin, save.Save)}
    assert not theirs & {_get_name(each) for each in addons}
