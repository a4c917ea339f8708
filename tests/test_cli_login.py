"""`openai-auth` login, logout and logging: in process against a fake issuer in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from accounts import cli_login
from accounts.cli import program
from accounts.login import browser_login
from accounts.paths import PREFIXES
from tests.codex_fake import FakeProcess
from tests.test_cli import INSTALLED

pytestmark = pytest.mark.xdist_group("login ports")
"""The issuer knows two ports only, so these tests take turns."""

ACCOUNTS = ("acct-main:plus:main@example.com", "acct-work:pro:work@example.com")


@pytest.fixture(scope="module")
def shared_fake() -> Iterator[FakeProcess]:
    accounts = [word for account in ACCOUNTS for word in ("--account", account)]
    with FakeProcess(*accounts) as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: FakeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    """The issuer, and a machine of its own for each test."""
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_AUTH_ISSUER_URL", shared_fake.issuer_url)
    return shared_fake


class Person:
    """Presses a button on the page of an address, as `account`."""

    def __init__(self, decision: str = "approve", account: str = "acct-main") -> None:
        self.form = {"decision": decision, "account": account}
        self.opened: list[str] = []

    def open_page(self, url: str) -> None:
        """In the place of the browser."""
        self.opened.append(url)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        self.post(url.partition("?")[0], **query)

    def type_code(self, url: str, code: str) -> None:
        self.post(url, user_code=code)

    def post(self, url: str, **fields: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(url, urllib.parse.urlencode(fields | self.form).encode()).close()


def cli(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(program(), arguments, input=stdin)


def log_in(monkeypatch: pytest.MonkeyPatch, person: Person, *arguments: str) -> Result:
    monkeypatch.setattr("accounts.login.open_page", person.open_page)
    return cli("login", *arguments)


def listed() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(cli("list", "--json").stdout)
    return rows


class TestBrowser:
    def test_the_first_is_main_and_the_next_a_fallback(
        self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = log_in(monkeypatch, Person())
        second = log_in(monkeypatch, Person(account="acct-work"), "--label", "work")
        assert first.stdout == "Logged in as main (main@example.com, plus, main).\n"
        assert second.stdout == "Logged in as work (work@example.com, pro, fallback).\n"
        assert [row["role"] for row in listed()] == ["main", "fallback"]

    def test_the_address_is_shown_whether_or_not_a_browser_opens(
        self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        person = Person()
        shown = log_in(monkeypatch, person).stderr
        assert f"\n  {person.opened[0]}\n" in shown
        assert "--headless" in shown

    def test_the_same_account_is_updated_and_keeps_its_label(
        self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_in(monkeypatch, Person(), "--label", "home")
        again = log_in(monkeypatch, Person())
        assert again.stdout == "Updated the login of home (main@example.com, plus, main).\n"
        assert len(listed()) == 1

    def test_the_label_of_the_account_that_logs_in_again_is_no_conflict(
        self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_in(monkeypatch, Person(), "--label", "home")
        again = log_in(monkeypatch, Person(), "--label", "home")
        assert (again.exit_code, again.stdout.split()[0]) == (0, "Updated")

    def test_a_login_is_not_lost_for_a_label_that_another_account_has(
        self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_in(monkeypatch, Person(), "--label", "home")
        other = log_in(monkeypatch, Person(account="acct-work"), "--label", "home")
        assert other.exit_code == 0
        assert "already names another account" in other.stderr
        assert [row["label"] for row in listed()] == ["home", None]
        rename = re.search(r"`openai-auth (rename \S+) NAME`", other.stderr)
        assert rename
        assert cli(*rename[1].split(), "work").exit_code == 0

    @pytest.mark.parametrize("label", ["main", "MAIN", " Main "])
    def test_main_is_reserved_and_said_so_before_a_browser_opens(
        self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch, label: str
    ) -> None:
        person = Person()
        result = log_in(monkeypatch, person, "--label", label)
        assert (result.exit_code, result.stdout, person.opened) == (1, "", [])
        assert "is reserved" in result.stderr

    def test_a_damaged_store_is_said_before_a_browser_opens(
        self, fake: FakeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "state.db").write_bytes(b"this is no database" * 100)
        person = Person()
        result = log_in(monkeypatch, person)
        assert (result.exit_code, person.opened) == (1, [])
        assert "is damaged" in result.stderr

    def test_denied(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        result = log_in(monkeypatch, Person("deny"))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "denied the request" in result.stderr.splitlines()[-1]
        assert listed() == []

    def test_nobody_comes(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli_login, "browser_login", partial(browser_login, timeout=0.0))
        result = cli("login")
        assert result.exit_code == 1
        assert "nobody finished the login" in result.stderr

    def test_no_token_is_shown(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        result = log_in(monkeypatch, Person())
        assert "eyJ" not in result.output
        assert "rt_" not in result.output


class Running:
    """An `openai-auth login` in a process of its own, and what it has said so far."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [str(INSTALLED), "login", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def says(self, pattern: str) -> str:
        """Reads on until a line matches."""
        assert self.process.stderr
        for line in self.process.stderr:
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError(f"it never said {pattern}")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


