"""The `openai-auth` command: in process for what it does, installed for what only a process shows."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from accounts.cli import FILES, program
from accounts.models import Mark, Quota, RefreshError, Window
from accounts.paths import PREFIXES
from accounts.quota_records import Observations
from accounts.store import Store

INSTALLED = Path(sys.executable).with_name("openai-auth")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own for each test."""
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in ("OPENAI_BASE_URL", "NO_PROXY", "no_proxy", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "home"


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(program(), arguments)


def ok(*arguments: str) -> str:
    """The output of a command that succeeds."""
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(*arguments: str) -> str:
    """The one line on stderr of a command that fails as it should."""
    result = cli(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("openai-auth: ")


def token(account_id: str, email: str = "me@example.com", plan: str = "plus") -> str:
    auth = {"chatgpt_account_id": account_id, "chatgpt_plan_type": plan}
    claims = {"exp": time.time() + 3600, "email": email, "https://api.openai.com/auth": auth}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.c2ln"


def codex_login(folder: Path, account_id: str, refresh: str | None = None) -> Path:
    """An auth.json as the Codex CLI leaves it."""
    path = folder / f"{account_id}.json"
    tokens = {
        "id_token": token(account_id),
        "access_token": token(account_id),
        "refresh_token": refresh or f"refresh-{account_id}",
        "account_id": account_id,
    }
    path.write_text(json.dumps({"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens}))
    return path


@pytest.fixture
def two(tmp_path: Path) -> None:
    ok("import", str(codex_login(tmp_path, "acc-home")), "--label", "home")
    ok("import", str(codex_login(tmp_path, "acc-work")), "--label", "work")


def listed() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(ok("list", "--json"))
    return rows


def in_store[T](home: Path, act: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        async with await Store.open(home, keyring=False) as store:
            return await act(store)

    return asyncio.run(run())


class TestImport:
    def test_first_is_main_and_later_ones_are_fallbacks(self, tmp_path: Path) -> None:
        first = ok("import", str(codex_login(tmp_path, "acc-home")))
        second = ok("import", str(codex_login(tmp_path, "acc-work")), "--label", "work")
        assert first == "Added main (me@example.com, plus, main).\n"
        assert second == "Added work (me@example.com, plus, fallback).\n"

    def test_the_same_account_is_updated_and_never_added_twice(self, tmp_path: Path) -> None:
        ok("import", str(codex_login(tmp_path, "acc-home")))
        again = ok("import", str(codex_login(tmp_path, "acc-home", refresh="newer")))
        assert again.startswith("Updated main")
        assert len(listed()) == 1

    def test_warns_that_the_refresh_token_is_shared_now(self, tmp_path: Path) -> None:
        result = cli("import", str(codex_login(tmp_path, "acc-home")))
        assert result.stderr.startswith("warning: This login is now shared")
        assert "openai-auth login" in result.stderr

    def test_an_api_key_is_named_as_one_and_its_cost_is_said(self, tmp_path: Path) -> None:
        path = tmp_path / "auth.json"
        path.write_text('{"auth_mode": "apikey", "OPENAI_API_KEY": "sk-abc"}')
        result = cli("import", str(path))
        assert result.stdout == "Added main (API key, main).\n"
        assert "costs money" in result.stderr

    def test_accounts_that_are_left_out_are_named(self, tmp_path: Path) -> None:
        roster = [{"id": "work", "accountId": "acc-1"}, {"id": "gone", "accountId": "acc-2"}]
        (tmp_path / "openai-auth.json").write_text(json.dumps({"version": 1, "accounts": roster}))
        (tmp_path / "openai-auth-state.json").write_text('{"accounts": {"work": {"refresh": "rt-work"}}}')
        result = cli("import", str(tmp_path))
        assert result.stdout == "Added work (main).\n"
        assert "warning: gone was left out: there is no refresh token for it" in result.stderr

    def test_a_file_that_is_no_login(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text('{"hello": 1}')
        assert "is not a login file" in failed("import", str(tmp_path / "x.json"))

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert str(tmp_path / "missing.json") in failed("import", str(tmp_path / "missing.json"))

    def test_a_label_cannot_name_several_accounts(self, tmp_path: Path) -> None:
        (tmp_path / "openai-auth-state.json").write_text(
            json.dumps(
                {"version": 1, "accounts": {n: {"access": token(n), "refresh": n} for n in ("a", "b")}}
            )
        )
        roster = [{"id": name, "type": "oauth", "accountId": name} for name in ("a", "b")]
        (tmp_path / "openai-auth.json").write_text(json.dumps({"version": 1, "accounts": roster}))
        result = cli("import", str(tmp_path / "openai-auth.json"), "--label", "x")
        assert result.exit_code == 2
        assert listed() == []

    def test_a_reserved_label(self, tmp_path: Path) -> None:
        assert "reserved" in failed("import", str(codex_login(tmp_path, "acc")), "--label", "MAIN")


class TestList:
    def test_json_has_the_promised_members(self, two: None) -> None:
        home, work = listed()
        assert list(home) == [
            "id",
            "label",
            "role",
            "type",
            "account_id",
            "email",
            "plan",
            "enabled",
            "expires_at",
            "state",
            "limited_until",
        ]
        assert (home["label"], home["role"], home["account_id"]) == ("home", "main", "acc-home")
        assert (work["label"], work["role"], work["state"]) == ("work", "fallback", "ok")
        assert work["expires_at"].endswith("Z")

    def test_no_token_is_ever_shown(self, two: None) -> None:
        for output in (
            ok("list"),
            ok("list", "--json"),
            ok("quota", "--no-poll"),
            ok("quota", "--no-poll", "--json"),
        ):
            assert "eyJ" not in output
            assert "refresh-" not in output

    def test_without_accounts(self) -> None:
        assert listed() == []
        assert "openai-auth login" in cli("list").stderr

    def test_the_table_shows_every_account(self, two: None) -> None:
        lines = ok("list").splitlines()
        assert lines[0].split()[:3] == ["ACCOUNT", "ROLE", "PLAN"]
        assert [line.split()[:2] for line in lines[1:]] == [["home", "main"], ["work", "fallback"]]

    def test_a_marked_account_is_limited(self, two: None, home: Path) -> None:
        in_store(home, lambda store: _mark(store, "work", 4102444800.0))
        assert (listed()[1]["state"], listed()[1]["limited_until"]) == ("limited", "2100-01-01T00:00:00Z")

    def test_an_exhausted_account_is_limited_until_its_reset(self, two: None, home: Path) -> None:
        in_store(home, lambda store: _quota(store, "work", used=100.0, resets_at=4102444800.0))
        assert (listed()[1]["state"], listed()[1]["limited_until"]) == ("limited", "2100-01-01T00:00:00Z")

    def test_the_advice_for_a_dead_login_is_a_command_that_works(self, two: None, home: Path) -> None:
        ok("rename", "work", "my work")
        in_store(home, lambda store: _die(store, "my work"))
        assert "(openai-auth login --label 'my work')" in " ".join(ok("list").split())

    def test_a_mark_that_is_over_is_none(self, two: None, home: Path) -> None:
        in_store(home, lambda store: _mark(store, "work", 1.0))
        assert (listed()[1]["state"], listed()[1]["limited_until"]) == ("ok", None)


async def _die(store: Store, name: str) -> None:
    account = await store.account(name)
    held = await store.credentials(account.id)
    gone = RefreshError("gone", True, time.time(), None, 0, held.refresh_hash or "")
    await store.save_refresh_error(account.id, gone)


async def _mark(store: Store, name: str, until: float) -> None:
    id = (await store.account(name)).id
    await store.observe(Observations(marks={(id, "codex"): Mark(until, "usage limit reached", time.time())}))


async def _quota(store: Store, name: str, *, used: float, resets_at: float | None) -> None:
    account = await store.account(name)
    windows = tuple(
        Window(minutes, used, resets_at, seen_at=time.time(), source="headers") for minutes in (300, 10080)
    )
    seen = Quota(account.account_id, windows, plan="pro", seen_at=time.time(), complete=True)
    await store.observe(Observations({account.id: seen}))


class TestOrder:
    def names(self) -> list[str]:
        return [row["label"] for row in listed()]

    def test_switch_makes_main_loses_nothing_and_says_how_to_undo_it(self, two: None) -> None:
        said = ok("switch", "work")
        assert self.names() == ["work", "home"]
        assert said == "work is main now. Undo: openai-auth switch home\n"
        ok(*said.split("Undo: openai-auth ")[1].split())
        assert self.names() == ["home", "work"]

    def test_switch_to_what_is_main_already(self, two: None) -> None:
        assert ok("switch", "main") == "home is main already.\n"

    def test_order_swaps(self, two: None) -> None:
        assert ok("order", "main", "work") == "Order: work, home\n"

    def test_remove_main_promotes_the_next_and_says_so(self, two: None) -> None:
        said = ok("remove", "main")
        assert said.splitlines()[1] == "work is main now."
        assert self.names() == ["work"]

    def test_an_account_is_known_by_id_label_and_chatgpt_id(self, two: None) -> None:
        row = listed()[1]
        for name in (row["id"], "work", "WORK", "acc-work"):
            ok("disable", name)
            assert listed()[1]["state"] == "disabled"
            ok("enable", name)
            assert listed()[1]["state"] == "ok"

    def test_rename(self, two: None) -> None:
        ok("rename", "work", "office")
        assert self.names() == ["home", "office"]
        assert "already names another account" in failed("rename", "home", "office")

    @pytest.mark.parametrize(
        "command",
        [["remove", "x"], ["switch", "x"], ["order", "main", "x"], ["rename", "x", "y"], ["enable", "x"]],
    )
    def test_an_unknown_account_is_one_line_that_names_those_there_are(
        self, two: None, command: list[str]
    ) -> None:
        assert failed(*command) == "there is no account 'x': known are home, work"


class TestQuota:
    def test_json_has_the_promised_members(self, two: None, home: Path) -> None:
        in_store(home, lambda store: _quota(store, "home", used=40.0, resets_at=4102444800.0))
        first, second = json.loads(ok("quota", "--no-poll", "--json"))
        assert list(first) == ["id", "label", "role", "plan", "windows", "limited_until", "error"]
        assert (first["label"], first["role"], first["plan"], first["error"]) == ("home", "main", "pro", None)
        window = first["windows"][0]
        assert (window["minutes"], window["used_percent"], window["remaining_percent"]) == (300, 40.0, 60.0)
        assert (window["resets_at"], window["source"]) == ("2100-01-01T00:00:00Z", "headers")
        assert window["seen_at"].endswith("Z")
        assert second["windows"] == []

    def test_the_table(self, two: None, home: Path) -> None:
        in_store(home, lambda store: _quota(store, "home", used=85.0, resets_at=time.time() + 3601))
        lines = [line.split() for line in ok("quota", "--no-poll").splitlines()]
        assert lines[1][:4] == ["home", "pro", "5h", "85%"]
        assert lines[1][5:8] == ["1h1m", "just", "now"]
        assert lines[2][:2] == ["7d", "85%"]
        assert lines[3][:4] == ["work", "plus", "–", "unknown"]

    def test_numbers_from_before_the_reset_count_as_nothing_used(self, two: None, home: Path) -> None:
        in_store(home, lambda store: _quota(store, "home", used=85.0, resets_at=1.0))
        assert ok("quota", "--no-poll").splitlines()[1].split()[2:4] == ["5h", "0%"]


class TestConfig:
    def row(self, key: str) -> dict[str, Any]:
        rows = {row["key"]: row for row in json.loads(ok("config", "--json"))}
        found: dict[str, Any] = rows[key]
        return found

    def test_shows_value_and_origin(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert (self.row("webSearch")["value"], self.row("webSearch")["origin"]) == (True, "default")
        ok("config", "set", "webSearch", "off")
        path = home / "openai-auth.json"
        assert (self.row("webSearch")["value"], self.row("webSearch")["origin"]) == (False, f"file {path}")
        monkeypatch.setenv("OPENCODE_OPENAI_AUTH_NO_WEB_SEARCH", "0")
        row = self.row("webSearch")
        assert (row["value"], row["origin"]) == (True, "environment OPENCODE_OPENAI_AUTH_NO_WEB_SEARCH")

    def test_the_table_names_the_file_and_every_setting(self, home: Path) -> None:
        output = ok("config")
        assert output.startswith(f"Settings file: {home / 'openai-auth.json'} (not there yet)")
        assert len(output.splitlines()) == 2 + len(json.loads(ok("config", "--json")))

    def test_set_says_what_holds_now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert ok("config", "set", "routing.mode", "fallback-first") == 'routing.mode = "fallback-first"\n'
        monkeypatch.setenv("OPENAI_AUTH_DUMP", "0")
        assert ok("config", "set", "dump", "on") == "dump = false (decided by OPENAI_AUTH_DUMP)\n"

    def test_set_says_what_a_running_proxy_does_not_follow(self) -> None:
        said = ok("config", "set", "idleTimeout", "60", "webSearch", "off").splitlines()
        assert said == [
            "idleTimeout = 60 (a running proxy reads it when it starts again)",
            "webSearch = false",
        ]

    def test_set_several_and_unset(self) -> None:
        ok("config", "set", "cachekeep.startHour", "22", "cachekeep.endHour", "6")
        assert self.row("cachekeep.endHour")["value"] == 6
        assert ok("config", "unset", "cachekeep.startHour", "cachekeep.endHour").splitlines() == [
            "cachekeep.startHour = null",
            "cachekeep.endHour = null",
        ]

    def test_a_wrong_key_or_value(self) -> None:
        assert "did you mean webSearch?" in failed("config", "set", "webSerch", "on")
        assert 'found "perhaps"; allowed: true or false' in failed("config", "set", "webSearch", "perhaps")

    def test_a_key_without_value_is_wrong_usage(self) -> None:
        assert cli("config", "set", "webSearch").exit_code == 2

    def test_a_broken_file_is_named_and_can_be_corrected(self, home: Path) -> None:
        home.mkdir()
        (home / "openai-auth.json").write_text('{"dump": "x"}')
        assert failed("config").startswith(f'{home / "openai-auth.json"}: dump: found "x"; allowed:')
        ok("config", "set", "dump", "off")
        ok("config")

    @pytest.mark.parametrize(
        "command", [("config", "set", "dump", "on"), ("config", "unset", "dump"), ("logging", "debug")]
    )
    def test_a_change_beside_other_errors_is_written_and_said_to_be(
        self, home: Path, command: tuple[str, ...]
    ) -> None:
        home.mkdir()
        (home / "openai-auth.json").write_text('{"webSearch": "x", "dump": false}')
        result = cli(*command)
        assert result.exit_code == 0
        assert result.stderr.startswith("warning: written, but the file holds other errors:\n")
        assert 'webSearch: found "x"' in result.stderr
        assert json.loads((home / "openai-auth.json").read_text()) != {"webSearch": "x", "dump": False}

    def test_a_setting_without_effect_is_said_to_have_none(self) -> None:
        assert "dump has no effect: it is not built yet" in cli("config", "set", "dump", "on").stderr
        assert "dump true file (not built yet)" in " ".join(ok("config").split())

    def test_an_ignored_variable_is_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_AUTH_DUMP", "perhaps")
        result = cli("config")
        assert result.exit_code == 0
        assert result.stderr.startswith('warning: environment: OPENAI_AUTH_DUMP: found "perhaps"')

    def test_credentials_in_an_address_are_not_shown(self) -> None:
        ok("config", "set", "upstreamProxy", "http://me:secret@proxy.example:3128")
        for output in (ok("config"), ok("config", "--json")):
            assert "secret" not in output
            assert "http://***@proxy.example:3128" in output


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, each in group.commands.items():
        found.append((*path, name))
        if hasattr(each, "commands"):
            found += commands(each, (*path, name))
    return found


class TestHelp:
    @pytest.mark.parametrize("path", commands(typer.main.get_command(program())), ids=" ".join)
    def test_every_command_explains_itself_with_an_example(self, path: tuple[str, ...]) -> None:
        for flag in ("--help", "-h"):
            output = ok(*path, flag)
            assert "Example:" in output
            assert f"openai-auth {path[0]}" in output.split("Example:")[1].replace("\n", " ")

    def test_every_command_is_in_the_file_that_is_imported_for_it(self) -> None:
        app: Any = program()
        found = {each.name: each.callback for each in app.registered_commands}
        found |= {
            each.name: each.typer_instance.registered_callback.callback for each in app.registered_groups
        }
        assert {name: callback.__module__ for name, callback in found.items()} == {
            name: f"accounts.{file}" for file, names in FILES.items() for name in names
        }

    def test_what_a_command_does_not_need_is_not_imported(self) -> None:
        script = "import sys; from accounts.cli import program; program('env'); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert not {"sqlalchemy", "aiohttp"} & set(done.stdout.split())

    def test_no_arguments_shows_the_commands(self) -> None:
        assert "import" in cli().output

    @pytest.mark.parametrize("arguments", [["nonsense"], ["switch"], ["list", "--nonsense"], ["order", "a"]])
    def test_wrong_usage_is_exit_code_2(self, arguments: list[str]) -> None:
        assert cli(*arguments).exit_code == 2


def installed(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(INSTALLED), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environ,
        check=False,
    )


class TestInstalled:
    def test_list_and_an_error(self, tmp_path: Path) -> None:
        assert installed("import", str(codex_login(tmp_path, "acc-home"))).returncode == 0
        done = installed("list", "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout)[0]["account_id"] == "acc-home"
        done = installed("switch", "nobody")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "openai-auth: there is no account 'nobody': known are main\n"

    def test_no_colour_into_a_pipe(self, tmp_path: Path) -> None:
        installed("import", str(codex_login(tmp_path, "acc-home")))
        assert "\x1b" not in installed("list").stdout
        assert "\x1b" not in installed("config").stdout

    def test_a_damaged_store_is_one_line_and_stays_as_it_is(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        (home / "state.db").write_bytes(b"this is no database" * 100)
        done = installed("list")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "state.db" in done.stderr
        assert (home / "state.db").read_bytes() == b"this is no database" * 100

    def test_a_log_goes_into_its_file_and_nowhere_else(self, home: Path) -> None:
        script = (
            "import logging\n"
            "from accounts.console import app, command\n"
            "@command('x')\n"
            "def x(): logging.getLogger('accounts.x').warning('Bearer %s', 'eyJhbGciOiJub25lIn0.e30.c2ln')\n"
            "@command('y')\n"
            "def y(): pass\n"
            "app(['x'])"
        )
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert (result.stdout, result.stderr) == ("", "")
        assert (home / "openai-auth.log").read_text().endswith("WARNING [x] Bearer ***REDACTED***\n")

    def test_addon_path_and_version(self) -> None:
        path = Path(installed("addon-path").stdout.strip())
        assert (path.name, path.parent.name) == ("main.py", "addon")
        assert installed("version").stdout.strip()[0].isdigit()

    def test_a_reader_that_stops_reading_is_no_traceback(self) -> None:
        script = f"{INSTALLED} config | head -1"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)
        assert "Traceback" not in done.stderr
