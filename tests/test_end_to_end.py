"""The main job with nothing replaced but the backend: the real SDK, a real mitmdump, real sockets."""

import asyncio
import contextlib
import time
from pathlib import Path

import openai
import pytest
from mitmproxy.io import FlowReader

from accounts.store import Store
from tests.world import World, world

MODEL = "gpt-5.5"


@pytest.mark.parametrize("direct", [False, True], ids=["HTTPS_PROXY", "base URL"])
async def test_an_answer_comes_whole_and_streamed(tmp_path: Path, direct: bool) -> None:
    async with world(tmp_path) as here, here.client(direct=direct) as client:
        answer = await client.responses.create(model=MODEL, input="hello", temperature=0.5)
        assert answer.output_text == "You said: hello"
        assert answer.temperature == 0.5
        async with client.responses.stream(model=MODEL, input="hello") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert not [kind for kind in kinds if kind.startswith("codex.")]
        assert final.output_text == "You said: hello"
        assert not here.fake.violations


async def test_the_sync_client_is_served_both_ways(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        for direct in (False, True):
            with here.sync_client(direct=direct) as client:
                answer = await asyncio.to_thread(client.responses.create, model=MODEL, input="hello")
                assert answer.output_text == "You said: hello"


async def test_each_event_arrives_while_the_backend_holds_the_rest_back(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.fake.manners.codex_events = "none"
        known = await client.responses.create(model=MODEL, input="one two three", stream=True)
        kinds = [event.type async for event in known]
        first = kinds.index("response.output_text.delta")

        hold = here.main.hold()
        asking = asyncio.create_task(client.responses.create(model=MODEL, input="one two three", stream=True))
        await hold.step(first + 1)
        stream = aiter(await asking)
        for kind in kinds[: first + 1]:
            assert (await anext(stream)).type == kind
        for kind in kinds[first + 1 :]:
            await hold.step()
            assert (await anext(stream)).type == kind


async def served_by(here: World, client: openai.AsyncOpenAI, *, stream: bool) -> tuple[str, str | None]:
    """Ask once; who served, and the attempts header."""
    raw = await client.responses.with_raw_response.create(model=MODEL, input="hello", stream=stream)
    answer = raw.parse()
    if stream:
        text = "".join([event.delta async for event in answer if event.type == "response.output_text.delta"])
    else:
        text = answer.output_text
    assert text == "You said: hello"
    return raw.headers["x-openai-auth-account"], raw.headers.get("x-openai-auth-attempts")


FALLBACK_CAUSES = {
    "429": lambda account: account.limit(),
    "limit as 404": lambda account: account.limit(form="404"),
    "limit inside a 200 as response.failed": lambda account: account.limit(form="failed"),
    "limit inside a 200 as error": lambda account: account.limit(form="error"),
    "limit inside a 200 with a status": lambda account: account.limit(form="wrapped"),
    "revoked login": lambda account: account.revoke(),
    "403": lambda account: account.fail(403, {"detail": {"code": "invalid_workspace_selected"}}),
    "402": lambda account: account.fail(402, {"detail": {"code": "deactivated_workspace"}}),
    "plan without Codex": lambda account: account.fail(
        429, {"error": {"type": "usage_not_included", "message": "Your plan has no Codex."}}
    ),
}


@pytest.mark.parametrize("cause", FALLBACK_CAUSES)
async def test_the_next_account_answers_without_the_client_noticing(tmp_path: Path, cause: str) -> None:
    async with world(tmp_path) as here, here.client() as client:
        FALLBACK_CAUSES[cause](here.main)
        served, attempts = await served_by(here, client, stream=True)
        assert served == "work"
        assert attempts
        assert attempts.startswith("main=")
        assert attempts.endswith("work=200")
        assert await here.proxy.wait_for(r"main → work \(streaming\)")
        assert not here.fake.violations
        bodies = {request.body for request in here.fake.seen()}
        assert len(bodies) == 1  # the same bytes


async def test_a_limited_main_is_not_even_asked_until_its_reset(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.limit(reset_in=3600)
        assert await served_by(here, client, stream=True) == ("work", "main=429, work=200")
        asked = len(here.main.requests)
        assert await served_by(here, client, stream=False) == ("work", None)
        assert len(here.main.requests) == asked


async def test_when_every_account_is_out_the_wait_is_true_and_nobody_retries(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client(max_retries=2) as client:
        here.main.limit(reset_in=7200)
        soonest = here.work.limit(reset_in=1800)
        for _ in range(2):  # once asked, once known
            with pytest.raises(openai.RateLimitError) as refusal:
                await client.responses.create(model=MODEL, input="hello")
            response = refusal.value.response
            assert response.headers["x-should-retry"] == "false"
            assert abs(time.time() + int(response.headers["retry-after"]) - soonest) < 60
        assert len(here.fake.seen()) == 2


async def test_a_dead_login_everywhere_says_how_to_log_in(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.revoke()
        here.work.revoke()
        with pytest.raises(openai.AuthenticationError, match=r"main, work.*openai-auth login") as refusal:
            await client.responses.create(model=MODEL, input="hello")
        assert refusal.value.code == "login_required"


async def test_a_login_that_is_refused_although_it_can_be_renewed_is_dead_after_one_renewal(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.refuse("unauthorized", "token_invalidated", times=None)
        assert await served_by(here, client, stream=True) == ("work", "main=401, work=200")
        asked = len(here.main.requests)
        assert await served_by(here, client, stream=False) == ("work", None)
        assert len(here.main.requests) == asked == 2
        async with await Store.open(here.home, keyring=False) as store:
            (main, _) = await store.accounts()
            assert main.login_error
            assert main.generation == 2


async def test_without_accounts_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    async with world(tmp_path, accounts=False) as here, here.client() as client:
        with pytest.raises(openai.AuthenticationError, match="openai-auth login") as refusal:
            await client.responses.create(model=MODEL, input="hello")
        assert refusal.value.code == "no_accounts"
        await here.know(here.main)  # a running proxy sees it
        while True:
            with contextlib.suppress(openai.AuthenticationError):
                assert (await client.responses.create(model=MODEL, input="hello")).output_text
                break


async def test_an_expired_token_is_refreshed_on_the_401_and_the_client_sees_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.expire_access()
        assert await served_by(here, client, stream=True) == ("main", None)
        assert here.fake.issuer.reused_refresh == 0


async def test_a_token_about_to_expire_is_refreshed_before_it_is_used(tmp_path: Path) -> None:
    async with world(tmp_path, accounts=False) as here, here.client() as client:
        await here.know(here.main, expires_in=200)
        await client.responses.create(model=MODEL, input="hello")
        assert [request.status for request in here.fake.seen()] == [200]


async def test_two_proxies_that_refresh_one_account_at_once_spend_one_refresh_token(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.start_proxy() as second:
        here.main.expire_access()
        clients = [here.client(proxy=proxy) for proxy in (here.proxy, second) for _ in range(3)]
        answers = await asyncio.gather(
            *(client.responses.create(model=MODEL, input="hello") for client in clients)
        )
        assert {answer.output_text for answer in answers} == {"You said: hello"}
        assert here.fake.issuer.reused_refresh == 0
        assert len(here.fake.issuer.refreshes) == 1
        assert not here.work.requests


async def test_a_client_that_leaves_ends_the_upstream_request(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.stall(after=12)
        stream = await client.responses.create(model=MODEL, input="one two three four", stream=True)
        await anext(aiter(stream))
        await stream.close()
        await here.fake.until(lambda: here.fake.aborted == 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_breaks_off_raises_and_is_not_replayed(tmp_path: Path, stream: bool) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.fake.manners.codex_events = "none"
        here.main.cut(after=11)
        with pytest.raises(openai.APIError, match=r"broke off|ended|complete") as failure:
            answer = await client.responses.create(model=MODEL, input="one two three four", stream=stream)
            if stream:
                async for _ in answer:
                    pass
        assert not isinstance(failure.value, openai.APIConnectionError)
        assert not here.work.requests


async def test_a_limit_in_the_middle_raises_and_the_next_request_avoids_the_account(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.fail_in_stream("rate_limit_exceeded", after_deltas=2)
        stream = await client.responses.create(model=MODEL, input="one two three four", stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
        assert not here.work.requests
        assert (await served_by(here, client, stream=True))[0] == "work"


async def test_overload_is_no_reason_to_change_the_account(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.fail_in_stream("server_is_overloaded")
        with pytest.raises(openai.InternalServerError) as failure:
            await client.responses.create(model=MODEL, input="hello", stream=True)
        assert failure.value.status_code == 503
        assert not here.work.requests


async def test_cloudflare_is_nobodys_fault(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.refuse("cloudflare", times=1)
        assert await served_by(here, client, stream=True) == ("main", None)  # the retry on a fresh connection
        here.main.refuse("cloudflare", times=2)
        with pytest.raises(openai.InternalServerError) as failure:
            await client.responses.create(model=MODEL, input="hello")
        assert failure.value.code == "upstream_blocked"
        assert not here.work.requests


async def test_a_member_the_backend_refuses_is_taken_out_and_named(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.refuses.add("text.verbosity")
        raw = await client.responses.with_raw_response.create(
            model=MODEL, input="hello", text={"verbosity": "low"}, top_p=0.9, user="me"
        )
        assert raw.parse().output_text == "You said: hello"
        assert raw.headers["x-openai-auth-dropped"] == "top_p,user,text.verbosity"


async def test_reasoning_of_another_account_is_left_out(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        first = await client.responses.create(model=MODEL, input="hello", store=False)
        here.main.limit()
        history = [{"role": "user", "content": "hello"}, *(item.model_dump() for item in first.output)]
        second = await client.responses.create(
            model=MODEL, input=[*history, {"role": "user", "content": "and now?"}], store=False
        )
        assert second.output_text == "You said: and now?"
        assert "encrypted_content" not in str(here.work.requests[-1].json["input"])
        assert [request.status for request in here.work.requests] == [200]


async def test_no_token_is_in_the_log_or_in_a_saved_flow(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    async with world(tmp_path, "-w", str(flows), "--set", "flow_detail=4") as here, here.client() as client:
        here.main.limit()
        await served_by(here, client, stream=True)
        secrets = [*here.fake.issuer.access, *here.fake.issuer.refresh]
    assert secrets
    for secret in secrets:
        assert secret not in here.proxy.log
        assert secret.encode() not in flows.read_bytes()


async def test_the_failed_attempt_is_a_replayed_flow_of_its_own(tmp_path: Path) -> None:
    saved = tmp_path / "flows"
    async with world(tmp_path, "-w", str(saved)) as here, here.client() as client:
        here.main.limit()
        await served_by(here, client, stream=True)
    with saved.open("rb") as file:
        flows = list(FlowReader(file).stream())
    refused, served = sorted(flows, key=lambda flow: flow.response.status_code, reverse=True)
    assert (refused.is_replay, refused.response.status_code) == ("request", 429)
    assert (served.is_replay, served.response.status_code) == (None, 200)
    assert refused.request.content == served.request.content
    assert "authorization" not in refused.request.headers


async def test_a_cookie_of_the_backend_never_reaches_the_client(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        raw = await client.responses.with_raw_response.create(model=MODEL, input="hello")
        assert "set-cookie" not in raw.headers
        assert raw.headers["x-request-id"].startswith("req-")  # the backend's


async def test_quota_of_refusals_and_answers_is_in_the_store(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.client() as client:
        here.main.limit()
        await served_by(here, client, stream=True)
    async with await Store.open(
        tmp_path, keyring=False
    ) as store:  # the proxy wrote its last notes at its end
        accounts = {account.name: account for account in await store.accounts()}
        quotas = await store.quotas()
    used = {name: max(w.used_percent for w in quotas[a.id].windows) for name, a in accounts.items()}
    assert used["main"] == 100
    assert used["work"] < 100
