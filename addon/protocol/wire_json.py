"""JSON out. One place turns a client's values into bytes, so that equal values are equal bytes everywhere.

The rule: what cannot be written (a body nested deeper than the encoder goes) is the client's error, a 400,
and never an exception out of the proxy.
"""

from __future__ import annotations

import orjson

from addon.protocol.errors import Refused, refuse


def dump(value: object, *, sort: bool = False) -> bytes:
    """Compact UTF-8 JSON; with `sort`, members in name order. Raises Refused (400) when nested too deeply."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort else None)
    except orjson.JSONEncodeError:
        raise too_deep() from None


def too_deep() -> Refused:
    """The refusal of a body that nests deeper than we can walk or write."""
    return refuse(400, "The request body is nested too deeply.", code="invalid_json")
