"""`openai-auth` quota, routing, explain, killswitch and reset, against the fake backend over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from accounts import conversations
from accounts.cli import program
from accounts.cli_quota import watch_quota
from accounts.models import Mark, Quota, Window
from accounts.online import connect
from accounts.paths import PREFIXES
from accounts.placement import Pin
from accounts.quota_records import Observations
from accounts.quota_table import QuotaView
from accounts.settings_file import SettingsFile
from accounts.store import Store
from tests.codex_fake.server import CodexFake
from tests.test_cli import INSTALLED
from tests.world import World

SESSION, OTHER = "a1b2c3" + "0" * 58, "a1b2ff" + "0" * 58


@dataclass
class Machine:
    """A home with two accounts, `main` and `work`, of a fake backend."""

    world: World
    home: Path

    async def run(self, *arguments: str, input: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, program(), arguments, input=input)

    async def ok(self, *arguments: str, input: str | None = None) -> str:
        result = await self.run(*arguments, input=input)
        assert result.exit_code == 0, result.output
        return result.stdout

    async def failed(self, *arguments: str, input: str | None = None) -> str:
        result = await self.run(*arguments, input=input)
        assert result.exit_code == 1, result.output
        return result.stderr.splitlines()[-1].removeprefix("openai-auth: ")

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self.ok(*arguments, "--json"))

    async def open(self) -> Store:
        return await Store.open(self.home, keyring=False)

    def settings(self) -> Any:
        return json.loads((self.home / "openai-auth.json").read_text())

    async def observe(self, name: str, used: float, *, mark: Mark | None = None, pins: Any = None) -> None:
        """Numbers of an account as another process saw them: five hours and a week, reset in an hour."""
        async with await self.open() as store:
            account = await store.account(name)
            now = time.time()
            windows = tuple(Window(minutes, used, now + 3600, now, "headers") for minutes in (300, 10_080))
            numbers = Quota(account.account_id, windows, seen_at=now, complete=True)
            marks = {(account.id, "codex"): replace(mark, seen_at=now)} if mark else {}
            pinned = {
                session: Pin(account.id, account.account_id, now - 60, now - 30, 2048, None)
                for session in pins or ()
            }
            await store.observe(Observations({account.id: numbers}, marks, pins=pinned))


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name == "FORCE_COLOR":
            monkeypatch.delenv(name)
    async with CodexFake() as fake:
        home = tmp_path / "home"
        home.mkdir()
        world = World(home, fake)
        for name, value in (world.environ | {"OPENAI_AUTH_HOME": str(home)}).items():
            monkeypatch.setenv(name, value)
        await world.know(world.main)
        await world.know(world.work, "work")
        yield Machine(world, home)


class TestQuota:
    async def test_every_account_is_asked_those_too_that_never_serve(self, machine: Machine) -> None:
        machine.world.main.set_quota((41, 300, time.time() + 3600), None)
        await machine.ok("disable", "work")
        main, work = await machine.json("quota")
        (window,) = main["windows"]
        assert (window["minutes"], window["used_percent"], window["source"]) == (300, 41.0, "usage")
        assert [each["source"] for each in work["windows"]] == ["usage", "usage"]
        assert {seen.account for seen in machine.world.fake.seen("usage")} == {"acct-main", "acct-work"}

    async def test_the_numbers_are_there_for_other_processes(self, machine: Machine) -> None:
        polled = await machine.json("quota")
        assert await machine.json("quota", "--no-poll") == polled
        assert len(machine.world.fake.seen("usage")) == 2

    async def test_without_polling_nothing_is_sent(self, machine: Machine) -> None:
        assert [row["windows"] for row in await machine.json("quota", "--no-poll")] == [[], []]
        assert machine.world.fake.requests == []

    async def test_an_account_that_fails_says_why_and_the_others_are_shown(self, machine: Machine) -> None:
        await machine.observe("work", 33)
        machine.world.work.fail(500, on="usage")
        main, work = await machine.json("quota")
        assert main["error"] is None
        assert work["error"] == "/wham/usage answered 500"
        assert work["windows"][0]["used_percent"] == 33.0
        machine.world.work.revoke()
        lines = (await machine.ok("quota")).splitlines()
        assert any("openai-auth login" in line for line in lines)

    async def test_an_expired_token_is_renewed_on_the_way(self, machine: Machine) -> None:
        machine.world.main.expire_access()
        assert (await machine.json("quota"))[0]["error"] is None

    async def test_a_lifted_limit_is_lifted_for_everybody(self, machine: Machine) -> None:
        await machine.observe("work", 100, mark=Mark(time.time() + 3600, "usage limit reached", 0))
        assert (await machine.json("list"))[1]["state"] == "limited"
        await machine.ok("quota")
        assert (await machine.json("list"))[1]["state"] == "ok"

    async def test_the_table_says_source_age_pace_and_reset_credits(self, machine: Machine) -> None:
        machine.world.main.set_quota((80, 300, time.time() + 9000), None)
        machine.world.main.give_reset_credits(2)
        lines = (await machine.ok("quota")).splitlines()
        assert lines[0].split() == [
            *("ACCOUNT", "PLAN", "WINDOW", "USED", "RESETS", "IN", "SEEN", "PACE", "AND", "NOTES")
        ]
        assert lines[1].split()[:4] == ["main", "plus", "5h", "80%"]
        assert "2h30m" in lines[1]
        assert "just now (usage)" in lines[1]
        assert "30% deficit, runs out in 37m" in lines[1] or "30% deficit, runs out in 38m" in lines[1]
        assert "2 reset credits, 0 usable now" in lines[2]

    async def test_a_models_own_limit_has_its_name(self, machine: Machine) -> None:
        machine.world.main.set_extra_limit("codex_bengalfox", (12, 300, time.time() + 60))
        windows = (await machine.json("quota"))[0]["windows"]
        assert [each["limit"] for each in windows] == ["codex", "codex", "codex_bengalfox"]

    async def test_watching_and_json_do_not_go_together(self, machine: Machine) -> None:
        assert (await machine.run("quota", "--watch", "--json")).exit_code == 2

    async def test_watching_shows_what_is_known_asks_for_all_and_follows_other_processes(
        self, machine: Machine
    ) -> None:
        shown: list[QuotaView] = []

        async def other_process(_: float) -> None:
            if len(shown) > 3:
                raise asyncio.CancelledError
            await machine.observe("main", 77)

        async with await machine.open() as store, connect(store, SettingsFile().current) as online:
            with pytest.raises(asyncio.CancelledError):
                await watch_quota(store, online.poller, shown.append, interval=300, sleep=other_process)
            main = (await store.accounts())[0]
        assert shown[0].quotas == {}
        assert len(shown[1].quotas) == 2
        assert shown[-1].quotas[main.id].windows[0].used_percent == 77
        assert len(machine.world.fake.seen("usage")) == 2


class TestRouting:
    async def test_the_mode_is_shown_and_set(self, machine: Machine) -> None:
        assert (await machine.ok("routing")).startswith("main-first: ")
        assert (await machine.ok("routing", "sticky-balanced")).startswith("sticky-balanced: ")
        assert machine.settings() == {"routing": {"mode": "sticky-balanced"}}
        assert (await machine.ok("routing")).startswith("sticky-balanced: ")

    async def test_what_is_stronger_is_said(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_AUTH_ROUTING_MODE", "main-first")
        said = await machine.ok("routing", "fallback-first")
        assert said == "fallback-first is written, but OPENAI_AUTH_ROUTING_MODE decides: main-first\n"

    async def test_json_is_the_mode_and_where_conversations_are(self, machine: Machine) -> None:
        await machine.observe("work", 5, pins=[SESSION])
        shown = await machine.json("routing")
        assert (shown["mode"], shown["keep_conversation"]) == ("main-first", True)
        (conversation,) = shown["conversations"]
        assert (conversation["session"], conversation["account"]) == (SESSION, "work")
        assert (conversation["thread_id"], conversation["input_bytes"]) == (None, 2048)
        assert conversation["last_seen_at"].endswith("Z")

    @pytest.mark.parametrize(
        "words", [["MAIN"], ["main-first", "x"], ["reset", "a", "b"], ["main-first", "--json"]]
    )
    async def test_other_words_are_wrong_usage(self, machine: Machine, words: list[str]) -> None:
        assert (await machine.run("routing", *words)).exit_code == 2

    async def test_conversations_are_listed_and_forgotten(self, machine: Machine) -> None:
        await machine.observe("work", 5, pins=[SESSION, OTHER])
        lines = [line.split() for line in (await machine.ok("routing")).splitlines()]
        assert ["a1b2c3000000", "–", "work"] in [line[:3] for line in lines]
        assert "2 conversations begin with 'a1b2'" in await machine.failed("routing", "reset", "a1b2")
        assert (await machine.ok("routing", "reset", "a1b2c3")).startswith("Forgot 1 conversation;")
        async with await machine.open() as store:
            assert list(await store.pins()) == [OTHER]
        assert (await machine.ok("routing", "reset")).startswith("Forgot 1 conversation;")

    async def test_a_conversation_is_known_by_its_session_id_and_by_its_thread(
        self, machine: Machine
    ) -> None:
        session = "0f6d1c6a0d7dd6a8b1e5c2d9dbd51a8c"
        async with await machine.open() as store:
            key = hashlib.sha256(session.encode()).hexdigest()
            thread = await store.thread_id(key)
            for name in (session, thread, thread.upper(), key):
                assert await conversations.find(store, name) == key
            with pytest.raises(conversations.NoSuchConversation, match="'nobody'"):
                await conversations.find(store, "nobody")


class TestExplain:
    async def test_order_and_reason_of_each_skip(self, machine: Machine) -> None:
        until = time.time() + 3600
        await machine.observe("main", 50, mark=Mark(until, "usage_limit_reached", 0))
        said = (await machine.ok("explain")).splitlines()
        assert said[0].startswith("main-first: ")
        assert said[1] == "1. work: fallback"
        assert said[2].startswith("–  main: skipped (marked, until 20")
        assert "usage_limit_reached (ends in 1h0m)" in said[2]

    async def test_json_is_the_decision(self, machine: Machine) -> None:
        await machine.ok("disable", "work")
        found = await machine.json("explain")
        assert found["mode"] == "main-first"
        assert [each["account"] for each in found["candidates"]] == ["main"]
        (skip,) = found["skipped"]
        assert (skip["account"], skip["reason"], skip["until"]) == ("work", "disabled", None)
        assert found["retry_at"] is None

    async def test_a_conversation_stays_where_it_is(self, machine: Machine) -> None:
        await machine.observe("work", 5, pins=[SESSION])
        assert (
            (await machine.ok("explain", SESSION[:8]))
            .splitlines()[1]
            .startswith("1. work: this conversation")
        )
        assert (await machine.ok("explain")).splitlines()[1] == "1. main: main"

    async def test_the_pledge_when_nobody_may_serve(self, machine: Machine) -> None:
        await machine.observe("main", 50, mark=Mark(time.time() + 7200, "limit", 0))
        await machine.observe("work", 50, mark=Mark(time.time() + 1800, "limit", 0))
        assert "No account may serve; the first may again in 30m" in await machine.ok("explain")

    async def test_a_model_with_a_limit_of_its_own(self, machine: Machine) -> None:
        machine.world.main.set_extra_limit("codex_bengalfox", (100, 300, time.time() + 3600))
        await machine.ok("quota")
        assert (await machine.json("explain", "--model", "codex-bengalfox"))["candidates"][0][
            "account"
        ] == "work"
        assert (await machine.json("explain", "--model", "gpt-5.5"))["candidates"][0]["account"] == "main"

    async def test_a_conversation_is_explained_by_its_last_model(self, machine: Machine) -> None:
        async with await machine.open() as store:
            work, now = await store.account("work"), time.time()
            pin = Pin(work.id, None, now - 900, now - 600, 10, None, "gpt-5.6-codex")  # warm for half an hour
            await store.observe(Observations(pins={SESSION: pin}))
        assert (await machine.json("explain", SESSION))["candidates"][0]["account"] == "work"
        cold = await machine.json("explain", SESSION, "--model", "gpt-5.5")
        assert cold["candidates"][0]["account"] == "main"


class TestKillswitch:
    async def rows(self, machine: Machine, *words: str) -> list[str]:
        return [" ".join(line.split()) for line in (await machine.ok("killswitch", *words)).splitlines()]

    async def test_it_is_off_and_shows_what_would_hold(self, machine: Machine) -> None:
        await machine.observe("work", 97)
        lines = await self.rows(machine)
        assert lines[0] == "Killswitch: off"
        assert lines[2] == "main 5% 10% quota not known yet"
        assert lines[3].startswith("work 5% 10% would rest: 5h window: 3% left, below 5% (resets in")

    async def test_json_is_the_table(self, machine: Machine) -> None:
        await machine.observe("work", 97)
        shown = await machine.json("killswitch", "set", "main:0,7.5")
        assert shown["enabled"] is True
        main, work = shown["accounts"]
        assert (main["account"], main["primary"], main["secondary"]) == ("main", 0, 7.5)
        assert work["state"].startswith("rests: 5h window: 3% left, below 5%")

    async def test_on_and_off(self, machine: Machine) -> None:
        await machine.observe("work", 97)
        assert (await self.rows(machine, "on"))[3].startswith("work 5% 10% rests: 5h window")
        assert (await self.rows(machine, "off"))[0] == "Killswitch: off"

    async def test_set_switches_on_and_names_are_kept_as_they_are(self, machine: Machine) -> None:
        await machine.ok("rename", "work", "My Work")
        lines = await self.rows(machine, "set", "my work:20,30", "main:0,7.5")
        assert lines[0] == "Killswitch: on"
        assert lines[2].startswith("main 0% 7.5%")
        assert lines[3].startswith("My Work 20% 30%")
        assert machine.settings()["killswitch"] == {
            "enabled": True,
            "accounts": {
                "My Work": {"primary": 20, "secondary": 30},
                "main": {"primary": 0, "secondary": 7.5},
            },
        }

    async def test_an_account_is_written_down_once_whatever_it_is_called(self, machine: Machine) -> None:
        await self.rows(machine, "set", "acct-work:1,2")
        async with await machine.open() as store:
            id = (await store.account("work")).id
        assert (await self.rows(machine, "set", f"{id}:3,4"))[3].startswith("work 3% 4%")
        assert list(machine.settings()["killswitch"]["accounts"]) == ["work"]

    async def test_all_replaces_what_was_set_for_single_ones(self, machine: Machine) -> None:
        await self.rows(machine, "set", "work:50,50")
        lines = await self.rows(machine, "set", "all:1,2", "main:3,4")
        assert [line[:10] for line in lines[2:]] == ["main 3% 4%", "work 1% 2%"]

    @pytest.mark.parametrize(
        "words", [["set"], ["set", "work"], ["set", "work:5"], ["set", ":5,5"], ["maybe"]]
    )
    async def test_what_is_not_understood_is_wrong_usage(self, machine: Machine, words: list[str]) -> None:
        assert (await machine.run("killswitch", *words)).exit_code == 2
        assert not (machine.home / "openai-auth.json").exists()

    @pytest.mark.parametrize("word", ["nobody:5,5", "work:5,101", "work:a,b"])
    async def test_one_wrong_word_changes_nothing(self, machine: Machine, word: str) -> None:
        await machine.failed("killswitch", "set", "main:1,1", word)
        assert not (machine.home / "openai-auth.json").exists()

    async def test_a_threshold_for_nobody_is_pointed_out(self, machine: Machine) -> None:
        await machine.ok("killswitch", "set", "work:5,5")
        await machine.ok("remove", "work")
        assert "'work', but no account has that name" in (await machine.run("killswitch")).stderr

    async def test_a_renamed_account_keeps_its_threshold(self, machine: Machine) -> None:
        await machine.ok("killswitch", "set", "work:20,30")
        await machine.ok("rename", "work", "office")
        assert (await self.rows(machine))[3].startswith("office 20% 30%")

    async def test_an_account_that_logs_in_under_another_label_keeps_it_too(self, machine: Machine) -> None:
        await machine.ok("killswitch", "set", "work:20,30")
        login = machine.world.work.write_auth_json(machine.home / "again.json", 864_000.0)
        await machine.ok("import", str(login), "--label", "office")
        assert (await self.rows(machine))[3].startswith("office 20% 30%")

    async def test_main_is_set_also_when_it_had_a_threshold_of_its_own(self, machine: Machine) -> None:
        await machine.ok("rename", "main", "home")
        await self.rows(machine, "set", "home:20,30")
        assert (await self.rows(machine, "set", "main:1,2"))[2].startswith("home 1% 2%")


class TestReset:
    async def test_the_list_says_who_can_be_reset_and_why_not(self, machine: Machine) -> None:
        machine.world.work.limit()
        machine.world.work.give_reset_credits(2)
        main, work = await machine.json("reset")
        assert (main["eligible"], main["obstacle"]) == (
            False,
            "no window is used up, so there is nothing to reset",
        )
        assert (work["eligible"], work["available"], work["credit"]["id"]) == (True, 2, "credit-acct-work-1")
        lines = (await machine.ok("reset")).splitlines()
        assert "yes: one reset credit that expires in 3" in lines[2]
        assert machine.world.fake.seen("consume") == []

    async def test_what_will_be_spent_is_shown_and_nothing_is_without_a_yes(self, machine: Machine) -> None:
        machine.world.work.limit()
        machine.world.work.give_reset_credits()
        result = await machine.run("reset", "work", input="n\n")
        assert result.exit_code == 1
        assert "acct-work@example.com" in result.stderr
        assert "ChatGPT account acct-work" in result.stderr
        assert "5h 100% used" in result.stderr
        assert "cannot be undone" in result.stderr
        assert machine.world.fake.seen("consume") == []

    @pytest.mark.parametrize(("options", "input"), [(["--yes"], None), ([], "y\n")])
    async def test_one_credit_is_spent_and_the_account_serves_again(
        self, machine: Machine, options: list[str], input: str | None
    ) -> None:
        until = machine.world.work.limit()
        machine.world.work.give_reset_credits(2)
        await machine.observe("work", 100, mark=Mark(until, "usage_limit_reached", 0))
        said = await machine.ok("reset", "work", *options, input=input)
        assert "work was reset: one credit is spent. Now: 5h 0% used" in said
        assert len(machine.world.work.available_credits()) == 1
        assert (await machine.json("list"))[1]["state"] == "ok"

    async def test_an_account_with_nothing_to_reset(self, machine: Machine) -> None:
        machine.world.work.give_reset_credits()
        assert await machine.failed("reset", "work", "--yes") == (
            "work: no window is used up, so there is nothing to reset"
        )

    async def test_a_lost_answer_is_repeated_and_spends_nothing_more(self, machine: Machine) -> None:
        machine.world.work.limit()
        machine.world.work.give_reset_credits(2)
        machine.world.work.lose_answer()
        assert "is not certain" in await machine.failed("reset", "work", "--yes")
        assert "no certain outcome" in await machine.ok("reset")
        assert "nothing more is spent" in await machine.ok("reset", "work", "--yes")
        first, second = machine.world.fake.seen("consume")
        assert first.json == second.json
        assert len(machine.world.work.available_credits()) == 1

    async def test_two_commands_at_once_spend_one_credit(self, machine: Machine) -> None:
        machine.world.work.limit()
        machine.world.work.give_reset_credits(3)
        programs = [
            await asyncio.create_subprocess_exec(
                INSTALLED,
                "reset",
                "work",
                "--yes",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for _ in range(2)
        ]
        await asyncio.gather(*(program.communicate() for program in programs))
        assert 0 in [program.returncode for program in programs]
        assert len(machine.world.work.available_credits()) == 2
