"""Quota and policy with nothing replaced but the backend: real SDK, real mitmdump, real commands beside it."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.codex_fake import catalogue, ciphertext
from tests.world import World, world

MODEL = "gpt-5.5"


class Conversation:
    """One conversation of a client that sends its history, encrypted reasoning included, each time."""

    def __init__(self, client: openai.AsyncOpenAI, name: str) -> None:
        self.client = client
        self.name = name
        self.history: list[Any] = []

    async def ask(self, text: str = "hello", model: str = MODEL) -> str:
        """Who served."""
        question = {"role": "user", "content": text}
        raw = await self.client.responses.with_raw_response.create(
            model=model,
            input=[*self.history, question],
            prompt_cache_key=self.name,
            store=False,
            include=["reasoning.encrypted_content"],
        )
        answer = raw.parse()
        assert answer.output_text == f"You said: {text}"
        self.history += [question, *(item.model_dump() for item in answer.output)]
        return raw.headers["x-openai-auth-account"]


class Strangers:
    """Conversations of one request each."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client
        self._count = 0

    async def ask(self, model: str = MODEL) -> str:
        self._count += 1
        return await Conversation(self._client, f"stranger {self._count}").ask(model=model)

    async def until_served_by(self, name: str) -> None:
        """Asks until this account serves; what another process or a clock brings about is seen by asking only."""
        async with asyncio.timeout(20):
            while await self.ask() != name:
                pass


def ciphertexts(value: Any) -> Iterator[str]:
    """Every encrypted_content in a request body."""
    if isinstance(value, dict):
        yield from (text for key, text in value.items() if key == "encrypted_content" and text)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from ciphertexts(each)


async def test_an_account_that_crosses_its_threshold_rests_in_mid_conversation(tmp_path: Path) -> None:
    switch = {"OPENAI_AUTH_KILLSWITCH_ENABLED": "on", "OPENAI_AUTH_KILLSWITCH_MAIN": "50,10"}
    async with world(tmp_path, environ=switch) as here, here.client() as client:
        reset = time.time() + 7200
        here.main.set_quota((40, 300, reset), (5, 10_080, reset + 90_000))
        talk = Conversation(client, "talk")
        assert await talk.ask("one") == "main"
        here.main.set_quota((51, 300, reset), (5, 10_080, reset + 90_000))
        assert await talk.ask("two") == "main"  # this answer tells of the 51 %
        asked = len(here.main.requests)
        assert await talk.ask("three") == "work"
        assert await talk.ask("four") == "work"
        assert len(here.main.requests) == asked
        for account in (here.main, here.work):
            for request in account.requests:
                assert all(ciphertext.is_from(account.account_id, each) for each in ciphertexts(request.json))
        assert not here.fake.violations


async def test_below_every_threshold_the_refusal_names_account_window_threshold_and_reset(
    tmp_path: Path,
) -> None:
    switch = {
        "OPENAI_AUTH_KILLSWITCH_ENABLED": "on",
        "OPENAI_AUTH_KILLSWITCH_ACCOUNTS": "main:50,10 work:0,30",
    }
    async with world(tmp_path, environ=switch) as here, here.client(max_retries=2) as client:
        now = time.time()
        here.main.set_quota((60, 300, now + 7200), (5, 10_080, now + 90_000))
        here.work.set_quota((60, 300, now + 1800), (80, 10_080, now + 3 * 86_400))
        for name in ("main", "work"):
            assert await Strangers(client).ask() == name  # each answer tells what is left
        with pytest.raises(openai.RateLimitError) as refusal:
            await Strangers(client).ask()
        text, headers = refusal.value.body["message"], refusal.value.response.headers
        assert "main: killswitch: 5h window: 40% left, below 50% (resets in 2h0m)" in text
        assert "work: killswitch: 7d window: 20% left, below 30% (resets in 3d0h)" in text
        assert abs(int(headers["retry-after"]) - 7200) < 60
        assert headers["x-should-retry"] == "false"
        assert len(here.fake.seen()) == 2