class TestInstalled:
    def test_two_logins_at_once(self, fake: FakeProcess) -> None:
        first, second = Running("--label", "home"), Running("--label", "work")
        urls = [each.says(r"^  (http\S+)") for each in (first, second)]
        assert len({re.search(r"localhost%3A(\d+)", url)[1] for url in urls}) == 2  # type: ignore[index]
        Person(account="acct-work").open_page(urls[1])
        Person(account="acct-main").open_page(urls[0])
        assert first.end()[:2] == (0, f"Logged in as home (main@example.com, plus, {roles()['home']}).\n")
        assert second.end()[:2] == (0, f"Logged in as work (work@example.com, pro, {roles()['work']}).\n")

    def test_headless(self, fake: FakeProcess) -> None:
        login = Running("--headless")
        url = login.says(r"^  (http\S+)")
        code = login.says(r"Code: (\S+)")
        assert "15:00 left" in login.says("(Waiting.*)")
        Person(account="acct-work").type_code(url, code)
        assert login.end()[:2] == (0, "Logged in as main (work@example.com, pro, main).\n")

    def test_ctrl_c_leaves_nothing_behind(self, fake: FakeProcess) -> None:
        login = Running()
        login.says(r"^  (http\S+)")
        login.process.send_signal(2)
        code, out, err = login.end()
        assert (code, out) != (0, "")
        assert "Traceback" not in err
        assert listed() == []


def roles() -> dict[str, str]:
    return {row["label"]: row["role"] for row in listed()}


