"""The issuer client: what it sends, what it makes of every answer, and what it never shows."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from accounts import oauth
from accounts.models import AccountsError, Secret
from accounts.oauth import Issuer, OAuthError, challenge, new_state, new_verifier
from tests.scripted_issuer import (
    NOW,
    REVOKE,
    TOKEN,
    ScriptedIssuer,
    identity,
    jwt,
    scripted_issuer,
    tokens,
)

pytest_plugins = ("tests.login_fixtures",)

OLD = Secret("rt_old_very_secret")


# PKCE and the authorize URL


def test_the_challenge_is_the_one_of_rfc_7636() -> None:
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifier_and_state_are_fresh_and_long() -> None:
    assert len(new_verifier().reveal()) == 86
    assert len(new_state()) == 43
    assert new_verifier() != new_verifier()
    assert new_state() != new_state()


def test_the_authorize_url_has_the_official_parameters_in_order(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    url = issuer.authorize_url(redirect_uri="http://localhost:1455/auth/callback", state="s", challenge="c")
    assert url.startswith(script.url + "/oauth/authorize?response_type=code&")
    assert "scope=openid+profile+email+offline_access" in url
    assert parse_qsl(urlsplit(url).query) == [
        ("response_type", "code"),
        ("client_id", "app_EMoamEEZ73f0CkXaXp7hrann"),
        ("redirect_uri", "http://localhost:1455/auth/callback"),
        ("scope", "openid profile email offline_access"),
        ("code_challenge", "c"),
        ("code_challenge_method", "S256"),
        ("id_token_add_organizations", "true"),
        ("codex_cli_simplified_flow", "true"),
        ("state", "s"),
        ("originator", "openai-auth-proxy"),
    ]


async def test_client_id_originator_and_a_trailing_slash_of_the_issuer_are_configurable() -> None:
    async with aiohttp.ClientSession() as http:
        issuer = Issuer(http, "https://issuer.example/", client_id="app_x", originator="mine")
    url = issuer.authorize_url(redirect_uri="r", state="s", challenge="c")
    assert url.startswith("https://issuer.example/oauth/authorize?")
    assert (
        dict(parse_qsl(urlsplit(url).query)).items() >= {"client_id": "app_x", "originator": "mine"}.items()
    )


# Refresh


async def test_refresh_sends_the_official_json_body_and_our_identity(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    script.answer(TOKEN, 200, tokens())
    await issuer.refresh(OLD, "unauthorized_recovery")
    [request] = script.seen
    assert request.json == {
        "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        "grant_type": "refresh_token",
        "refresh_token": OLD.reveal(),
        "refresh_reason": "unauthorized_recovery",
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "tester/1"
    assert request.headers["originator"] == "openai-auth-proxy"


async def test_refresh_returns_the_rotated_tokens(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 200, tokens(expires_in=864000))
    grant = await issuer.refresh(OLD)
    assert grant.refresh == Secret("rt_new")
    assert grant.id_token == Secret(identity())
    assert grant.expires_at == NOW + 864000


async def test_an_answer_without_refresh_token_keeps_the_old_one(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    script.answer(TOKEN, 200, {"access_token": jwt(exp=NOW + 60)})
    grant = await issuer.refresh(OLD)
    assert (grant.refresh, grant.id_token) == (None, None)


async def test_an_answer_without_access_token_keeps_the_current_one_and_the_rotation(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    script.answer(TOKEN, 200, {"refresh_token": "rt_new", "expires_in": 9999})
    current = Secret(jwt(exp=NOW + 77))
    grant = await issuer.refresh(OLD, current=current)
    assert (grant.access, grant.refresh, grant.expires_at) == (current, Secret("rt_new"), NOW + 77)


@pytest.mark.parametrize("body", [{}, [], b"<html>", b"", {"access_token": ""}, {"access_token": 7}])
async def test_a_success_without_any_access_token_is_transient(
    script: ScriptedIssuer, issuer: Issuer, body: object
) -> None:
    script.answer(TOKEN, 200, body)
    with pytest.raises(OAuthError, match="without an access token") as caught:
        await issuer.refresh(OLD)
    assert not caught.value.permanent


@pytest.mark.parametrize("life", [None, 0, -5, True, "soon", [], "inf"])
async def test_without_a_usable_expires_in_the_expiry_is_that_of_the_token(
    script: ScriptedIssuer, issuer: Issuer, life: object
) -> None:
    script.answer(TOKEN, 200, tokens(expires_in=life))
    assert (await issuer.refresh(OLD)).expires_at == NOW + 500


async def test_a_token_that_never_says_when_it_ends_lives_an_hour(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    script.answer(TOKEN, 200, tokens(access_token="opaque"))
    assert (await issuer.refresh(OLD)).expires_at == NOW + 3600


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"error": {"code": "refresh_token_expired"}}, "refresh_token_expired"),
        (401, {"error": {"code": "refresh_token_reused", "message": "m"}}, "refresh_token_reused"),
        (400, {"error": "refresh_token_invalidated"}, "refresh_token_invalidated"),
        (403, {"code": "refresh_token_reused"}, "refresh_token_reused"),
        (500, {"error": {"code": "refresh_token_expired"}}, "refresh_token_expired"),
        (401, {"error": {"code": "something_new"}}, "something_new"),
        (401, b"not json", None),
        (401, {}, None),
        (400, {"error": "invalid_grant", "error_description": "d"}, "invalid_grant"),
        (400, {"error": {"code": "invalid_grant"}}, "invalid_grant"),
    ],
)
async def test_a_permanent_refusal_asks_for_a_new_login(
    script: ScriptedIssuer, issuer: Issuer, status: int, body: object, code: str | None
) -> None:
    script.answer(TOKEN, status, body)
    with pytest.raises(OAuthError, match="log in again with `openai-auth login`") as caught:
        await issuer.refresh(OLD)
    assert (caught.value.permanent, caught.value.code, caught.value.status) == (True, code, status)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"code": "rate_limit_exceeded"}}),
        (500, b""),
        (503, b"<html>"),
        (400, {"error": "invalid_request"}),
        (400, b"not json"),
        (403, {"error": "invalid_grant"}),
        (403, b"<html>Just a moment"),
        (404, {}),
        (302, b""),
        (418, {"error": {"code": None}}),
        (400, {"error": None, "code": 7}),
    ],
)
async def test_every_other_refusal_is_transient(
    script: ScriptedIssuer, issuer: Issuer, status: int, body: object
) -> None:
    script.answer(TOKEN, status, body)
    with pytest.raises(OAuthError, match="tried again later") as caught:
        await issuer.refresh(OLD)
    assert (caught.value.permanent, caught.value.status) == (False, status)


async def test_an_unreachable_issuer_is_transient() -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(OAuthError, match="check the network") as caught:
            await Issuer(http, "http://127.0.0.1:1").refresh(OLD)
    assert (caught.value.permanent, caught.value.status) == (False, None)


async def test_a_silent_issuer_is_given_up_and_transient(
    script: ScriptedIssuer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert oauth.REFRESH_TIMEOUT == 15
    monkeypatch.setattr(oauth, "REFRESH_TIMEOUT", 0.01)
    script.answer(TOKEN, 200, tokens(), hold=True)
    with pytest.raises(OAuthError, match="no answer within") as caught:
        await issuer.refresh(OLD)
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("1.5", 1.5),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), None),
        ("0", None),
        ("-1", None),
        ("soon", None),
        ("nan", None),
    ],
)
async def test_retry_after_is_read_as_seconds_or_date(
    script: ScriptedIssuer, issuer: Issuer, header: str, seconds: float | None
) -> None:
    script.answer(TOKEN, 429, {}, retry_after=header)
    with pytest.raises(OAuthError) as caught:
        await issuer.refresh(OLD)
    assert caught.value.retry_after == seconds


async def test_without_retry_after_none_is_given(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 429, {})
    with pytest.raises(OAuthError) as caught:
        await issuer.refresh(OLD)
    assert caught.value.retry_after is None


async def test_an_endless_answer_is_not_read(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 401, b'{"error":"' + b"x" * oauth.MAX_ANSWER + b'"}')
    with pytest.raises(OAuthError) as caught:
        await issuer.refresh(OLD)
    assert caught.value.permanent
    assert len(str(caught.value)) < 300


# What leaves the machine, and what shows


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(script: ScriptedIssuer, issuer: Issuer, status: int) -> None:
    async with scripted_issuer() as (elsewhere, _):
        elsewhere.answer(TOKEN, 200, tokens())
        script.answer(TOKEN, status, b"", location=elsewhere.url + TOKEN)
        with pytest.raises(OAuthError):
            await issuer.refresh(OLD)
        with pytest.raises(OAuthError):
            await issuer.exchange(Secret("c"), "r", Secret("v"))
        assert await issuer.revoke(OLD) is not None
    assert elsewhere.seen == []


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_an_echoed_token_is_blotted_out(script: ScriptedIssuer, issuer: Issuer, status: int) -> None:
    script.answer(TOKEN, status, {"error": {"message": f"bad token {OLD.reveal()}!", "code": "x"}})
    with pytest.raises(OAuthError, match=r"bad token \*\*\*!") as caught:
        await issuer.refresh(OLD)
    assert OLD.reveal() not in repr(caught.value)


async def test_an_echoed_code_is_blotted_out(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 400, {"error": "invalid_grant", "error_description": "no: the-code the-verifier"})
    with pytest.raises(OAuthError, match=r"no: \*\*\* \*\*\*"):
        await issuer.exchange(Secret("the-code"), "r", Secret("the-verifier"))


async def test_the_issuers_words_fit_on_one_line_of_a_terminal(
    script: ScriptedIssuer, issuer: Issuer
) -> None:
    script.answer(TOKEN, 401, {"error": {"message": "a\n\x1b[31mb" + "c" * 1000}})
    with pytest.raises(OAuthError) as caught:
        await issuer.refresh(OLD)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400


# Code exchange


async def test_exchange_is_form_encoded_in_the_official_order(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 200, tokens())
    grant = await issuer.exchange(Secret("c+d"), "http://localhost:1457/auth/callback", Secret("v"))
    [request] = script.seen
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qsl(request.text) == [
        ("grant_type", "authorization_code"),
        ("code", "c+d"),
        ("redirect_uri", "http://localhost:1457/auth/callback"),
        ("client_id", "app_EMoamEEZ73f0CkXaXp7hrann"),
        ("code_verifier", "v"),
    ]
    assert grant.refresh == Secret("rt_new")
    assert grant.claims.email == "me@example.com"


async def test_an_exchange_without_id_token_is_enough(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(TOKEN, 200, tokens(id_token=None))
    assert (await issuer.exchange(Secret("c"), "r", Secret("v"))).id_token is None


@pytest.mark.parametrize("missing", ["access_token", "refresh_token"])
async def test_an_exchange_without_a_token_fails(
    script: ScriptedIssuer, issuer: Issuer, missing: str
) -> None:
    script.answer(TOKEN, 200, tokens(**{missing: None}))
    with pytest.raises(OAuthError, match="without tokens"):
        await issuer.exchange(Secret("c"), "r", Secret("v"))


@pytest.mark.parametrize(("status", "permanent"), [(400, True), (403, True), (429, False), (502, False)])
async def test_a_refused_exchange_says_status_and_reason(
    script: ScriptedIssuer, issuer: Issuer, status: int, permanent: bool
) -> None:
    script.answer(TOKEN, status, {"error": {"message": "port not registered"}})
    with pytest.raises(OAuthError, match=f"{status}: port not registered") as caught:
        await issuer.exchange(Secret("c"), "r", Secret("v"))
    assert caught.value.permanent is permanent


# Revocation


async def test_revoke_sends_the_refresh_token_with_its_hint(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(REVOKE, 200)
    assert await issuer.revoke(OLD) is None
    assert script.seen[0].json == {
        "token": OLD.reveal(),
        "token_type_hint": "refresh_token",
        "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
    }


async def test_revoke_sends_an_access_token_without_client_id(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(REVOKE, 200)
    assert await issuer.revoke(Secret("at"), "access_token") is None
    assert script.seen[0].json == {"token": "at", "token_type_hint": "access_token"}


async def test_a_failed_revocation_is_reported_and_not_raised(script: ScriptedIssuer, issuer: Issuer) -> None:
    script.answer(REVOKE, 400, {"error_description": f"unknown {OLD.reveal()}"})
    error = await issuer.revoke(OLD)
    assert isinstance(error, OAuthError)
    assert "400: unknown ***" in str(error)


async def test_a_silent_issuer_does_not_keep_a_logout(
    script: ScriptedIssuer, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert oauth.REVOKE_TIMEOUT == 10
    monkeypatch.setattr(oauth, "REVOKE_TIMEOUT", 0.01)
    script.answer(REVOKE, 200, hold=True)
    assert "no answer" in str(await issuer.revoke(OLD))


def test_an_oauth_error_is_an_accounts_error() -> None:
    assert issubclass(OAuthError, AccountsError)
