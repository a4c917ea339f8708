"""Failed answers of the backend, as short as a test can write them."""

from __future__ import annotations

import json
from typing import Any

from addon.protocol import errors
from addon.protocol.errors import Failure

NOW = 1795000000.0


def http(status: int, body: Any = b"", **headers: str) -> Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return errors.from_http(status, {k.replace("_", "-"): v for k, v in headers.items()}, raw, now=NOW)


def error(**members: Any) -> dict[str, Any]:
    return {"error": {"message": "text", **members}}


CLOUDFLARE = (
    b"<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head><body>x</body></html>"
)
