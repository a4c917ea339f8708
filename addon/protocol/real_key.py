"""Does a client's key look like one that OpenAI gave out?

Most clients refuse to start without a key, so people write anything. A request that no subscription serves is worth
passing on only with a key that api.openai.com may accept; for all others an error here says more, and sooner.

The rule: what is meant for this proxy (its placeholder, its own client keys) is never a real key, so it never leaves.
"""

from __future__ import annotations

import re
from typing import Final

from accounts.models import CLIENT_KEY_PREFIX
from certs.trust import PLACEHOLDER_KEY

SHORTEST: Final = 20
"""Characters after `sk-`; the keys that OpenAI ever gave out are longer."""

_FORM: Final = re.compile(r"sk-((?:proj-|svcacct-|admin-)?([A-Za-z0-9_-]+))")
_DUMMIES: Final = (
    "xxx",
    "dummy",
    "test",
    "fake",
    "none",
    "local",
    "proxy",
    "placeholder",
    "1234",
    "no-key",
    "your-",
    "your_",
    "example",
)
"""What made-up keys begin with, after `sk-` and the kind of key."""


def bearer(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer …` header; None if there is none."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def looks_real(token: str | None) -> bool:
    """Whether api.openai.com may know this key."""
    found = _FORM.fullmatch(token or "")
    if not found:
        return False
    secret = found[2].lower()
    return len(found[1]) >= SHORTEST and not secret.startswith(_DUMMIES) and len(set(secret)) > 1


def is_ours(token: str | None) -> bool:
    """Whether this key means something to this proxy alone."""
    return token is not None and (token.startswith(CLIENT_KEY_PREFIX) or token == PLACEHOLDER_KEY)
