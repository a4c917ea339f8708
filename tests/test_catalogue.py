"""The catalogue over the fake backend: who is asked when, what is kept, and what a failure does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from accounts.models import Access, Account, LoginRequired, Secret
from addon.protocol.identity import Identity
from addon.upstream.catalogue import FRESH, FRESH_ANNOUNCED, RETRY, Catalogue
from tests.codex_fake import CodexFake, FakeAccount
from tests.codex_fake.accounts import Seen
from tests.codex_fake.catalogue import Model, etag

IDENTITY = Identity("openai-auth-proxy", "openai-auth-proxy/1.0 (test)", "0.140.0")


class World:
    """Two accounts of the fake, and the catalogue over them. The clock stands still until it is moved."""

    def __init__(self, fake: CodexFake, http: aiohttp.ClientSession) -> None:
        self.fake = fake
        self.now = 1_000_000.0
        self.free = fake.account("free", plan="free")
        self.plus = fake.account("plus", plan="plus")
        self.accounts = [self._known(self.free, 0), self._known(self.plus, 1)]
        self.renewed: list[str] = []
        self.dead: set[str] = set()
        self._tokens = {each.account_id: each.login().access_token for each in (self.free, self.plus)}
        self.catalogue = Catalogue(
            http,
            self,
            accounts=lambda: self.accounts,
            url=lambda: f"{fake.backend_url}/codex/models",
            identity=lambda: IDENTITY,
            clock=lambda: self.now,
        )

    @staticmethod
    def _known(account: FakeAccount, position: int) -> Account:
        return Account(
            f"id-{account.name}", None, "oauth", account.account_id, plan=account.plan, position=position
        )

    async def access(self, account: Account) -> Access:
        if account.id in self.dead:
            raise LoginRequired("log in again")
        assert account.account_id
        return Access(Secret(self._tokens[account.account_id]), account.account_id)

    async def renew(self, account: Account, rejected: Access) -> Access:
        self.renewed.append(account.id)
        fake = self.fake.account(str(account.account_id))
        self._tokens[fake.account_id] = fake.login().access_token
        return await self.access(account)

    @property
    def asked(self) -> list[Seen]:
        return self.fake.seen("models")

    def only(self, account: FakeAccount) -> Account:
        """Reduce the accounts to this one."""
        self.accounts = [each for each in self.accounts if each.account_id == account.account_id]
        return self.accounts[0]

    async def names(self) -> list[str]:
        return [model.slug for model in (await self.catalogue.listing()).models]

    async def settled(self) -> None:
        """Until nothing is being fetched."""
        while tasks := [task for task in asyncio.all_tasks() if task.get_name() == "model list"]:
            await asyncio.wait(tasks)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with CodexFake() as fake, aiohttp.ClientSession() as http:
        here = World(fake, http)
        yield here
        await here.catalogue.close()


def new(slug: str, version: str = "0.150.0", **members: object) -> Model:
    return replace(Model(slug, 0, version, "high"), **members)  # type: ignore[arg-type]


async def test_each_account_is_asked_for_everything_under_our_name(world: World) -> None:
    assert not (await world.catalogue.listing()).built_in
    assert {seen.account for seen in world.asked} == {"free", "plus"}
    for seen in world.asked:
        assert seen.path.endswith("/codex/models?client_version=0.0.0")
        assert seen.headers["originator"] == "openai-auth-proxy"
        assert seen.headers["user-agent"] == "openai-auth-proxy/1.0 (test)"
        assert seen.headers["chatgpt-account-id"] == seen.account
        assert "version" in seen.headers
        assert "if-none-match" not in seen.headers


async def test_the_list_is_the_union_in_the_order_of_priority(world: World) -> None:
    world.free.models["gpt-free"] = new("gpt-free", plans=("free",))
    names = await world.names()
    assert names[0] == "gpt-free"
    assert "gpt-6.1-sol" in names  # of plus
    assert len(names) == len(set(names))


async def test_a_model_of_another_plan_is_not_in_it(world: World) -> None:
    """The backend filters by plan; an entry that slips through does not help an account that may not use it."""
    account = world.only(world.free)
    world.accounts = [replace(account, plan="plus")]
    await world.catalogue.listing()
    assert not world.catalogue.lacks(world.accounts[0], "gpt-6-luna")
    free = replace(account, plan="nothing")
    world.accounts = [free]
    assert await world.names() == []
    assert world.catalogue.lacks(free, "gpt-6-luna")


async def test_within_the_hour_nobody_is_asked_again(world: World) -> None:
    first = await world.names()
    world.now += FRESH - 1
    assert await world.names() == first
    await world.settled()
    assert len(world.asked) == 2


async def test_an_old_list_is_shown_at_once_and_renewed_beside(world: World) -> None:
    world.only(world.plus)
    before = await world.names()
    world.plus.models["gpt-new"] = new("gpt-new")
    world.now += FRESH
    gate = world.plus.stall(on="models")
    assert await world.names() == before  # although the backend has not answered
    await gate.reached()
    assert await world.names() == before
    gate.release()
    await world.settled()
    assert "gpt-new" in await world.names()
    assert len(world.asked) == 2


async def test_the_etag_saves_the_answer(world: World) -> None:
    world.only(world.plus)
    before = await world.names()
    world.now += FRESH
    await world.names()
    await world.settled()
    assert world.asked[-1].headers["if-none-match"] == etag(world.plus.models, "plus")
    assert world.asked[-1].status == 304
    assert await world.names() == before
    await world.settled()
    assert len(world.asked) == 2  # a 304 makes it fresh


async def test_many_who_ask_at_once_make_one_request(world: World) -> None:
    world.only(world.plus)
    gate = world.plus.stall(on="models")
    waiting = [asyncio.create_task(world.names()) for _ in range(20)]
    await gate.reached()
    gate.release()
    answers = await asyncio.gather(*waiting)
    assert all(answer == answers[0] for answer in answers)
    assert len(world.asked) == 1


async def test_a_caller_that_leaves_does_not_end_the_request_of_the_others(world: World) -> None:
    world.only(world.plus)
    gate = world.plus.stall(on="models")
    leaves, stays = asyncio.create_task(world.names()), asyncio.create_task(world.names())
    await gate.reached()
    leaves.cancel()
    gate.release()
    assert "gpt-6.1-sol" in await stays
    assert len(world.asked) == 1


class TestAnnouncedEtag:
    async def test_another_list_is_fetched_at_once(self, world: World) -> None:
        account = world.only(world.plus)
        await world.names()
        world.plus.models["gpt-new"] = new("gpt-new")
        world.catalogue.announced(account, etag(world.plus.models, "plus"))
        await world.settled()
        assert "gpt-new" in await world.names()

    async def test_the_same_list_is_not(self, world: World) -> None:
        account = world.only(world.plus)
        await world.names()
        tag = etag(world.plus.models, "plus")
        for same in (tag, tag.removeprefix("W/"), tag.removeprefix("W/").strip('"'), None, ""):
            world.catalogue.announced(account, same)
        await world.settled()
        assert len(world.asked) == 1

    async def test_an_account_that_was_never_asked_is_met_this_way(self, world: World) -> None:
        world.catalogue.announced(world.accounts[1], 'W/"anything"')
        await world.settled()
        assert [seen.account for seen in world.asked] == ["plus"]

    async def test_an_etag_that_fetching_does_not_bring_is_followed_once_in_five_minutes(
        self, world: World
    ) -> None:
        account = world.only(world.plus)
        await world.names()
        for _ in range(3):
            world.catalogue.announced(account, "other")
            await world.settled()
        assert len(world.asked) == 2
        world.now += FRESH_ANNOUNCED
        world.catalogue.announced(account, "other")
        await world.settled()
        assert len(world.asked) == 3


class TestFailures:
    @pytest.mark.parametrize("body", ["<html>", {"detail": "no"}, {"models": "none"}, {"models": []}, []])
    @pytest.mark.parametrize("status", [200, 403, 500])
    async def test_one_accounts_failure_does_not_spoil_the_others(
        self, world: World, status: int, body: object
    ) -> None:
        world.free.fail(status, body, on="models", times=None)
        listing = await world.catalogue.listing()
        assert not listing.built_in
        assert "gpt-6.1-sol" in [model.slug for model in listing.models]

    async def test_a_dead_login_neither(self, world: World) -> None:
        world.dead.add("id-free")
        assert "gpt-6.1-sol" in await world.names()
        assert [seen.account for seen in world.asked] == ["plus"]

    async def test_without_any_answer_the_built_in_list_stands_in_and_the_log_says_so_once(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        for account in (world.free, world.plus):
            account.fail(500, on="models", times=None)
        for _ in range(3):
            listing = await world.catalogue.listing()
            assert listing.built_in
            assert "gpt-5.5" in [model.slug for model in listing.models]
        assert [record.levelname for record in caplog.records if "built-in" in record.message] == ["WARNING"]
        assert "Bearer" not in caplog.text

    async def test_a_failed_account_is_asked_again_after_a_minute(self, world: World) -> None:
        world.only(world.plus)
        world.plus.fail(500, on="models")
        assert (await world.catalogue.listing()).built_in
        world.now += RETRY - 1
        assert (await world.catalogue.listing()).built_in
        assert len(world.asked) == 1
        world.now += 1
        assert not (await world.catalogue.listing()).built_in

    async def test_a_known_list_survives_a_failure(self, world: World) -> None:
        world.only(world.plus)
        before = await world.names()
        world.plus.fail(500, on="models", times=None)
        world.now += 10 * FRESH
        await world.names()
        await world.settled()
        assert await world.names() == before

    async def test_a_backend_without_the_sentinel_is_asked_with_a_version(self, world: World) -> None:
        world.only(world.plus)
        world.plus.fail(200, {"models": []}, on="models")
        assert "gpt-6.1-sol" in await world.names()
        assert [seen.path.partition("=")[2] for seen in world.asked] == ["0.0.0", "0.155.0"]

    async def test_an_expired_token_is_renewed_once(self, world: World) -> None:
        world.only(world.plus)
        world.plus.expire_access()
        assert "gpt-6.1-sol" in await world.names()
        assert world.renewed == ["id-plus"]

    async def test_a_redirect_is_not_followed(self, world: World) -> None:
        world.only(world.plus)
        world.plus.fail(302, "", {"location": f"{world.fake.url}/codex/models?elsewhere=1"}, on="models")
        assert (await world.catalogue.listing()).built_in
        assert len(world.asked) == 1

    async def test_disabled_accounts_dead_logins_and_keys_are_not_asked(self, world: World) -> None:
        free, plus = world.accounts
        world.accounts = [
            replace(free, enabled=False),
            replace(plus, login_error="log in again"),
            Account("id-key", None, "api_key", None, position=2),
        ]
        assert (await world.catalogue.listing()).built_in
        await world.catalogue.learn(world.accounts[2], at_once=True)
        world.catalogue.announced(world.accounts[2], "tag")
        await world.settled()
        assert not world.asked

    async def test_another_login_in_an_accounts_place_knows_nothing_yet(self, world: World) -> None:
        account = world.only(world.plus)
        await world.names()
        world.accounts = [replace(account, account_id="free", plan="free")]
        assert "gpt-6.1-sol" not in await world.names()
        assert [seen.account for seen in world.asked] == ["plus", "free"]


class TestKnowledge:
    async def test_before_the_first_answer_the_built_in_list_is_asked(self, world: World) -> None:
        assert world.catalogue.efforts("gpt-5.5") == ("low", "medium", "high", "xhigh")
        assert world.catalogue.efforts("gpt-new") == ()
        assert world.catalogue.version_for("gpt-5.5") == "0.124.0"
        assert world.catalogue.version_for("gpt-new") == "0.155.0"
        assert not world.catalogue.lacks(world.accounts[0], "gpt-new")

    async def test_then_the_catalogue_alone_decides(self, world: World) -> None:
        account = world.only(world.plus)
        world.plus.models = {"gpt-new": new("gpt-new", "0.180.0")}
        await world.names()
        assert world.catalogue.efforts("gpt-new") == ("low", "medium", "high")
        assert world.catalogue.efforts("gpt-5.5") == ()
        assert world.catalogue.version_for("gpt-new") == "0.180.0"
        assert world.catalogue.version_for("gpt-unknown") == "0.180.0"
        assert world.catalogue.lacks(account, "gpt-5.5")
        assert not world.catalogue.lacks(account, "gpt-new")

    async def test_a_refusal_for_the_version_fetches_at_once(self, world: World) -> None:
        account = world.only(world.plus)
        await world.names()
        world.plus.models["gpt-new"] = new("gpt-new", "0.180.0")
        await world.catalogue.learn(account, at_once=True)
        assert world.catalogue.version_for("gpt-new") == "0.180.0"

    async def test_a_refusal_of_the_model_fetches_a_list_of_five_minutes_only(self, world: World) -> None:
        account = world.only(world.plus)
        await world.names()
        world.now += FRESH_ANNOUNCED - 1
        await world.catalogue.learn(account, at_once=False)
        assert len(world.asked) == 1
        world.now += 1
        await world.catalogue.learn(account, at_once=False)
        assert len(world.asked) == 2

    async def test_closing_ends_what_is_under_way(self, world: World) -> None:
        gate = world.free.stall(on="models")
        waiting = asyncio.create_task(world.names())
        await gate.reached()
        await world.catalogue.close()
        assert "gpt-6.1-sol" in await waiting
