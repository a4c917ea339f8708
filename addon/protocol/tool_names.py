"""Tool names: what the backend accepts, made from what clients use, and back.

The backend takes letters, digits, `_` and `-`, at most 64 of them. A name that fits stays; another keeps its
legible beginning (so that an `mcp__` prefix survives) and ends in a digest of the whole.

The rule: the new name depends on the old one alone, not on the other tools of a request. Tools come and go
within a conversation, and a call made by one name must not change it later.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX_NAME: Final = 64
_LEGAL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST: Final = 8


def legal_name(name: str) -> str:
    """A name the backend accepts: the same object if it already is one."""
    if _LEGAL.match(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    head = _ILLEGAL.sub("_", name)[: MAX_NAME - _DIGEST - 1]
    return f"{head}_{digest}"


class ToolNames:
    """The names of one request. `restore` maps upstream names to the client's, where they differ."""

    def __init__(self) -> None:
        self.restore: dict[str, str] = {}

    def upstream(self, name: str) -> str:
        """The name to send; remembered if it is not the client's own."""
        short = legal_name(name)
        if short is not name:
            self.restore[short] = name
        return short
