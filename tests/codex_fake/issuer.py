"""The OAuth issuer's memory: logins, rotating refresh tokens, codes, device logins.

The rule that must not be broken: a refresh token is good for one use. Whoever sends a used one is told so
(`refresh_token_reused`) and counted in `reused_refresh`, which the tests of concurrent refreshing hold at
zero."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson

from .clock import Clock
from .gates import Gate
from .replies import Refused, Reply, error
from .scenario import Behaviour, Script

if TYPE_CHECKING:
    from .accounts import FakeAccount

Json = dict[str, Any]
Endpoint = Literal["refresh", "exchange", "revoke", "device_start", "device_poll"]

CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
CODE_LIFE = 600.0  # seconds an authorization code can be redeemed

_REFRESH_MESSAGES = {
    "refresh_token_expired": "Your refresh token has expired. Please try signing in again.",
    "refresh_token_reused": (
        "Your refresh token has already been used to generate a new access token. Please try signing in again."
    ),
    "refresh_token_invalidated": "Your refresh token has been revoked. Please try signing in again.",
}


@dataclass(slots=True)
class AccessToken:
    account: FakeAccount
    family: int
    expires_at: float
    dead: str | None = None  # the code it is refused with


@dataclass(slots=True)
class RefreshToken:
    account: FakeAccount
    family: int
    dead: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    id_token: str
    access_token: str
    refresh_token: str
    expires_in: float


@dataclass(frozen=True, slots=True)
class Refresh:
    """One refresh request as it was seen; `refused` is the error code, None for a served one."""

    account: str | None
    reason: str | None
    refused: str | None
    headers: dict[str, str]


@dataclass(slots=True)
class Code:
    """An authorization code that waits for its exchange."""

    account: FakeAccount
    redirect_uri: str
    challenge: str
    until: float


@dataclass(slots=True)
class Device:
    """A device login: pending until somebody approves or denies it on the page."""

    auth_id: str
    user_code: str
    until: float
    state: Literal["pending", "denied"] | FakeAccount = "pending"


def jwt(claims: Json) -> str:
    """A token of the JWT shape; the signature is noise."""
    parts = [
        orjson.dumps({"alg": "RS256", "typ": "JWT", "kid": "fake"}),
        orjson.dumps(claims),
        b"not a signature",
    ]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def s256(verifier: str) -> str:
    """The PKCE challenge of a verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@dataclass(slots=True)
