"""`multipart/form-data`, as the Images API is uploaded: a body into its fields.

The rule: a body that is not what its header says is a 400, never half read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from typing import Final

from addon.protocol.failure import refuse

MAX_FIELDS: Final = 64
"""Fields of one form: the Images API has some twenty."""

MAX_HEADER: Final = 2048
"""Characters of a header field, because the standard library takes quadratic time to read its parameters. The longest
of them is a file name: 255 bytes, 765 characters when they are escaped."""

_LINE_END: Final = re.compile(rb"\r\n\r\n|\n\n")


@dataclass(frozen=True, slots=True)
class Field:
    """One field, plain or a file."""

    name: str
    value: bytes


def fields(body: bytes, content_type: str) -> list[Field]:
    """The fields of a form, in order. Raises Refused (400)."""
    boundary = _header("content-type", content_type).get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise _broken("its Content-Type names no boundary")
    mark = b"--" + boundary.encode("latin-1", "replace")
    parts = (b"\n" + body).split(b"\n" + mark, MAX_FIELDS + 2)
    if len(parts) - 2 > MAX_FIELDS:
        raise _broken(f"it has more than {MAX_FIELDS} fields")
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise _broken("its end is missing")
    return [_field(part) for part in parts[1:-1]]


def _field(part: bytes) -> Field:
    end = _LINE_END.search(part)
    if not end:
        raise _broken("a field has no head")
    headers: dict[str, str] = {}
    for line in part[: end.start()].decode("utf-8", "replace").splitlines():
        header, _, value = line.partition(":")
        headers[header.strip().lower()] = value.strip()
    head = _header("content-disposition", headers.get("content-disposition", ""))
    name = head.get_param("name", header="content-disposition")
    if not isinstance(name, str) or not name:
        raise _broken("a field has no name")
    return Field(name, part[end.end() :].removesuffix(b"\r"))


def _header(name: str, value: str) -> Message[str, str]:
    if len(value) > MAX_HEADER:
        raise _broken(f"a header field has more than {MAX_HEADER} characters")
    message: Message[str, str] = Message()
    message[name] = value.replace("\n", " ").replace("\r", " ")
    return message


def _broken(what: str) -> Exception:
    return refuse(400, f"The multipart form cannot be read: {what}.", code="invalid_multipart")
