"""Encrypted reasoning as the fake makes it: opaque text that only its own account may send back.

No table is kept: the text itself carries a fingerprint of the account, so a restarted fake still knows its
own."""

from __future__ import annotations

import base64
import binascii
import hashlib

_PREFIX = "gAAAAAB"  # what the real ones begin with


def _mark(account_id: str) -> bytes:
    return hashlib.sha256(b"codex-fake:" + account_id.encode()).digest()[:18]


def seal(account_id: str, seed: str, size: int = 96) -> str:
    """The ciphertext for `seed`, made by `account_id`; `size` bytes before the text encoding."""
    noise = hashlib.shake_128(f"{account_id}:{seed}".encode()).digest(size)
    return _PREFIX + base64.urlsafe_b64encode(_mark(account_id) + noise).decode().rstrip("=")


def is_from(account_id: str, ciphertext: str) -> bool | None:
    """Whether `account_id` made it; None when it is no ciphertext of this fake at all."""
    body = ciphertext.removeprefix(_PREFIX)
    try:
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        return None
    if body == ciphertext or len(raw) < 36:
        return None
    return raw[:18] == _mark(account_id)