class Issuer:
    """Knobs: `lenient_ports` accepts any localhost port as redirect; `device_enabled`, `device_interval` (a
    string of seconds, as on the wire), `device_life` (seconds); `login_as`: the account the consent page
    offers first."""

    clock: Clock
    accounts: dict[str, FakeAccount]
    lenient_ports: bool = False
    device_enabled: bool = True
    device_interval: str = "5"
    device_life: float = 900.0
    login_as: str | None = None
    access_life: float = 864_000.0
    reused_refresh: int = 0
    refreshes: list[Refresh] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)  # names of accounts whose token was revoked by a client
    access: dict[str, AccessToken] = field(default_factory=dict)
    refresh: dict[str, RefreshToken] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)  # by device_auth_id
    script_queue: Script = field(default_factory=Script)
    _families: int = 0

    # Scripting

    def fail(
        self,
        on: Endpoint,
        status: int,
        body: Any = None,
        *,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        times: int | None = 1,
        rotated: bool = False,
    ) -> None:
        """Answer an endpoint with a failure; `code` makes the usual error body. `rotated`: the refresh is
        carried out all the same, its answer is lost."""
        shown = (
            error(_REFRESH_MESSAGES.get(code or "", f"status {status}"), code=code).body
            if body is None
            else body
        )
        reply = Reply(status, shown, headers or {})
        self.script_queue.add(Behaviour(times=times, reply=reply, carried_out=rotated), on)

    def cut(self, on: Endpoint = "refresh", *, rotated: bool = False, times: int | None = 1) -> None:
        """Abort the connection; `rotated` as in `fail`."""
        self.script_queue.add(Behaviour(times=times, cut=True, carried_out=rotated), on)

    def stall(self, on: Endpoint = "refresh", *, rotated: bool = False, times: int | None = 1) -> Gate:
        """Stand still until the gate is released; `rotated`: the token is already used up while waiting."""
        gate = Gate()
        self.script_queue.add(Behaviour(times=times, gate=gate, carried_out=rotated), on)
        return gate

    def omit(self, *members: str, times: int | None = 1) -> None:
        """Leave members out of the next refresh answer; without `refresh_token` the old one stays good."""
        self.script_queue.add(Behaviour(times=times, omit=members), "refresh")

    def heal(self) -> None:
        """Drop everything scripted."""
        self.script_queue.clear()

    # Logins

    def login(self, account: FakeAccount, expires_in: float | None = None) -> Login:
        """Fresh tokens in a family of their own."""
        self._families += 1
        return self._grant(account, self._families, self.access_life if expires_in is None else expires_in)

    def _grant(self, account: FakeAccount, family: int, expires_in: float) -> Login:
        now = self.clock.now()
        claims = self.claims(account, now + expires_in)
        login = Login(
            id_token=jwt({**claims, "aud": [CLIENT_ID]}),
            access_token=jwt({**claims, "jti": secrets.token_hex(8), "scp": ["openid", "offline_access"]}),
            refresh_token=f"rt_{secrets.token_urlsafe(24)}",
            expires_in=expires_in,
        )
        self.access[login.access_token] = AccessToken(account, family, now + expires_in)
        self.refresh[login.refresh_token] = RefreshToken(account, family)
        return login

    @staticmethod
    def claims(account: FakeAccount, expires_at: float) -> Json:
        """The claims of both tokens."""
        return {
            "exp": int(expires_at),
            "email": account.email,
            "email_verified": True,
            "sub": f"auth0|{account.user_id}",
            "https://api.openai.com/profile": {"email": account.email},
            "https://api.openai.com/auth": {
                "chatgpt_account_id": account.account_id,
                "chatgpt_plan_type": account.plan,
                "chatgpt_user_id": account.user_id,
                "user_id": account.user_id,
                "chatgpt_account_is_fedramp": False,
                "organization_id": f"org-{account.name}",
            },
        }

    def kill(self, account: FakeAccount, code: str, *, refresh: bool) -> None:
        """Refuse the account's access tokens with `code`; with `refresh` its refresh tokens too."""
        for token in self.access.values():
            if token.account is account:
                token.dead = code
        for kept in self.refresh.values():
            if refresh and kept.account is account:
                kept.dead = "refresh_token_invalidated"

    def rotate(
        self, token: str, reason: str | None, headers: dict[str, str], omit: tuple[str, ...] = ()
    ) -> Json:
        """Redeem a refresh token. Raises Refused with the issuer's own texts."""
        known = self.refresh.get(token)
        refused = "refresh_token_invalidated" if known is None else known.dead
        name = known.account.name if known else None
        self.refreshes.append(Refresh(name, reason, refused, headers))
        if known is None or refused is not None:
            self.reused_refresh += refused == "refresh_token_reused"
            raise Refused(error(_REFRESH_MESSAGES[str(refused)], status=401, code=refused))
        login = self._grant(known.account, known.family, self.access_life)
        if "refresh_token" in omit:
            del self.refresh[login.refresh_token]
        else:
            known.dead = "refresh_token_reused"
        return self.answer(login, omit)

    @staticmethod
    def answer(login: Login, omit: tuple[str, ...] = ()) -> Json:
        """The token endpoint's 200."""
        whole = {
            "id_token": login.id_token,
            "access_token": login.access_token,
            "refresh_token": login.refresh_token,
            "expires_in": int(login.expires_in),
            "token_type": "Bearer",
            "scope": "openid profile email offline_access",
        }
        return {name: value for name, value in whole.items() if name not in omit}

    # Authorization codes

    def code(self, account: FakeAccount, redirect_uri: str, challenge: str) -> str:
        """A code as the consent page hands it out."""
        code = f"ac_{secrets.token_urlsafe(16)}"
        self.codes[code] = Code(account, redirect_uri, challenge, self.clock.now() + CODE_LIFE)
        return code

    def exchange(self, fields: dict[str, str]) -> Json:
        """Redeem a code: once, for its own redirect, with the right verifier."""
        known = self.codes.pop(fields.get("code", ""), None)
        problem = None
        if known is None or self.clock.now() >= known.until:
            problem = "Authorization code is invalid or expired."
        elif fields.get("redirect_uri") != known.redirect_uri:
            problem = "Redirect URI does not match the one of the authorization request."
        elif s256(fields.get("code_verifier", "")) != known.challenge:
            problem = "The PKCE code verifier does not match."
        if known is None or problem is not None:
            raise Refused(Reply(400, {"error": "invalid_grant", "error_description": problem}))
        return self.answer(self.login(known.account))

    # Device logins

    def start_device(self) -> Json:
        """A new device login. Raises Refused (404) when the issuer does not offer it."""
        if not self.device_enabled:
            raise Refused(Reply(404, {"detail": "Not Found"}))
        alphabet = "BCDFGHJKLMNPQRSTVWXZ"
        letters = "".join(secrets.choice(alphabet) for _ in range(9))
        device = Device(
            f"deviceauth_{secrets.token_hex(8)}",
            f"{letters[:4]}-{letters[4:]}",
            self.clock.now() + self.device_life,
        )
        self.devices[device.auth_id] = device
        return {
            "device_auth_id": device.auth_id,
            "user_code": device.user_code,
            "interval": self.device_interval,
            "expires_in": int(self.device_life),
        }

    def poll_device(self, auth_id: str, user_code: str, redirect_uri: str) -> Json:
        """The code of an approved device login. Raises Refused: 403 pending, 401 denied, 404 unknown."""
        device = self.devices.get(auth_id)
        if device is None or device.user_code != user_code or self.clock.now() >= device.until:
            raise Refused(error("Device code not found.", status=404, code="deviceauth_not_found"))
        if device.state == "pending":
            raise Refused(
                error("Authorization pending.", status=403, code="deviceauth_authorization_pending")
            )
        if device.state == "denied":
            raise Refused(error("The login was declined.", status=401, code="deviceauth_denied"))
        del self.devices[auth_id]
        verifier = secrets.token_urlsafe(48)
        code = self.code(device.state, redirect_uri, s256(verifier))
        return {"authorization_code": code, "code_challenge": s256(verifier), "code_verifier": verifier}

    def decide_device(self, user_code: str, account: FakeAccount | None) -> bool:
        """Approve (or deny, with None) a pending device login; False when there is none with this code."""
        for device in self.devices.values():
            if device.user_code == user_code.strip().upper() and device.state == "pending":
                device.state = account or "denied"
                return True
        return False

    # Revocation

    def revoke_token(self, token: str) -> None:
        """A client logs out: the whole login of this token ends. Unknown tokens are accepted silently."""
        known = self.refresh.get(token) or self.access.get(token)
        if known is None:
            return
        self.revoked.append(known.account.name)
        for access in self.access.values():
            if access.family == known.family:
                access.dead = "token_revoked"
        for refresh in self.refresh.values():
            if refresh.family == known.family:
                refresh.dead = refresh.dead or "refresh_token_invalidated"