class TestHeadless:
    """In process, with a person who reads the code off the screen."""

    def run(self, monkeypatch: pytest.MonkeyPatch, fake: FakeProcess, person: Person | None) -> Result:
        def noted(message: str) -> None:
            if person and (found := re.search(r"Code: (\S+)", message)):
                person.type_code(f"{fake.issuer_url}/codex/device", found[1])
            typed(message)

        typed = cli_login.note
        monkeypatch.setattr(cli_login, "note", noted)
        return cli("login", "--headless")

    def test_approved(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        result = self.run(monkeypatch, fake, Person())
        assert result.stdout == "Logged in as main (main@example.com, plus, main).\n"

    def test_declined(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        result = self.run(monkeypatch, fake, Person("deny"))
        assert result.exit_code == 1
        assert "declined in the browser" in result.stderr
        assert listed() == []

    def test_device_logins_are_not_enabled(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        fake.call("issuer/fail", on="device_start", status=404)
        result = self.run(monkeypatch, fake, None)
        assert result.exit_code == 1
        assert "not enabled" in result.stderr

    def test_the_issuer_is_not_there(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_AUTH_ISSUER_URL", "http://127.0.0.1:9")
        result = self.run(monkeypatch, fake, None)
        assert result.exit_code == 1
        assert "check the network" in result.stderr


class TestApiKey:
    def test_from_a_pipe(self, fake: FakeProcess) -> None:
        result = cli("login", "--api-key", "--label", "paid", stdin="sk-abc\n")
        assert result.stdout == "Stored the API key paid (API key, main).\n"
        assert (listed()[0]["type"], listed()[0]["account_id"]) == ("api_key", None)

    def test_the_same_key_again(self, fake: FakeProcess) -> None:
        cli("login", "--api-key", stdin="sk-abc\n")
        assert cli("login", "--api-key", stdin="sk-abc").stdout.startswith("Updated the API key main")
        assert len(listed()) == 1

    def test_another_key_under_its_label_takes_its_place(self, fake: FakeProcess) -> None:
        cli("login", "--api-key", "--label", "paid", stdin="sk-abc\n")
        (before,) = listed()
        result = cli("login", "--api-key", "--label", "paid", stdin="sk-def\n")
        assert result.stdout == "Updated the API key paid (API key, main).\n"
        assert listed() == [before]
        assert cli("login", "--api-key", "--label", "paid", stdin="sk-def\n").stdout == result.stdout
        assert cli("login", "--api-key", stdin="sk-abc\n").stdout.startswith("Stored the API key")

    def test_what_it_costs_is_said(self, fake: FakeProcess) -> None:
        assert "costs money" in cli("login", "--api-key", stdin="sk-abc\n").stderr

    @pytest.mark.parametrize("text", ["", "\n", "sk abc\n", "sk-ü\n"])
    def test_what_cannot_be_one(self, fake: FakeProcess, text: str) -> None:
        result = cli("login", "--api-key", stdin=text)
        assert result.exit_code == 1
        assert "that is no API key" in result.stderr
        assert listed() == []

    def test_it_is_not_shown(self, fake: FakeProcess) -> None:
        assert "sk-abc" not in cli("login", "--api-key", stdin="sk-abc\n").output

    def test_it_is_another_login_than_headless(self, fake: FakeProcess) -> None:
        assert cli("login", "--api-key", "--headless").exit_code == 2


class TestLogout:
    @pytest.fixture
    def two(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        log_in(monkeypatch, Person(), "--label", "home")
        log_in(monkeypatch, Person(account="acct-work"), "--label", "work")

    def test_it_revokes_and_removes(self, fake: FakeProcess, two: None) -> None:
        before = fake.get()["revoked"]
        result = cli("logout", "work")
        assert result.stdout == "Logged out and removed work (work@example.com, pro, fallback).\n"
        assert result.stderr == ""
        assert fake.get()["revoked"] == [*before, "acct-work"]
        assert list(roles()) == ["home"]

    def test_main_promotes_the_next(self, two: None) -> None:
        assert cli("logout", "main").stdout.endswith("work is main now.\n")
        assert roles() == {"work": "main"}

    def test_it_removes_all_the_same_when_the_issuer_refuses(self, fake: FakeProcess, two: None) -> None:
        fake.call("issuer/fail", on="revoke", status=500)
        result = cli("logout", "work")
        assert result.exit_code == 0
        assert result.stderr.startswith("warning: the login could not be revoked")
        assert list(roles()) == ["home"]

    def test_and_when_it_cannot_be_reached(
        self, fake: FakeProcess, two: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_AUTH_ISSUER_URL", "http://127.0.0.1:9")
        assert "could not be revoked" in cli("logout", "work").stderr
        assert list(roles()) == ["home"]

    def test_an_unknown_account(self, two: None) -> None:
        result = cli("logout", "nobody")
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)

    def test_an_api_key_is_only_removed(self, fake: FakeProcess) -> None:
        cli("login", "--api-key", "--label", "paid", stdin="sk-abc\n")
        before = fake.get()["revoked"]
        assert cli("logout", "paid").exit_code == 0
        assert fake.get()["revoked"] == before


class TestLogging:
    def test_it_is_shown_and_changed(self, fake: FakeProcess, tmp_path: Path) -> None:
        assert cli("logging").stdout == f"Level: info\nFile: {tmp_path / 'openai-auth.log'}\n"
        assert cli("logging", "DEBUG").stdout.startswith("Level: debug\n")
        assert json.loads((tmp_path / "openai-auth.json").read_text()) == {"logging": {"level": "debug"}}

    def test_a_variable_is_stronger(self, fake: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_AUTH_LOG_LEVEL", "error")
        assert cli("logging", "debug").stdout.startswith("Level: error (decided by OPENAI_AUTH_LOG_LEVEL)\n")

    def test_an_unknown_level(self, fake: FakeProcess) -> None:
        assert cli("logging", "loud").exit_code == 2
