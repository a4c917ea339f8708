"""Every client that is a command-line program, by both ways in. As in test_clients, a program keeps its world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clients.driving import MODEL, environ
from tests.clients.habitat import INVALID, habitat, pairs
from tests.clients.programs import PROGRAMS, TOOL_SAID, Program
from tests.clients.registry import Way
from tests.codex_fake.accounts import FakeAccount, Seen
from tests.world import World

pytestmark = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True, slots=True)
class Row:
    """A program that found its way in."""

    program: Program
    way: Way
    here: World
    home: Path

    async def say(self, text: str, *, whole: bool = False) -> str:
        return await self.program.say(
            text, self.home, environ(self.way, self.here.proxy, self.home), whole=whole
        )

    @property
    def asked(self) -> list[Seen]:
        """The requests of the conversation, those beside it (a title, on another model) left out."""
        return [request for request in self.here.fake.seen() if request.json["model"] == MODEL]

    @property
    def accounts(self) -> list[FakeAccount]:
        return list(self.here.fake.accounts.values())


@pytest_asyncio.fixture(params=pairs(PROGRAMS), scope="module", loop_scope="module")
async def settled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Row]:
    program: Program
    way: Way
    program, way = request.param
    if reason := program.missing():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("home")
    async with habitat(home) as here:
        if way == "base" and program.base:
            program.base(home, here.proxy.base_url)
        yield Row(program, way, here, home)


@pytest.fixture
def row(settled: Row) -> Row:
    settled.here.fake.requests.clear()
    for account in settled.accounts:
        account.heal()
    return settled


@pytest.mark.parametrize("whole", [False, True], ids=["streamed", "whole"])
async def test_answer(row: Row, whole: bool) -> None:
    if whole and row.program.whole is None:
        pytest.skip("it always asks for a stream")
    printed = await row.say("say:good-day-to-you", whole=whole)
    assert "good-day-to-you" in printed
    assert [request.status for request in row.asked] == [200]


async def test_tool_loop(row: Row) -> None:
    if row.program.tool is None:
        pytest.skip("it has no tools")
    printed = await row.say(row.program.tool)
    assert "returned" in printed
    assert TOOL_SAID in output(row)
    kinds = [item["type"] for item in row.asked[1].json["input"]]
    assert kinds[-3:] == ["reasoning", "function_call", "function_call_output"]
    assert row.asked[0].account == row.asked[1].account


def output(row: Row) -> str:
    """What the tool gave, as the model got it."""
    return str(row.asked[-1].json["input"][-1]["output"])


async def test_refusal(row: Row) -> None:
    for account in row.accounts:
        account.fail(400, INVALID, times=None)
    assert "the mood is not blue" in await row.say("hello")
    assert len(row.asked) == 1


async def test_fallback_in_the_middle_of_a_tool_loop(row: Row) -> None:
    """The account that serves the first turn has nothing left for the second."""
    if row.program.tool is None:
        pytest.skip("it has no tools")
    first = next(account for account in row.accounts if not account.limited())
    first.meter(100)
    await row.say(row.program.tool)
    served = [request for request in row.asked if request.status == 200]
    assert [request.account == first.name for request in served] == [True, False]
    assert TOOL_SAID in output(row)
    assert "encrypted_content" not in str(served[1].json["input"])


async def test_every_account_is_limited(row: Row) -> None:
    if row.program.limit is None:
        pytest.skip("it goes on trying until a limit ends")
    for account in row.accounts:
        account.limit()
    assert row.program.limit in " ".join((await row.say("hello")).split())
    names = [request.account for request in row.asked]
    assert len(names) == len(set(names))


async def test_nothing_was_sent_that_must_not_be(row: Row) -> None:
    assert not row.here.fake.violations
