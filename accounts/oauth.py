"""The OAuth issuer, as this program talks to it: refresh, code exchange, device codes, revocation.

The one idea: one class, `Issuer`, is the only place in the project that sends a refresh token anywhere, and
it knows one address. Every failure leaves it as an `OAuthError` that has already been judged: permanent
(only a new login helps) or transient (the same call may work later).

The rule that must not be broken: tokens, codes and verifiers go to the configured issuer and nowhere else. No
redirect is followed, and no token is part of a message or a repr.

Endpoints and field names are those of the official client 0.169.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson

from accounts.claims import Claims, claims
from accounts.models import Login, Secret
from accounts.oauth_answer import LOGIN_AGAIN, Answer, OAuthError, refused, refused_refresh

__all__ = [
    "CLIENT_ID",
    "ISSUER_URL",
    "LOGIN_AGAIN",
    "Authorization",
    "Claims",
    "DeviceCode",
    "Grant",
    "Issuer",
    "OAuthError",
    "challenge",
    "claims",
    "new_state",
    "new_verifier",
]

ISSUER_URL = "https://auth.openai.com"
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
"""The public client id of Codex, for which the issuer has registered the loopback redirects."""
SCOPE = "openid profile email offline_access"
ORIGINATOR = "openai-auth-proxy"

REFRESH_TIMEOUT = 15.0
REVOKE_TIMEOUT = 10.0
CALL_TIMEOUT = 30.0
"""Seconds for a whole call. The first two are the official client's; it sets none for the login calls."""
DEFAULT_LIFE = 3600.0
"""Seconds an access token is taken to live when neither `expires_in` nor its `exp` says so."""
DEVICE_LIFE = 900.0
DEVICE_INTERVAL = 5.0
"""Seconds a device code lives, and between two polls, when the issuer does not say."""
MAX_ANSWER = 1024 * 1024
"""Bytes read of one answer."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The tokens of one answer. `refresh` None means: the one that was used stays valid, keep it."""

    access: Secret
    refresh: Secret | None
    id_token: Secret | None
    expires_at: float
    """Epoch seconds at which the access token expires."""

    @property
    def claims(self) -> Claims:
        """Who this is: each claim from the id token if it is there, else from the access token."""
        own = claims(self.access.reveal())
        named = claims(self.id_token.reveal()) if self.id_token else Claims()
        return Claims(
            account_id=named.account_id or own.account_id,
            email=named.email or own.email,
            plan=named.plan or own.plan,
            expires_at=self.expires_at,
        )

    def login(self, label: str | None = None) -> Login:
        """This grant as a new login for the store."""
        who = self.claims
        return Login(
            type="oauth",
            access=self.access,
            refresh=self.refresh,
            expires_at=self.expires_at,
            account_id=who.account_id,
            email=who.email,
            plan=who.plan,
            label=label,
        )


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A login that waits for someone to type `user_code` into the page at `url`."""

    user_code: str
    url: str
    interval: float
    """Seconds between two polls."""
    expires_in: float
    """Seconds from its making until the code is worthless."""
    device_auth_id: Secret


@dataclass(frozen=True, slots=True)
class Authorization:
    """What an approved device code is worth: a code to exchange, and the verifier that the issuer chose."""

    code: Secret
    verifier: Secret


def new_verifier() -> Secret:
    """A fresh PKCE verifier: 64 random bytes, 86 characters, as the official client makes them."""
    return Secret(secrets.token_urlsafe(64))


def challenge(verifier: Secret) -> str:
    """The S256 challenge of a verifier: base64url of its SHA-256, without padding."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def new_state() -> str:
    """A fresh state: 32 random bytes, 43 characters."""
    return secrets.token_urlsafe(32)


