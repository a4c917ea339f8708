"""A client's request as it came, for an account that is an API key: the real API needs nothing of it changed.

What goes is the body and what describes it. What the client's own key stood for (organization, project, cookies) stays
here, because another key pays.

The rule: no secret of the client's leaves with it, under whatever name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from accounts.redaction import is_secret_name
from addon.protocol import compression
from addon.protocol.routes import segments

_STAY: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "host",
        "keep-alive",
        "openai-organization",
        "openai-project",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "accept-encoding",
        "expect",
    }
)


@dataclass(frozen=True, slots=True)
class Plain:
    """One request. `path` is below the API's base, with its query; `content` is not compressed."""

    path: str
    fields: tuple[tuple[str, str], ...]
    content: bytes

    @classmethod
    def of(cls, path: str, fields: Iterable[tuple[str, str]], content: bytes, limit: int) -> Plain:
        """The request with this target, these header fields and this body (at most `limit` bytes, inflated)."""
        fields = tuple(fields)
        encoding = next((value for name, value in fields if name.lower() == "content-encoding"), "identity")
        content = compression.decode(content, encoding, limit) if encoding != "identity" else content
        below = "/" + "/".join(segments(path))
        query = path.partition("?")[1:]
        stay = _STAY.union(*(_listed(value) for name, value in fields if name.lower() == "connection"))
        kept = tuple(each for each in fields if each[0].lower() not in stay and not is_secret_name(each[0]))
        return cls(below + "".join(query), kept, content)

    def headers(self, key: str) -> dict[str, str]:
        """The header fields for a request that this API key pays for."""
        return {**dict(self.fields), "authorization": f"Bearer {key}", "accept-encoding": "identity"}


def _listed(connection: str) -> set[str]:
    """The header fields that a `Connection` field names: they are for the next hop alone."""
    return {name.strip().lower() for name in connection.split(",")}
