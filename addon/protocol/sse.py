"""Server-sent events: bytes to frames and back.

A stream is read as *frames*: the bytes up to and including a blank line. A frame keeps those bytes exactly as
they came, so that an event nobody has to change leaves as the bytes that arrived, and it is parsed only when
someone asks. The kind of an event is found by looking at bytes, because a long answer is thousands of small
deltas of which none needs its JSON read.

The rule of this file: a frame never depends on how the stream was cut into chunks. Lines end at LF, CRLF or
CR and at nothing else (JSON text may hold U+2028 and U+0085, which `str.splitlines` would split on).
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from addon.protocol.failure import ProtocolError

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Longest event accepted. The backend itself closes a WebSocket on messages of this size."""

_BOM = b"\xef\xbb\xbf"
_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE = re.compile(rb"\r\n|\n|\r")
_TYPE = re.compile(rb'\s*\{\s*"type"\s*:\s*"([^"\\]+)"')
# The shape nearly every event has: an `event:` line, one `data:` line, LF. Event lines once read are kept, so
# that the next one of the kind is a look-up.
_DATA_LINE = b"\ndata: "
_EVENT_LINE = re.compile(rb"event: ?([!-~]+)")
_EVENT_LINES: dict[bytes, str] = {}
_MAX_EVENT_LINES = 256


class Frame:
    """One event of a stream.

    `raw` is the frame with its blank line, as received. `data` is its data lines joined with LF (b"" if there
    are none, as in a comment).
    """

    __slots__ = ("_json", "_type", "data", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._type: str | None = None
        self._json: dict[str, Any] | None = None
        head, _, rest = raw.partition(_DATA_LINE)
        kind = _EVENT_LINES.get(head) or _event_line(head)
        if kind and rest.find(b"\n") == len(rest) - 2 and rest.find(b"\r") < 0:
            self._type = kind
            self.data = rest[:-2]
            return
        self.data = self._read_lines(raw)

    def _read_lines(self, raw: bytes) -> bytes:
        data: list[bytes] = []
        for line in _LINE.split(raw):
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif name == b"event":
                self._type = value.decode("utf-8", "replace").strip()
        return b"\n".join(data)

    @property
    def type(self) -> str:
        """The event type: of the `event:` line, else of the data; "" for comments and data without one."""
        if not self._type:
            found = _TYPE.match(self.data)
            if found:
                self._type = found[1].decode("utf-8", "replace")
            else:
                kind = self.json().get("type")
                self._type = kind if isinstance(kind, str) else ""
        return self._type

    @property
    def has_event_line(self) -> bool:
        """True if the frame names its type in an `event:` line, as some parsers need."""
        return self.raw.startswith(b"event:") or any(
            line.startswith(b"event:") for line in _LINE.split(self.raw)
        )

    @property
    def is_comment(self) -> bool:
        """True if the frame holds comments only (`: keep-alive`), which every parser skips."""
        return all(not line or line.startswith(b":") for line in _LINE.split(self.raw))

    @property
    def is_done(self) -> bool:
        """True for the `[DONE]` marker that closes a Chat Completions stream."""
        return self.data == b"[DONE]"

    def json(self) -> dict[str, Any]:
        """The event as a dict, parsed once; {} if the data is not a JSON object."""
        if self._json is None:
            try:
                value = orjson.loads(self.data)
            except orjson.JSONDecodeError:
                value = None
            self._json = value if isinstance(value, dict) else {}
        return self._json

    def __repr__(self) -> str:
        return f"Frame({self.type or 'no type'}, {len(self.raw)} bytes)"


def _event_line(line: bytes) -> str | None:
    """The type that an `event:` line names, None if these bytes are not exactly one."""
    found = _EVENT_LINE.fullmatch(line)
    if not found:
        return None
    kind = found[1].decode()
    if len(_EVENT_LINES) < _MAX_EVENT_LINES:
        _EVENT_LINES[line] = kind
    return kind


class Decoder:
    """Cuts a byte stream into frames, whatever the chunks.

    A chunk that holds whole frames is cut where it lies; only an unfinished rest is kept, and only its new
    bytes are searched when more arrive, so bytes that trickle in one by one cost no more than a flood.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._started = False
        self._carriage_returns = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by these bytes.

        Raises ProtocolError if one event grows over the limit.
        """
        if not self._started:
            data = self._start(data)
        if not data:
            return []
        if not self._carriage_returns and data.find(b"\r") >= 0:
            self._carriage_returns = True
        frames: list[Frame] = []
        start = 0
        if self._rest:
            known = len(self._rest)
            self._rest += data
            end = self._end(self._rest, max(0, known - 3))
            if end < 0:
                self._check(len(self._rest))
                return []
            self._emit(bytes(self._rest[:end]), frames)
            self._rest.clear()
            start = end - known
        end = self._end(data, start)
        while end >= 0:
            self._emit(data[start:end], frames)
            start = end
            end = self._end(data, start) if start < len(data) else -1
        if start < len(data):
            self._rest += data[start:]
            self._check(len(self._rest))
        return frames

    def close(self) -> list[Frame]:
        """The last frame if the stream ended without its blank line.

        A rest that was cut in the middle of its JSON is dropped: it says nothing that could be trusted.
        """
        raw = bytes(self._rest).strip(b"\r\n")
        self._rest.clear()
        if not raw:
            return []
        frame = Frame(raw + b"\n\n")
        whole = not frame.data or frame.is_done or frame.json()
        return [frame] if whole else []

    def _start(self, data: bytes) -> bytes:
        """Takes a byte order mark off the start of the stream, also one that arrives in pieces."""
        data = bytes(self._rest) + data
        self._rest.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._rest += data
            return b""
        self._started = True
        return data.removeprefix(_BOM)

    def _end(self, data: bytes | bytearray, start: int) -> int:
        """Where the frame that begins before or at `start` ends, or -1 if its end is not there yet."""
        if not self._carriage_returns:
            at = data.find(b"\n\n", start)
            return at + 2 if at >= 0 else -1
        found = _END.search(data, start)
        if not found:
            return -1
        # CR LF CR at the very end may be the first three quarters of CR LF CR LF; a stream that ends lines
        # with a lone CR need not wait for the LF that never comes.
        if found.end() == len(data) and data[-1] == 13 and found[0] != b"\r\r":
            return -1
        return found.end()

    def _emit(self, raw: bytes, frames: list[Frame]) -> None:
        if len(raw) > self._limit:
            self._check(len(raw))
        if raw[0] <= 13:
            raw = raw.lstrip(b"\r\n")
        if raw:
            frames.append(Frame(raw))

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ProtocolError(f"The backend sent an event of more than {self._limit} bytes.")


def encode(event: dict[str, Any]) -> bytes:
    """The event as a frame: `event:` line with its type, one `data:` line, blank line."""
    kind = event.get("type")
    if isinstance(kind, str) and kind and kind.isprintable():
        return b"event: " + kind.encode() + b"\ndata: " + dumps(event) + b"\n\n"
    return b"data: " + dumps(event) + b"\n\n"


def dumps(value: object) -> bytes:
    """Compact JSON of anything that was read from the backend, also what the fast encoder refuses to write.

    Raises ProtocolError for a value that is nested beyond reason.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        try:
            return json.dumps(value, separators=(",", ":")).encode()
        except RecursionError as error:
            raise ProtocolError("The backend sent a value that is nested too deeply.") from error
