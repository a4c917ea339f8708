"""mitmproxy's `codex.*` commands about quota and policy, in mitmproxy's own command manager."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy.exceptions import CommandError
from mitmproxy.test import taddons

from accounts.models import Mark, Quota, Window
from accounts.online import session
from accounts.placement import Pin
from accounts.pool import AccountPool
from accounts.quota_records import Observations
from accounts.reset_records import ResetRecords
from accounts.routing import Policy
from accounts.settings import Settings
from accounts.settings_file import SettingsFile
from accounts.settings_sources import Origin
from accounts.store import Store
from accounts.tokens import Tokens
from addon.options import Options
from addon.policy_commands import PolicyCommands
from addon.quota_service import QuotaService
from addon.services import Services
from tests.codex_fake.server import CodexFake
from tests.rotating_issuer import RotatingIssuer
from tests.world import World

SESSION = "a1b2c3" + "0" * 58


@dataclass
class FewServices:
    """The services that the commands use, and the settings as `Options` gives them."""

    pool: AccountPool
    quota: QuotaService
    file: SettingsFile

    @property
    def current(self) -> Settings:
        return self.file.current

    def reload(self) -> None:
        self.file.reload_if_changed()

    def value_and_origin(self, path: str) -> tuple[object, Origin]:
        return self.file.loaded.value_and_origin(path)


@dataclass
class Bench:
    world: World
    store: Store
    services: FewServices
    context: Any

    def run(self, *words: str) -> list[str]:
        found = self.context.master.commands.call_strings(words[0], words[1:])
        return list(found or [])

    async def observe(self, name: str, used: float, **more: Any) -> None:
        account = await self.store.account(name)
        now = time.time()
        windows = (Window(300, used, now + 3600, now, "headers"),)
        numbers = {account.id: Quota(account.account_id, windows, seen_at=now, complete=True)}
        marks = {(account.id, "codex"): replace(more["mark"], seen_at=now)} if "mark" in more else {}
        pins = {key: Pin(account.id, account.account_id, now, now, 10, None) for key in more.get("pins", ())}
        await self.store.observe(Observations(numbers, marks, pins=pins))
        await self.services.pool.reload()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path))
    async with CodexFake() as fake, RotatingIssuer() as issuer:
        world = World(tmp_path, fake)
        for name, value in (world.environ | {"OPENAI_AUTH_QUOTA_POLL": "on"}).items():
            monkeypatch.setenv(name, value)
        await world.know(world.main)
        await world.know(world.work, "work")
        file = SettingsFile()
        async with await Store.open(tmp_path, keyring=False) as store, session(file.current) as http:
            pool = AccountPool(
                store, Tokens(store, issuer.client), lambda: Policy.from_settings(file.current)
            )
            await pool.reload()
            quota = QuotaService(store, pool, http, lambda: file.current)
            services = FewServices(pool, quota, file)
            commands = PolicyCommands(cast("Services", services), cast("Options", services))
            with taddons.context(commands) as context:
                yield Bench(world, store, services, context)
                await quota.close()
                await pool.close()


async def test_quota_is_shown_at_once_and_asked_for(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await bench.observe("work", 44)
    shown = bench.run("codex.quota")
    assert shown[0].split()[:3] == ["ACCOUNT", "PLAN", "WINDOW"]
    assert any("44%" in line for line in shown)
    await bench.services.quota.close()
    assert len(bench.world.fake.seen("usage")) == 2
    assert "just now (usage)" in caplog.text


async def test_explain_is_the_pools_decision(bench: Bench) -> None:
    await bench.observe("main", 50, mark=Mark(time.time() + 600, "limit", 0))
    mode, first, skipped = bench.run("codex.explain")
    assert mode.startswith("main-first: ")
    assert first == "1. work: fallback"
    assert skipped.startswith("–  main: skipped (marked")


async def test_a_conversation_is_explained_and_forgotten(bench: Bench) -> None:
    await bench.observe("work", 5, pins=[SESSION])
    assert bench.run("codex.explain", "a1b2c3")[1].startswith("1. work: this conversation")
    assert bench.run("codex.routing")[1:] == ["a1b2c3000000  work"]
    bench.run("codex.routing", "reset", "a1b2c3")
    await bench.services.quota.close()
    assert bench.run("codex.routing")[1:] == []
    assert await bench.store.pins() == {}
    with pytest.raises(CommandError, match="no conversation is known"):
        bench.run("codex.explain", "a1b2c3")


async def test_the_mode_is_written_to_the_settings_file(bench: Bench) -> None:
    assert bench.run("codex.routing", "sticky-balanced")[0].startswith("sticky-balanced")
    assert bench.services.current.routing.mode == "sticky-balanced"
    assert bench.run("codex.routing")[0].startswith("sticky-balanced")
    with pytest.raises(CommandError, match="fallback-first"):
        bench.run("codex.routing", "random")


async def test_what_is_stronger_than_the_settings_file_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_AUTH_ROUTING_MODE", "main-first")
    line, told = bench.run("codex.routing", "sticky-balanced")
    assert line.startswith("main-first: ")
    assert told == 'routing.mode is written, but OPENAI_AUTH_ROUTING_MODE decides: "main-first"'


async def test_the_killswitch(bench: Bench, tmp_path: Path) -> None:
    await bench.observe("work", 60)
    bench.run("codex.killswitch", "set", "work:50,50")
    assert json.loads((tmp_path / "openai-auth.json").read_text())["killswitch"]["enabled"] is True
    shown = bench.run("codex.killswitch")
    assert shown[0] == "Killswitch: on"
    assert any(line.startswith("work  50%  50%  rests: 5h window: 40% left") for line in shown)
    with pytest.raises(CommandError, match="there is no account 'nobody'"):
        bench.run("codex.killswitch", "set", "nobody:1,1")


async def test_a_reset_wants_the_id_that_the_list_showed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    until = bench.world.work.limit()
    bench.world.work.give_reset_credits(2)
    await bench.observe("work", 100, mark=Mark(until, "limit", 0))
    bench.run("codex.reset")
    await bench.services.quota.close()
    assert "main: no window is used up" in caplog.text
    work = await bench.store.account("work")
    assert f"To do it: codex.reset {work.id} and the ChatGPT account id" in caplog.text
    bench.run("codex.reset", "work", "acct-main")
    await bench.services.quota.close()
    assert "is not the ChatGPT account that was confirmed" in caplog.text
    assert bench.world.fake.seen("consume") == []
    bench.run("codex.reset", "work", "acct-work")
    await bench.services.quota.close()
    assert "work was reset" in caplog.text
    assert len(bench.world.work.available_credits()) == 1
    assert bench.run("codex.explain")[2] == "2. work: fallback"


async def test_an_uncertain_reset_is_repeated_by_the_same_command(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.world.work.limit()
    bench.world.work.give_reset_credits(2)
    bench.world.work.lose_answer(status=500)
    bench.run("codex.reset", "work", "acct-work")
    await bench.services.quota.close()
    assert "is not certain" in caplog.text
    record = await ResetRecords(bench.store).load("acct-work")
    assert record is not None
    assert record.attempt is not None
    bench.run("codex.reset", "work")
    await bench.services.quota.close()
    assert "has no certain outcome" in caplog.text
    bench.run("codex.reset", "work", "acct-work")
    await bench.services.quota.close()
    assert "nothing more is spent" in caplog.text
    assert len(bench.world.work.available_credits()) == 1


async def test_before_the_accounts_are_loaded_a_command_says_so() -> None:
    commands = PolicyCommands(cast("Services", object()), cast("Options", object()))
    with taddons.context(commands) as context, pytest.raises(CommandError, match="not loaded yet"):
        context.master.commands.call_strings("codex.quota", [])


async def test_of_two_processes_one_polls_and_the_other_finds_it_fresh(bench: Bench, tmp_path: Path) -> None:
    file = bench.services.file
    async with (
        RotatingIssuer() as issuer,
        await Store.open(tmp_path, keyring=False) as store,
        session(file.current) as http,
    ):
        pool = AccountPool(store, Tokens(store, issuer.client), Policy)
        await pool.reload()
        other = QuotaService(store, pool, http, lambda: file.current)
        services = (bench.services.quota, other)

        results = await asyncio.gather(*(service.rounds.tick() for service in services))
        again = [await service.rounds.tick() for service in services]
        await pool.close()
    assert sorted(len(each) for each in results) == [0, 2]
    assert again == [[], []]
    assert len(bench.world.fake.seen("usage")) == 2
