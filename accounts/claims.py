"""What a token says about its owner: ChatGPT account id, e-mail, plan, when it began and ends.

The one idea: a claim is a hint for people and for choosing a header, never a proof. The backend is the one
who checks the signature, so nothing here does; a token that cannot be read simply says nothing.

The rule that must not be broken: whatever the token holds, `claims` answers and never raises, and no text
with control characters leaves it (these strings end up in headers and on terminals).
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any

import orjson

AUTH_CLAIM = "https://api.openai.com/auth"
PROFILE_CLAIM = "https://api.openai.com/profile"

MAX_TOKEN = 16_384
MAX_PAYLOAD = 8_192
"""Characters; longer tokens are not looked into (the bounds of the model project)."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What one token, or several together, say. None: not said."""

    account_id: str | None = None
    """The ChatGPT account id, which goes into the `chatgpt-account-id` header."""
    email: str | None = None
    plan: str | None = None
    """`plus`, `pro`, `team` … any string: new plans appear without notice."""
    expires_at: float | None = None
    """Epoch seconds, from `exp`."""
    issued_at: float | None = None
    """Epoch seconds, from `iat`."""


def claims(token: str) -> Claims:
    """Reads the payload of a JWT without checking its signature; an unreadable token gives empty claims."""
    payload = _payload(token)
    auth, profile = _object(payload.get(AUTH_CLAIM)), _object(payload.get(PROFILE_CLAIM))
    organizations = payload.get("organizations")
    first = organizations[0] if isinstance(organizations, list) and organizations else None
    return Claims(
        account_id=_text(payload.get("chatgpt_account_id"))
        or _text(auth.get("chatgpt_account_id"))
        or _text(_object(first).get("id")),
        email=_text(payload.get("email")) or _text(profile.get("email")),
        plan=_text(auth.get("chatgpt_plan_type")),
        expires_at=_moment(payload.get("exp")),
        issued_at=_moment(payload.get("iat")),
    )


def _payload(token: str) -> dict[str, Any]:
    parts = token.split(".") if len(token) <= MAX_TOKEN else []
    if len(parts) != 3 or not 0 < len(parts[1]) <= MAX_PAYLOAD:
        return {}
    encoded = parts[1].rstrip("=")
    try:
        return _object(orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))))
    except (binascii.Error, ValueError):
        return {}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() and value.isprintable() else None


def _moment(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
