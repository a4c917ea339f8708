"""Every client that has a driver, by both ways in: whole and streamed answers, tool loops, refusals, fallbacks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.driving import Driver, Outcome, environ
from tests.clients.registry import CLIENTS, WAYS, Api, Client, Way
from tests.world import World, world

HERE = Path(__file__).parent
ASKED = 'call:lookup {"word": "amber"}'
MEANS = "the resin of old trees"
INVALID = {
    "error": {
        "message": "Sadly the mood is not blue.",
        "type": "invalid_request_error",
        "param": "mood",
        "code": "invalid_value",
    }
}

pytestmark = pytest.mark.clients


@dataclass(frozen=True, slots=True)
class Setup:
    """One row of the matrix."""

    client: Client
    api: Api
    way: Way


def rows(*names: str) -> list[Any]:
    found = [
        Setup(client, api, way)
        for client in CLIENTS
        for api in client.apis
        for way in WAYS
        if not names or client.name in names
    ]
    return [pytest.param(setup, id=f"{setup.client.name}-{setup.api}-{setup.way}") for setup in found]


every_client = pytest.mark.parametrize("setup", rows())
whole_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@contextlib.asynccontextmanager
async def started(setup: Setup, tmp_path: Path) -> AsyncIterator[tuple[World, Driver]]:
    """A world, and the client's driver in it."""
    if reason := setup.client.environment.missing():
        pytest.skip(reason)
    async with world(tmp_path, "-s", str(HERE / "only_openai.py")) as here:
        async with Driver(setup.client, environ(setup.way, here.proxy, tmp_path)) as driver:
            yield here, driver
        assert not here.fake.violations


def answered(outcome: Outcome, text: str, *, stream: bool) -> None:
    assert outcome.error is None
    assert outcome.text == text
    if stream:
        assert "".join(outcome.pieces) == text
        assert len(outcome.pieces) > 2  # it came as it was made


def kinds(here: World, turn: int) -> list[str]:
    """The items of a request to the backend, system text aside."""
    items = here.fake.seen()[turn].json["input"]
    return [item["type"] for item in items if item.get("role") not in ("system", "developer")]


@every_client
@whole_and_streamed
async def test_answer(setup: Setup, stream: bool, tmp_path: Path) -> None:
    async with started(setup, tmp_path) as (here, driver):
        outcome = await driver.ask(setup.api, "good day to you", stream=stream)
        answered(outcome, "You said: good day to you", stream=stream)
        assert [request.status for request in here.fake.seen()] == [200]


@every_client
@whole_and_streamed
async def test_tool_loop(setup: Setup, stream: bool, tmp_path: Path) -> None:
    async with started(setup, tmp_path) as (here, driver):
        outcome = await driver.ask(setup.api, ASKED, stream=stream, tool=lambda word: MEANS)
        answered(outcome, f"lookup returned {MEANS}", stream=stream)
        assert outcome.calls == [{"name": "lookup", "arguments": {"word": "amber"}}]
        assert kinds(here, 1) == ["message", "reasoning", "function_call", "function_call_output"]
        assert [request.account for request in here.fake.seen()] == ["acct-main"] * 2


@every_client
@whole_and_streamed
async def test_refusal(setup: Setup, stream: bool, tmp_path: Path) -> None:
    """A 400 of the backend is the client's own class for it, with the backend's words, and is asked once."""
    async with started(setup, tmp_path) as (here, driver):
        here.main.fail(400, INVALID, times=None)
        outcome = await driver.ask(setup.api, "hello", stream=stream)
        assert outcome.error
        assert setup.client.refused in outcome.error["classes"]
        assert "the mood is not blue" in outcome.error["message"]
        assert outcome.error["status"] == 400
        assert len(here.fake.seen()) == 1


@every_client
@whole_and_streamed
async def test_every_account_is_limited(setup: Setup, stream: bool, tmp_path: Path) -> None:
    """However often the client tries again, each account is asked once."""
    async with started(setup, tmp_path) as (here, driver):
        here.main.limit()
        here.work.limit()
        outcome = await driver.ask(setup.api, "hello", stream=stream)
        assert outcome.error
        assert setup.client.limited in outcome.error["classes"]
        assert "limit" in outcome.error["message"]
        assert [request.account for request in here.fake.seen()] == ["acct-main", "acct-work"]


@every_client
@whole_and_streamed
async def test_fallback_in_the_middle_of_a_tool_loop(setup: Setup, stream: bool, tmp_path: Path) -> None:
    async with started(setup, tmp_path) as (here, driver):

        def tool(word: str) -> str:
            here.main.limit()
            return MEANS

        outcome = await driver.ask(setup.api, ASKED, stream=stream, tool=tool)
        answered(outcome, f"lookup returned {MEANS}", stream=stream)
        assert [request.account for request in here.fake.seen()] == ["acct-main"] * 2 + ["acct-work"]
        assert "encrypted_content" not in str(here.work.requests[-1].json["input"])


@every_client
async def test_a_stream_that_fails_in_the_middle(setup: Setup, tmp_path: Path) -> None:
    """It ends as an error, never as a whole answer that is too short."""
    async with started(setup, tmp_path) as (here, driver):
        here.main.fail_in_stream("server_is_overloaded", after_deltas=6)
        outcome = await driver.ask(setup.api, "one two three four five six", stream=True)
        assert outcome.error
        assert "overloaded" in outcome.error["message"]
        assert len(here.fake.seen()) == 1
