"""Every client that has a driver, by both ways in: whole and streamed answers, tool loops, refusals, fallbacks.

A client keeps its driver and its world for all of its cases. So each case looks at what was asked in its own time,
and leaves enough accounts for those after it: a fallback uses up one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clients.driving import Driver, Outcome, environ
from tests.clients.habitat import INVALID, habitat, pairs
from tests.clients.registry import APIS, CLIENTS, Api, Client, Way
from tests.codex_fake.accounts import FakeAccount
from tests.codex_fake.server import CodexFake
from tests.world import World

ASKED = 'call:lookup {"word": "amber"}'
MEANS = "the resin of old trees"
pytestmark = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="module")]
every_api = pytest.mark.parametrize("api", APIS)
whole_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@dataclass(frozen=True, slots=True)
class Row:
    """A client that found its way in."""

    client: Client
    here: World
    driver: Driver

    @property
    def fake(self) -> CodexFake:
        return self.here.fake

    @property
    def asked(self) -> list[str | None]:
        """Who was asked, in order."""
        return [request.account for request in self.fake.seen()]

    def server(self) -> FakeAccount:
        """The account that was asked last."""
        return self.fake.account(self.asked[-1] or "")


@pytest_asyncio.fixture(params=pairs(CLIENTS), scope="module", loop_scope="module")
async def settled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Row]:
    client: Client
    way: Way
    client, way = request.param
    if reason := client.environment.missing():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("home")
    async with habitat(home) as here, Driver(client, environ(way, here.proxy, home)) as driver:
        yield Row(client, here, driver)


@pytest.fixture
def row(settled: Row) -> Row:
    settled.fake.requests.clear()
    for account in settled.fake.accounts.values():
        account.heal()
    return settled


def answered(outcome: Outcome, text: str, *, stream: bool) -> None:
    assert outcome.error is None
    assert outcome.text == text
    if stream:
        assert "".join(outcome.pieces) == text
        assert len(outcome.pieces) > 2  # it came as it was made


@every_api
@whole_and_streamed
async def test_answer(row: Row, api: Api, stream: bool) -> None:
    outcome = await row.driver.ask(api, "good day to you", stream=stream)
    answered(outcome, "You said: good day to you", stream=stream)
    assert len(row.asked) == 1


@every_api
@whole_and_streamed
async def test_tool_loop(row: Row, api: Api, stream: bool) -> None:
    """The second turn has all of the first in it, its reasoning too, which chat clients never see."""
    outcome = await row.driver.ask(api, ASKED, stream=stream, tool=lambda word: MEANS)
    answered(outcome, f"lookup returned {MEANS}", stream=stream)
    assert outcome.calls == [{"name": "lookup", "arguments": {"word": "amber"}}]
    items = row.fake.seen()[1].json["input"]
    kinds = [item["type"] for item in items if item.get("role") not in ("system", "developer")]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert "encrypted_content" in str(items)
    assert row.asked == [row.asked[0]] * 2


@every_api
@whole_and_streamed
async def test_refusal(row: Row, api: Api, stream: bool) -> None:
    """A 400 of the backend is the client's own class for it, with the backend's words, and is asked once."""
    for account in row.fake.accounts.values():
        account.fail(400, INVALID, times=None)
    outcome = await row.driver.ask(api, "hello", stream=stream)
    assert outcome.error
    assert row.client.refused in outcome.error["classes"]
    assert "the mood is not blue" in outcome.error["message"]
    assert outcome.error["status"] == 400
    assert len(row.asked) == 1


@every_api
async def test_a_stream_that_fails_in_the_middle(row: Row, api: Api) -> None:
    """It ends as an error, never as a whole answer that is too short."""
    for account in row.fake.accounts.values():
        account.fail_in_stream("server_is_overloaded", after_deltas=6, times=None)
    outcome = await row.driver.ask(api, "one two three four five six", stream=True)
    assert outcome.error
    assert "overloaded" in outcome.error["message"]
    assert len(row.asked) == 1


@every_api
@whole_and_streamed
async def test_fallback_in_the_middle_of_a_tool_loop(row: Row, api: Api, stream: bool) -> None:
    """The client notices nothing, and the next account gets nothing of the first one's reasoning."""

    def tool(word: str) -> str:
        row.server().limit()
        return MEANS

    outcome = await row.driver.ask(api, ASKED, stream=stream, tool=tool)
    answered(outcome, f"lookup returned {MEANS}", stream=stream)
    first, again, second = row.asked
    assert first == again != second
    assert "encrypted_content" in str(row.fake.seen()[1].json["input"])
    assert "encrypted_content" not in str(row.fake.seen()[2].json["input"])


@every_api
async def test_every_account_is_limited(row: Row, api: Api) -> None:
    """However often the client tries again, each account that is not known to be out is asked once."""
    out = [account for account in row.fake.accounts.values() if account.limited()]
    for account in row.fake.accounts.values():
        account.limit()
    for stream in (False, True):
        outcome = await row.driver.ask(api, "hello", stream=stream)
        assert outcome.error
        assert row.client.limited in outcome.error["classes"]
        assert "limit" in outcome.error["message"]
    assert sorted(map(str, row.asked)) == sorted(
        account.name for account in row.fake.accounts.values() if account not in out
    )


async def test_nothing_was_sent_that_must_not_be(row: Row) -> None:
    assert not row.fake.violations


async def test_the_traces_of_openai_agents_are_taken_without_harm(tmp_path: Path) -> None:
    """They go to api.openai.com whatever the base URL is; the answer to them is what the real API says."""
    client = next(client for client in CLIENTS if client.name == "openai-agents")
    if reason := client.environment.missing():
        pytest.skip(reason)
    async with habitat(tmp_path) as here:
        async with Driver(client, environ("proxy", here.proxy, tmp_path)) as driver:
            answered(await driver.ask("responses", "hello"), "You said: hello", stream=False)
        await here.proxy.wait_for(r"POST https://api\.openai\.com/v1/traces/ingest")
        await here.proxy.wait_for(r"<< 204 No Content")
        assert len(here.fake.seen()) == 1