async def test_main_returns_after_its_reset_and_a_warm_conversation_stays_where_it_is(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        strangers, talk = Strangers(client), Conversation(client, "talk")
        here.main.limit(reset_in=math.ceil(time.time()) + 2 - time.time())
        assert await talk.ask("one") == "work"
        here.fake.clock.advance(5)  # the backend is ready before the proxy believes it: no second refusal
        await strangers.until_served_by("main")
        assert await talk.ask("two") == "work"
        here.work.limit()
        assert await talk.ask("three") == "main"
        assert await talk.ask("four") == "main"
        assert [request.status for request in here.main.requests][:2] == [429, 200]
        for request in here.main.requests:
            assert all(ciphertext.is_from("acct-main", each) for each in ciphertexts(request.json))


async def test_two_processes_share_marks(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as here,
        here.start_proxy() as other,
        here.client() as first,
        here.client(proxy=other) as second,
    ):
        here.main.limit()
        assert await Strangers(first).ask() == "work"
        here.main.unlimit()
        tell_nothing(here)
        await Strangers(second).until_served_by("work")
        assert [request.status for request in here.main.requests].count(429) == 1


async def test_two_processes_share_numbers(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as here,
        here.start_proxy() as other,
        here.client() as first,
        here.client(proxy=other) as second,
    ):
        here.main.set_quota((100, 300, time.time() + 3600), None)  # numbers alone refuse nothing
        assert await Strangers(first).ask() == "main"
        tell_nothing(here)
        await Strangers(second).until_served_by("work")


def tell_nothing(here: World) -> None:
    """From now on answers carry no quota: what a process knows, it knows from another one."""
    here.fake.manners.headers = False
    here.fake.manners.codex_events = "none"


async def test_commands_change_a_running_proxy(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        strangers = Strangers(client)
        assert await strangers.ask() == "main"
        await here.openai_auth("routing", "fallback-first")
        await strangers.until_served_by("work")
        await here.openai_auth("killswitch", "set", "work:100,100")
        await strangers.until_served_by("main")
        assert "work: skipped (killswitch, until" in await here.openai_auth("explain")
        assert "rests: 5h window" in await here.openai_auth("killswitch")
        assert " main " in await here.openai_auth("routing")
        await here.openai_auth("killswitch", "off")
        await strangers.until_served_by("work")


async def test_a_reset_by_command_brings_an_account_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.limit()
        here.main.give_reset_credits()
        strangers = Strangers(client)
        assert await strangers.ask() == "work"
        assert "main was reset" in await here.openai_auth("reset", "main", "--yes")
        await strangers.until_served_by("main")


async def test_routing_reset_sends_a_conversation_back_to_main(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        talk = Conversation(client, "talk")
        await here.openai_auth("disable", "main")
        async with asyncio.timeout(20):
            while await talk.ask() != "work":
                pass
        await here.openai_auth("enable", "main")
        await Strangers(client).until_served_by("main")
        assert await talk.ask() == "work"
        assert "Forgot 1 conversation" in await here.openai_auth("routing", "reset", "talk")
        async with asyncio.timeout(20):
            while await talk.ask() != "main":
                pass


async def test_a_model_with_a_limit_of_its_own_is_judged_by_that(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        special = "codex-bengalfox"
        for account in (here.main, here.work):
            account.models[special] = replace(catalogue.MODELS[MODEL], slug=special)
        here.main.set_extra_limit("codex_bengalfox", (100, 300, time.time() + 3600))
        strangers = Strangers(client)
        assert await strangers.ask() == "main"
        assert await strangers.ask(special) == "work"
        assert await strangers.ask() == "main"


async def test_a_refusal_by_a_models_own_limit_keeps_no_other_model_from_the_account(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        special = "codex-bengalfox"
        for account in (here.main, here.work):
            account.models[special] = replace(catalogue.MODELS[MODEL], slug=special)
        here.main.limit_model(special, "codex_bengalfox")
        strangers = Strangers(client)
        assert [await strangers.ask(model) for model in (special, MODEL, special, MODEL)] == [
            "work",
            "main",
        ] * 2
        assert [request.status for request in here.main.requests] == [429, 200, 200]


async def test_idle_accounts_are_polled_in_the_background(tmp_path: Path) -> None:
    async with world(tmp_path, environ={"OPENAI_AUTH_QUOTA_POLL": "on"}) as here:
        await here.fake.until(lambda: len(here.fake.seen("usage")) == 2)
        async with asyncio.timeout(20):
            while True:
                rows = json.loads(await here.openai_auth("quota", "--no-poll", "--json"))
                if all(row["windows"] for row in rows):
                    break
        assert {window["source"] for row in rows for window in row["windows"]} == {"usage"}
        assert len(here.fake.seen("usage")) == 2


async def test_all_modes_serve(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        for mode in ("main-first", "fallback-first", "sticky-balanced"):
            await here.openai_auth("routing", mode)
            talk = Conversation(client, mode)
            assert await talk.ask("one") == await talk.ask("two")
