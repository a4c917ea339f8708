"""A ChatGPT account of the fake: who it is, what it may use, what its next requests get, what it was sent.

Tests hold on to a `FakeAccount` and turn its switches; the server asks it for every request that bears one of
its tokens."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import catalogue, replies
from .quota import Quota, Window
from .replies import Reply
from .scenario import Scripted

if TYPE_CHECKING:
    from .issuer import Issuer, Login

Json = dict[str, Any]
LimitForm = Literal["429", "404", "failed", "error", "wrapped"]

FIVE_HOURS, WEEK = 300, 10_080  # minutes
ACCESS_LIFE = 864_000.0  # seconds: the ten days of the real issuer


@dataclass(slots=True)
class Seen:
    """One request as the server got it. `order` counts over all accounts; `status` is what it was
    answered."""

    order: int
    route: str
    account: str | None
    method: str
    path: str
    headers: dict[str, str]  # lower-case names
    body: bytes  # decoded from its content-encoding
    json: Json = field(default_factory=dict)
    status: int = 0
    failure: str | None = None  # the failure inside a 200
    connection: int = 0  # the client's port: equal for requests on one connection


@dataclass(slots=True)
class Limit:
    """The account, or one model of it, is refused until `until`, in this form."""

    until: float
    form: LimitForm
    name: str | None = None  # the limit, if it is a model's own


class FakeAccount(Scripted):
    """See the module's docstring; made by `CodexFake.account(name, …)`."""

    def __init__(
        self, issuer: Issuer, name: str, plan: str, email: str | None, account_id: str | None
    ) -> None:
        super().__init__()
        self._issuer = issuer
        self._clock = issuer.clock
        self.name = name
        self.account_id = account_id or name
        self.email = email or f"{name}@example.com"
        self.user_id = f"user-{name}"
        self.models: dict[str, catalogue.Model] = dict(catalogue.MODELS)
        self.requests: list[Seen] = []  # but model lists and usage: those are in `CodexFake.seen(route)`
        self.refuses: set[str] = set()  # body members refused by name, dotted paths too
        self.id_demanded: set[str] = set()  # item types that are refused without an id
        self.refuses_developer = False
        self.entitled = True  # may log in to Codex at all
        self.backend_origin = "NO_CONSTRAINT"
        self.reset_credits: list[Json] = []
        self.redeemed: dict[str, Json] = {}  # by redeem_request_id
        now = self._clock.now()
        self.quota = Quota(plan, Window(1.0, FIVE_HOURS, now + 9000), Window(2.0, WEEK, now + 300_000))
        self._limit: Limit | None = None
        self._model_limits: dict[str, Limit] = {}
        self._meter: tuple[float, float] | None = None

    # Identity and logins

    @property
    def plan(self) -> str:
        return self.quota.plan

    @plan.setter
    def plan(self, plan: str) -> None:
        self.quota.plan = plan

    def login(self, expires_in: float = ACCESS_LIFE) -> Login:
        """A login of its own: fresh tokens, the access token lives `expires_in` seconds."""
        return self._issuer.login(self, expires_in)

    def auth_json(self, expires_in: float = ACCESS_LIFE) -> Json:
        """The content of the official CLI's auth.json, for a fresh login."""
        login = self.login(expires_in)
        return {
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": None,
            "tokens": {
                "id_token": login.id_token,
                "access_token": login.access_token,
                "refresh_token": login.refresh_token,
                "account_id": self.account_id,
            },
            "last_refresh": datetime.fromtimestamp(self._clock.now(), UTC).isoformat().replace("+00:00", "Z"),
        }

    def opencode_json(self, expires_in: float = ACCESS_LIFE) -> Json:
        """The content of OpenCode's auth.json, for a fresh login (expiry in milliseconds)."""
        login = self.login(expires_in)
        entry = {
            "type": "oauth",
            "refresh": login.refresh_token,
            "access": login.access_token,
            "expires": int((self._clock.now() + expires_in) * 1000),
            "accountId": self.account_id,
        }
        return {"openai": entry}

    def write_auth_json(self, path: Path, expires_in: float = ACCESS_LIFE) -> Path:
        """`auth_json` as a file of mode 0600; returns its path."""
        path.write_text(json.dumps(self.auth_json(expires_in), indent=2))
        os.chmod(path, 0o600)
        return path

    def expire_access(self) -> None:
        """The access tokens that are out are refused as expired from now on; refreshing helps."""
        self._issuer.kill(self, "token_expired", refresh=False)

    def revoke(self, code: str = "token_invalidated") -> None:
        """All logins are ended by the server: 401 with `code`, and refreshing fails for good."""
        self._issuer.kill(self, code, refresh=True)

    # Quota

    def set_quota(
        self,
        primary: tuple[float, int, float | None] | None = None,
        secondary: tuple[float, int, float | None] | None = None,
    ) -> None:
        """Both windows as (used percent, minutes, reset in epoch seconds); None = the slot is retired. Only
        what is told changes: a window at 100 does not refuse anything, `limit()` does."""
        self.quota.primary = primary and Window(*primary)
        self.quota.secondary = secondary and Window(*secondary)

    def set_extra_limit(
        self,
        limit_id: str,
        primary: tuple[float, int, float | None] | None = None,
        secondary: tuple[float, int, float | None] | None = None,
    ) -> None:
        """The windows of another limit, e.g. `codex_bengalfox` (a model's own)."""
        self.quota.extra[limit_id] = (primary and Window(*primary), secondary and Window(*secondary))

    def limit(self, reset_in: float = 3600.0, form: LimitForm = "429") -> float:
        """Refuse every generation for `reset_in` seconds; returns the reset (epoch seconds). The primary
        window shows 100 % until then."""
        until = self._clock.now() + reset_in
        self._limit = Limit(until, form)
        minutes = self.quota.primary.minutes if self.quota.primary else FIVE_HOURS
        self.quota.primary = Window(100.0, minutes, until)
        return until

    def limit_model(self, model: str, limit_id: str, reset_in: float = 3600.0) -> None:
        """Refuse one model with 429 by a limit of its own, whose window shows 100 % until then."""
        until = self._clock.now() + reset_in
        self.set_extra_limit(limit_id, (100.0, FIVE_HOURS, until))
        self._model_limits[model] = Limit(until, "429", limit_id)

    def unlimit(self) -> None:
        """End the limit at once, with an empty primary window."""
        self._limit = None
        if self.quota.primary is not None:
            self.quota.primary.used = 0.0

    def meter(self, primary: float, secondary: float = 0.0) -> None:
        """Each generation served from now on adds these percents; at 100 the account is limited until the
        reset."""
        self._meter = (primary, secondary)

    def limited(self, model: str | None = None) -> Limit | None:
        """The limit in force now, for this model or at all."""
        now = self._clock.now()
        own = self._model_limits.get(model or "")
        if own is not None and now < own.until:
            return own
        if self._limit is not None and now >= self._limit.until:
            self._limit = None
            if self.quota.primary is not None:
                self.quota.primary.roll(now)
        if self._limit is None and self._meter is not None:
            for window in (self.quota.primary, self.quota.secondary):
                if window is not None:
                    window.roll(now)
                    if window.used >= 100.0:
                        return Limit(window.reset_at or now + 60.0, "429")
        return self._limit

    def charge(self) -> None:
        """Server side: one generation was served."""
        if self._meter is not None:
            for window, cost in zip((self.quota.primary, self.quota.secondary), self._meter, strict=True):
                if window is not None:
                    window.used = min(100.0, window.used + cost)

    def limit_reply(self, limit: Limit) -> Reply:
        now = self._clock.now()
        named = replies.limit_as_404 if limit.form == "404" else replies.usage_limit
        reply = named(self.plan, limit.until, max(0.0, limit.until - now))
        return replace(reply, headers={"x-codex-active-limit": limit.name}) if limit.name else reply

    # Reset credits

    def give_reset_credits(self, count: int = 1, expires_in: float = 30 * 86_400.0) -> None:
        """Add reset credits that clear the quota windows."""
        now = self._clock.now()
        for number in range(len(self.reset_credits) + 1, len(self.reset_credits) + count + 1):
            self.reset_credits.append(
                {
                    "id": f"credit-{self.name}-{number}",
                    "reset_type": "codex_rate_limits",
                    "status": "available",
                    "granted_at": _iso(now),
                    "expires_at": _iso(now + expires_in),
                    "title": None,
                    "description": None,
                    "is_supported_by_plan": True,
                    "redeem_started_at": None,
                    "redeemed_at": None,
                }
            )

    def available_credits(self) -> list[Json]:
        return [credit for credit in self.reset_credits if credit["status"] == "available"]

    def redeem(self, request_id: str, credit_id: str | None) -> Json:
        """Spend a credit; the same request id never spends twice."""
        if request_id in self.redeemed:
            return {**self.redeemed[request_id], "code": "already_redeemed", "windows_reset": 0}
        usable = [c for c in self.available_credits() if credit_id in (None, c["id"])]
        if not usable:
            return {"code": "no_credit", "windows_reset": 0}
        windows = [w for w in (self.quota.primary, self.quota.secondary) if w is not None and w.used >= 100.0]
        if not windows and self.limited() is None:
            return {"code": "nothing_to_reset", "windows_reset": 0}
        self._limit = None
        for window in windows:
            window.used = 0.0
        at = _iso(self._clock.now())
        usable[0].update(status="redeemed", redeem_started_at=at, redeemed_at=at)
        answer = {"code": "reset", "windows_reset": len(windows), "redeemed_at": at}
        self.redeemed[request_id] = answer
        return answer


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
