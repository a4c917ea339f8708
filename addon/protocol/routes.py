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
    COMPACT = "compact"
    RESPONSE = "response"
    RESPONSE_DELETE = "response_delete"
    RESPONSE_CANCEL = "response_cancel"
    INPUT_ITEMS = "input_items"
    CHAT = "chat"
    COMPLETIONS = "completions"
    IMAGE_GENERATION = "image_generation"
    IMAGE_EDIT = "image_edit"
    MODELS = "models"
    MODEL = "model"


_ID: Final = ""
"""Stands for the one segment that may be anything; no segment of a request is empty."""

_ROUTES: Final[dict[tuple[str, tuple[str, ...]], Route]] = {
    ("POST", ("responses",)): Route.RESPONSES,
    ("GET", ("responses",)): Route.RESPONSES_SOCKET,
    ("POST", ("responses", "compact")): Route.COMPACT,
    ("GET", ("responses", _ID)): Route.RESPONSE,
    ("DELETE", ("responses", _ID)): Route.RESPONSE_DELETE,
    ("POST", ("responses", _ID, "cancel")): Route.RESPONSE_CANCEL,
    ("GET", ("responses", _ID, "input_items")): Route.INPUT_ITEMS,
    ("POST", ("chat", "completions")): Route.CHAT,
    ("POST", ("completions",)): Route.COMPLETIONS,
    ("POST", ("images", "generations")): Route.IMAGE_GENERATION,
    ("POST", ("images", "edits")): Route.IMAGE_EDIT,
    ("GET", ("models",)): Route.MODELS,
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
    method, parts = method.upper(), segments(path)
    if method == "GET" and len(parts) > 1 and parts[0] == "models":
        return Route.MODEL  # whatever follows is the model's name, which may hold slashes
    named = (parts[0], _ID, *parts[2:]) if len(parts) > 1 else parts
    return _ROUTES.get((method, parts)) or _ROUTES.get((method, named))


def response_id(path: str) -> str:
    """The response that a path names, of a route that names one."""
    return segments(path)[1]


def model_name(path: str) -> str:
    """The model that a path of `Route.MODEL` names."""
    return "/".join(segments(path)[1:])
