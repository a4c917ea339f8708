"""UUID version 7 (RFC 9562): time-ordered ids, which the backend expects for threads and turns.

Python has its own only from 3.14 on. Ids made within one millisecond are not ordered among
themselves; nothing here needs that.
"""

from __future__ import annotations

import secrets
import time
import uuid


def uuid7(now: float | None = None) -> str:
    """A new id: 48 bits of milliseconds since the epoch, version, variant, 74 random bits."""
    milliseconds = int((time.time() if now is None else now) * 1000) & (1 << 48) - 1
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))
