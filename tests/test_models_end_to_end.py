"""Models with nothing replaced but the backend: the real SDK, a real mitmdump, real sockets."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.codex_fake.accounts import FakeAccount
from tests.codex_fake.catalogue import MODELS, Model
from tests.world import World, world

LISTED = [model.slug for model in MODELS.values() if model.visibility == "list"]


def new(slug: str, version: str = "0.150.0") -> Model:
    return replace(MODELS["gpt-5.5"], slug=slug, minimal_version=version, priority=99)


class Announcing(Model):
    """A model whose entry asks for a version that generation is not held to, so that a test can script the refusal."""

    def entry(self) -> dict[str, Any]:
        return {**super().entry(), "minimal_client_version": "0.200.0"}


def versions_sent(account: FakeAccount) -> list[tuple[str, int]]:
    """Protocol version and status of each generation request."""
    return [(seen.headers["version"], seen.status) for seen in account.requests]


async def knows(here: World, client: openai.AsyncOpenAI) -> None:
    """Make the proxy read the catalogues."""
    await client.models.list()
    await here.fake.until(lambda: len(here.fake.seen("models")) >= 2)


@pytest.mark.parametrize("direct", [False, True], ids=["HTTPS_PROXY", "base URL"])
async def test_the_sdk_lists_and_retrieves(tmp_path: Path, direct: bool) -> None:
    async with world(tmp_path) as here, here.client(direct=direct) as client:
        raw = await client.models.with_raw_response.list()
        assert "x-openai-auth-models" not in raw.headers
        assert raw.headers["x-request-id"]
        listed = [model async for model in client.models.list()]
        assert [model.id for model in listed] == LISTED
        for model in listed:
            assert (model.object, model.owned_by, type(model.created)) == ("model", "openai", int)
        one = await client.models.retrieve("gpt-5.5")
        assert one.id == "gpt-5.5"
        assert one.to_dict()["context_window"] == 272_000
        hidden = await client.models.retrieve("codex-auto-review")
        assert hidden.id == "codex-auto-review"
        with pytest.raises(openai.NotFoundError) as refused:
            await client.models.retrieve("org/gpt-4o.1")
        assert refused.value.code == "model_not_found"
        assert "'org/gpt-4o.1' does not exist" in refused.value.message
        assert len(here.fake.seen("models")) == 2  # once for each account


async def test_a_model_of_one_accounts_plan_is_in_the_list_and_goes_to_that_account(tmp_path: Path) -> None:
    async with world(tmp_path, accounts=False) as here, here.client() as client:
        here.fake.account("acct-main", plan="free")
        await here.know(here.main)
        await here.know(here.work, "work")
        while "gpt-6-sol" not in [model.id async for model in client.models.list()]:
            pass  # the running proxy sees the accounts within a second
        raw = await client.responses.with_raw_response.create(model="gpt-6-sol", input="hello")
        assert raw.headers["x-openai-auth-account"] == "work"
        assert "x-openai-auth-attempts" not in raw.headers
        raw = await client.responses.with_raw_response.create(model="gpt-5.5", input="hello again")
        assert raw.headers["x-openai-auth-account"] == "main"


async def test_offline_the_built_in_list_says_that_it_is_one(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.http() as http:
        for account in (here.main, here.work):
            account.fail(503, on="models", times=None)
        for _ in range(2):
            answer = await http.get("models")
            assert answer.status_code == 200
            assert answer.headers["x-openai-auth-models"] == "built-in"
            assert "gpt-5.5" in [model["id"] for model in answer.json()["data"]]
        assert await here.proxy.wait_for("built-in list stands in")
        assert here.proxy.log.count("built-in list") == 1


async def test_a_codex_program_gets_the_backends_own_entries(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.http() as http:
        by_query = await http.get("models?client_version=0.169.0")
        by_name = await http.get("models", headers={"user-agent": "codex_exec/0.169.0 (Debian 12.0.0)"})
        assert by_query.json() == by_name.json()
        entries = by_query.json()["models"]
        assert {entry["slug"]: entry for entry in entries} == {
            model.slug: json.loads(json.dumps(model.entry()))
            for model in MODELS.values()
            if "plus" in model.plans
        }


async def test_the_list_needs_a_key_as_everything_does(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{here.proxy.base_url}/models")
        assert answer.status_code == 401
        assert not here.fake.seen("models")


@pytest.mark.parametrize("by", ["header", "event"])
async def test_an_answer_that_tells_of_another_list_brings_it(tmp_path: Path, by: str) -> None:
    async with world(tmp_path) as here, here.client() as client:
        await knows(here, client)
        here.fake.manners.headers = by == "header"
        here.fake.manners.codex_events = "none" if by == "header" else "mixed"
        here.main.models["gpt-new"] = new("gpt-new")
        await client.responses.create(model="gpt-5.5", input="hello")
        await here.fake.until(
            lambda: len(here.fake.seen("models")) == 3 and here.fake.seen("models")[-1].status > 0
        )
        assert (await client.models.retrieve("gpt-new")).id == "gpt-new"


async def test_the_version_a_model_asks_for_is_known_from_the_catalogue(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.models["gpt-new"] = new("gpt-new", "0.200.0")
        await knows(here, client)
        await client.responses.create(model="gpt-new", input="hello")
        await client.responses.create(model="gpt-5.5", input="hello")
        assert versions_sent(here.main) == [("0.200.0", 200), ("0.169.0", 200)]


@pytest.mark.parametrize("refusal", ["newer_version", "unsupported_model", "model_not_found"])
async def test_the_version_is_learned_from_a_refusal_and_the_client_sees_nothing(
    tmp_path: Path, refusal: str
) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.models["gpt-new"] = Announcing(**asdict(new("gpt-new")))
        here.main.refuse(refusal, "gpt-new")
        for _ in range(2):
            raw = await client.responses.with_raw_response.create(model="gpt-new", input="hello")
            assert raw.parse().output_text == "You said: hello"
            assert raw.headers["x-openai-auth-account"] == "main"
        (refused_at, _), *served = versions_sent(here.main)
        assert refused_at == "0.169.0"
        assert served == [("0.200.0", 200), ("0.200.0", 200)]
        assert not here.work.requests


async def test_a_newer_version_that_nobody_names_is_not_guessed(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.refuse("newer_version", "gpt-5.5", times=None)
        with pytest.raises(openai.NotFoundError, match="newer version of Codex"):
            await client.responses.create(model="gpt-5.5", input="hello")
        assert versions_sent(here.main) == [("0.169.0", 400)]


async def test_a_version_that_the_client_offers_is_used(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client(default_headers={"version": "0.250.0"}) as client:
        await client.responses.create(model="gpt-5.5", input="hello")
        assert versions_sent(here.main) == [("0.250.0", 200)]


async def test_a_model_refused_by_one_account_is_asked_of_the_other(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.work.models["gpt-new"] = new("gpt-new")
        raw = await client.responses.with_raw_response.create(model="gpt-new", input="hello")
        assert raw.headers["x-openai-auth-attempts"] == "main=400, work=200"
        raw = await client.responses.with_raw_response.create(model="gpt-new", input="hello again")
        assert "x-openai-auth-attempts" not in raw.headers  # main's list is known by now


async def test_a_model_nobody_has_is_a_404_for_an_sdk_and_a_400_for_codex(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client(max_retries=2) as client:
        with pytest.raises(openai.NotFoundError) as refused:
            await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hello"}]
            )
        assert refused.value.code == "model_not_found"
        assert len(here.fake.seen()) == 2  # each account once
        for headers in ({"version": "0.169.0"}, {"originator": "codex_exec"}):
            with pytest.raises(openai.BadRequestError) as bad:
                await client.responses.create(model="gpt-4o", input="hello", extra_headers=headers)
            assert bad.value.code == "model_not_found"


async def test_an_effort_the_model_does_not_list_becomes_the_nearest(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        await knows(here, client)
        for asked, sent in (("minimal", "low"), ("none", "low"), ("max", "xhigh"), ("high", "high")):
            answer = await client.responses.create(
                model="gpt-5.5", input="hello", reasoning={"effort": asked}
            )
            assert here.fake.seen()[-1].json["reasoning"]["effort"] == sent
            assert answer.output_text == "You said: hello"
        await client.chat.completions.create(
            model="gpt-6-luna",
            messages=[{"role": "user", "content": "hello"}],
            extra_body={"reasoning_effort": "ultra"},
        )
        assert here.fake.seen()[-1].json["reasoning"]["effort"] == "max"


async def test_an_alias_is_sent_as_its_model_and_answered_under_the_clients_name(tmp_path: Path) -> None:
    environ = {"OPENAI_AUTH_MODEL_ALIASES": "gpt-4o=gpt-5.5"}
    async with world(tmp_path, environ=environ) as here, here.client() as client:
        whole = await client.responses.create(model="gpt-4o", input="hello")
        assert whole.model == "gpt-4o"
        async with client.responses.stream(model="gpt-4o", input="hello") as stream:
            seen = [event.response.model async for event in stream if hasattr(event, "response")]
        assert seen
        assert set(seen) == {"gpt-4o"}
        chat = await client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hello"}], reasoning_effort="minimal"
        )
        assert chat.model == "gpt-4o"
        assert {request.json["model"] for request in here.fake.seen()} == {"gpt-5.5"}
        assert here.fake.seen()[-1].json["reasoning"]["effort"] == "low"
        assert (await client.models.retrieve("gpt-4o")).id == "gpt-4o"
        assert "gpt-4o" in [model.id async for model in client.models.list()]
