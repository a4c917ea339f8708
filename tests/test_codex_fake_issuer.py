"""The stand-in issuer: rotation and reuse of refresh tokens, consent, device login, revocation."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import pytest_asyncio

from tests.codex_fake import CLIENT_ID
from tests.codex_fake.client import Client, running, said

Json = dict[str, Any]


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as one:
        yield one


async def test_a_refresh_token_is_good_for_one_use(client: Client) -> None:
    first = client.tokens["refresh_token"]
    status, grant = await client.refresh(first, refresh_reason="scheduled")
    assert (status, grant["expires_in"], grant["refresh_token"] != first) == (200, 864_000, True)
    status, reused = await client.refresh(first)
    assert (status, reused["error"]["code"]) == (401, "refresh_token_reused")
    assert client.fake.issuer.reused_refresh == 1
    assert (await client.refresh(grant["refresh_token"]))[0] == 200
    assert [refresh.refused for refresh in client.fake.issuer.refreshes] == [
        None,
        "refresh_token_reused",
        None,
    ]
    client.account.revoke()
    assert (await client.refresh(grant["refresh_token"]))[1]["error"]["code"] == "refresh_token_invalidated"


async def test_a_refresh_can_fail_before_or_after_it_took_effect(client: Client) -> None:
    token = client.tokens["refresh_token"]
    client.fake.issuer.fail("refresh", 503)
    assert (await client.refresh(token))[0] == 503
    client.fake.issuer.omit("refresh_token")
    assert "refresh_token" not in (await client.refresh(token))[1]
    client.fake.issuer.cut(rotated=True)
    with pytest.raises(aiohttp.ClientError):
        await client.refresh(token)
    assert (await client.refresh(token))[1]["error"]["code"] == "refresh_token_reused"


def authorize_query(verifier: str, redirect: str = "http://localhost:1455/auth/callback") -> dict[str, str]:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    return {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": redirect,
        "scope": "openid profile email offline_access",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "state": "s1",
    }


async def test_the_consent_page_leads_to_tokens_for_the_right_verifier_only(client: Client) -> None:
    issuer, verifier = client.fake.issuer_url, "v" * 43
    query = authorize_query(verifier)
    async with client.http.get(f"{issuer}/oauth/authorize", params=query) as page:
        assert "Approve" in await page.text()

    async def press(decision: str) -> dict[str, list[str]]:
        sent = {**query, "account": "acct-main", "decision": decision}
        async with client.http.post(f"{issuer}/oauth/authorize", data=sent, allow_redirects=False) as answer:
            assert answer.status == 302
            return parse_qs(urlsplit(answer.headers["location"]).query)

    async def exchange(code: str, with_verifier: str) -> tuple[int, Json]:
        sent = {"grant_type": "authorization_code", "client_id": CLIENT_ID, "code": code}
        sent |= {"redirect_uri": query["redirect_uri"], "code_verifier": with_verifier}
        async with client.http.post(f"{issuer}/oauth/token", data=sent) as answer:
            return answer.status, await answer.json()

    assert (await press("deny"))["error"] == ["access_denied"]
    approved = await press("approve")
    assert approved["state"] == ["s1"]
    assert (await exchange(approved["code"][0], "wrong"))[0] == 400
    code = (await press("approve"))["code"][0]
    assert (await exchange(code, verifier))[1]["token_type"] == "Bearer"
    assert (await exchange(code, verifier))[1]["error"] == "invalid_grant"


async def test_redirects_are_matched_exactly_unless_ports_are_lenient(client: Client) -> None:
    async def status(redirect: str) -> int:
        query = authorize_query("v", redirect)
        async with client.http.get(f"{client.fake.issuer_url}/oauth/authorize", params=query) as page:
            return page.status

    assert await status("http://localhost:1457/auth/callback") == 200
    assert await status("http://127.0.0.1:1455/auth/callback") == 400
    assert await status("http://localhost:9999/auth/callback") == 400
    client.fake.issuer.lenient_ports = True
    assert await status("http://localhost:9999/auth/callback") == 200


async def test_the_device_login_waits_for_the_page(client: Client) -> None:
    base = f"{client.fake.issuer_url}/api/accounts/deviceauth"
    async with client.http.post(f"{base}/usercode", json={"client_id": CLIENT_ID}) as answer:
        device = await answer.json()
    poll = {name: device[name] for name in ("device_auth_id", "user_code")}
    async with client.http.post(f"{base}/token", json=poll) as answer:
        assert answer.status == 403
    form = {"user_code": device["user_code"], "account": "acct-main", "decision": "approve"}
    async with client.http.post(f"{client.fake.issuer_url}/codex/device", data=form) as answer:
        assert "Signed in" in await answer.text()
    async with client.http.post(f"{base}/token", json=poll) as answer:
        code = await answer.json()
    sent = {"grant_type": "authorization_code", "client_id": CLIENT_ID, "code": code["authorization_code"]}
    sent |= {"code_verifier": code["code_verifier"]}
    sent |= {"redirect_uri": "https://auth.openai.com/deviceauth/callback"}
    async with client.http.post(f"{client.fake.issuer_url}/oauth/token", data=sent) as answer:
        assert (answer.status, "access_token" in await answer.json()) == (200, True)


async def test_revoking_ends_the_login(client: Client) -> None:
    sent = {
        "token": client.tokens["refresh_token"],
        "token_type_hint": "refresh_token",
        "client_id": CLIENT_ID,
    }
    async with client.http.post(f"{client.fake.issuer_url}/oauth/revoke", json=sent) as answer:
        assert answer.status == 200
    assert (await client.post(said("hi")))[1]["error"]["code"] == "token_revoked"
    assert client.fake.issuer.revoked == ["acct-main"]