class Issuer:
    """An OAuth issuer at `url`; calls go through `http`, which stays the caller's to close.

    `clock` gives epoch seconds. Calls raise `OAuthError` and nothing else.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str = ISSUER_URL,
        *,
        client_id: str = CLIENT_ID,
        originator: str = ORIGINATOR,
        user_agent: str = ORIGINATOR,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._client_id = client_id
        self._originator = originator
        self._headers = {"user-agent": user_agent, "originator": originator, "accept": "application/json"}
        self._clock = clock
        self.name = urlsplit(self._url).netloc or self._url
        """The issuer's host, for messages."""
        self.device_redirect_uri = f"{self._url}/deviceauth/callback"
        """The redirect URI to name when a device code is exchanged; nothing is ever redirected to it."""

    def authorize_url(self, *, redirect_uri: str, state: str, challenge: str) -> str:
        """The address a browser must open to start a login; `exchange` must name the same `redirect_uri`.

        The order of the parameters is the official client's.
        """
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "id_token_add_organizations": "true",
            "codex_cli_simplified_flow": "true",
            "state": state,
            "originator": self._originator,
        }
        return f"{self._url}/oauth/authorize?{urlencode(query)}"

    async def refresh(
        self, refresh: Secret, reason: str = "proactive_expiry", *, current: Secret | None = None
    ) -> Grant:
        """Trades a refresh token for new tokens. The old one is spent by this: store the grant before use.

        `reason` is the official client's word for why: `proactive_expiry` or `unauthorized_recovery`. Every
        member of the answer is optional: without a refresh token the old one stays (`Grant.refresh` is
        None), without an access token `current` stays. Do not cancel it: an answer that nobody stores is a
        login lost.
        """
        body = {
            "client_id": self._client_id,
            "grant_type": "refresh_token",
            "refresh_token": refresh.reveal(),
            "refresh_reason": reason,
        }
        answer = await self._post("/oauth/token", "renewal of the login", json=body, timeout=REFRESH_TIMEOUT)
        if not answer.ok:
            raise refused_refresh(answer, self.name, [refresh.reveal()])
        access = answer.secret("access_token") or current
        if access is None:
            raise answer.error(
                f"{self.name} renewed the login without an access token: it is tried again later",
                permanent=False,
            )
        return self._grant(answer, access)

    async def exchange(self, code: Secret, redirect_uri: str, verifier: Secret) -> Grant:
        """Trades an authorization code for tokens; the last step of both logins."""
        fields = {
            "grant_type": "authorization_code",
            "code": code.reveal(),
            "redirect_uri": redirect_uri,
            "client_id": self._client_id,
            "code_verifier": verifier.reveal(),
        }
        answer = await self._post("/oauth/token", "login", form=fields)
        if not answer.ok:
            raise refused("login", answer, self.name, [code.reveal(), verifier.reveal()])
        access = answer.secret("access_token")
        if access is None or answer.secret("refresh_token") is None:
            raise answer.error(
                f"{self.name} answered the login without tokens: {LOGIN_AGAIN}", permanent=True
            )
        return self._grant(answer, access)

    async def device_start(self) -> DeviceCode:
        """Asks for a device code. 404 means that device logins are not enabled."""
        body = {"client_id": self._client_id}
        answer = await self._post("/api/accounts/deviceauth/usercode", "device login", json=body)
        if answer.status == 404:
            raise answer.error(
                f"device logins are not enabled at {self.name}: use `openai-auth login` without --headless, "
                "or enable device code login in ChatGPT's security settings",
                permanent=True,
                code="device_login_disabled",
            )
        if not answer.ok:
            raise refused("device login", answer, self.name, [])
        device_id = answer.secret("device_auth_id")
        user_code = answer.text("user_code") or answer.text("usercode")
        if device_id is None or user_code is None or not user_code.isprintable():
            raise answer.error(
                f"{self.name} answered the device login without a code: use `openai-auth login` instead",
                permanent=True,
            )
        return DeviceCode(
            user_code=user_code,
            url=f"{self._url}/codex/device",
            interval=max(answer.seconds("interval") or DEVICE_INTERVAL, 1.0),
            expires_in=answer.seconds("expires_in") or DEVICE_LIFE,
            device_auth_id=device_id,
        )

    async def device_poll(self, device: DeviceCode) -> Authorization | None:
        """Asks whether the code was approved; None: not yet (the issuer says so with 403 or 404).

        An error with code `slow_down` is transient and asks for longer pauses. `access_denied` (also for any
        401: the person declined) and `expired_token` are permanent.
        """
        device_id = device.device_auth_id.reveal()
        body = {"device_auth_id": device_id, "user_code": device.user_code}
        answer = await self._post("/api/accounts/deviceauth/token", "device login", json=body)
        if answer.ok:
            code, verifier = answer.secret("authorization_code"), answer.secret("code_verifier")
            if code is None or verifier is None:
                raise answer.error(
                    f"{self.name} approved the device login without a code: {LOGIN_AGAIN}", permanent=True
                )
            return Authorization(code, verifier)
        if answer.code == "slow_down" or answer.status == 429:
            raise answer.error(f"{self.name} asks for longer pauses", permanent=False, code="slow_down")
        if answer.status in (403, 404) or answer.code == "authorization_pending":
            return None
        if answer.status == 401 or answer.code == "access_denied":
            raise answer.error(
                f"the login was declined in the browser: {LOGIN_AGAIN} --headless if that was a mistake",
                permanent=True,
                code="access_denied",
            )
        if answer.code == "expired_token":
            raise answer.error(f"the code has expired: {LOGIN_AGAIN} --headless", permanent=True)
        raise refused("device login", answer, self.name, [device_id])

    async def revoke(self, token: Secret, hint: str = "refresh_token") -> OAuthError | None:
        """Makes a token worthless at the issuer; `hint` is `refresh_token` or `access_token`.

        None: done. Else what went wrong, returned and not raised, because a logout goes on all the same.
        """
        body = {"token": token.reveal(), "token_type_hint": hint}
        if hint == "refresh_token":
            body["client_id"] = self._client_id
        try:
            answer = await self._post("/oauth/revoke", "revocation", json=body, timeout=REVOKE_TIMEOUT)
        except OAuthError as error:
            return error
        return None if answer.ok else refused("revocation", answer, self.name, [token.reveal()])

    async def _post(
        self,
        path: str,
        what: str,
        *,
        json: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> Answer:
        if form is not None:
            kind, data = "application/x-www-form-urlencoded", urlencode(form).encode()
        else:
            kind, data = "application/json", orjson.dumps(json)
        try:
            async with self._http.post(
                self._url + path,
                data=data,
                headers={**self._headers, "content-type": kind},
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                return Answer(response.status, response.headers, await _object(response), self._clock())
        except TimeoutError:
            reason = f"no answer within {timeout:.0f} seconds"
        except (aiohttp.ClientError, OSError) as error:
            reason = _reason(error)
        raise OAuthError(f"the {what} failed, {self.name} was not reached ({reason}): check the network")

    def _grant(self, answer: Answer, access: Secret) -> Grant:
        life = answer.seconds("expires_in") if answer.text("access_token") else None
        said = answer.received_at + life if life else claims(access.reveal()).expires_at
        return Grant(
            access=access,
            refresh=answer.secret("refresh_token"),
            id_token=answer.secret("id_token"),
            expires_at=said if said is not None else answer.received_at + DEFAULT_LIFE,
        )


def _reason(error: Exception) -> str:
    """A failure for people. The text of an HTTP refusal on the way is none: it quotes a proxy with its password."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{type(error).__name__} {error.status}"
    return str(error) or type(error).__name__


async def _object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON object of an answer; {} for anything else, such as the page of a firewall."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_ANSWER:
            return {}
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
