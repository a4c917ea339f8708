"""Method and path → what the client wants of us; None means "not ours", and the flow goes on untouched.

The one idea: a path is compared segment by segment, as a whole. Substring tests would redirect sub-paths and
GETs to the generation endpoint, and would show an OAuth token to routes that must never see one.

The rule: percent-decoding happens after the split, so an encoded slash can never make a new segment.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from urllib.parse import unquote


class Route(StrEnum):
    """A served endpoint."""

    RESPONSES = "responses"
    RESPONSES_SOCKET = "responses_socket"
    CHAT = "chat"
    COMPLETIONS = "completions"


_ROUTES: Final[dict[tuple[str, tuple[str, ...]], Route]] = {
    ("POST", ("responses",)): Route.RESPONSES,
    ("GET", ("responses",)): Route.RESPONSES_SOCKET,
    ("POST", ("chat", "completions")): Route.CHAT,
    ("POST", ("completions",)): Route.COMPLETIONS,
}


def segments(path: str) -> tuple[str, ...]:
    """The decoded segments of a request target, without query, fragment, empty segments and a leading `v1`.

    Clients join a base URL and a path with one slash too many often enough, so empty segments are ignored.
    Dot segments are kept as they are and therefore match nothing.
    """
    bare = path.partition("?")[0].partition("#")[0]
    parts = tuple(unquote(part) for part in bare.split("/") if part)
    return parts[1:] if parts[:1] == ("v1",) else parts


def match(method: str, path: str) -> Route | None:
    """The route of a request, or None when it is not served here. `path` may carry a query."""
    return _ROUTES.get((method.upper(), segments(path)))
