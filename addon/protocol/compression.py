"""Request bodies as the client meant them: Content-Encoding undone, in bounded memory.

Newer clients compress (the Codex CLI and pi send zstd), and codings may be stacked. Each one is undone piece
by piece with a limit on what it may put out, so that a few kilobytes cannot become gigabytes.

The rules: no call here may produce more than the limit, plus one piece, before it is noticed; and none may copy the
rest of its input again and again, or a small body of tiny streams takes hours.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Final

import brotli  # type: ignore[import-untyped]

from addon.protocol.errors import Refused, refuse

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB: Final = 1024 * 1024
_PIECE: Final = 256 * 1024
_MAX_STACK: Final = 4
_MAX_STREAMS: Final = 16
"""Streams of one coding in a row; clients send one."""


class _Broken(Exception):
    """The stream ends early or is none of its kind."""


def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """The body behind a Content-Encoding (`gzip`, `zstd`, `br`, `deflate`, `identity`, or a list as applied).

    limit: bytes the result, and each step to it, may have. Raises Refused: 415 for an unknown coding, 400 for
    a broken stream, 413 for one over the limit.
    """
    named = (part.strip().lower() for part in encoding.split(","))
    codings = [coding for coding in named if coding not in ("", "identity")]
    if len(codings) > _MAX_STACK or any(coding not in _DECODERS for coding in codings):
        raise refuse(
            415,
            "Unsupported Content-Encoding. Use gzip, zstd, br, deflate or none.",
            code="unsupported_content_encoding",
        )
    for coding in reversed(codings):
        body = _bounded(_DECODERS[coding](body), coding, limit)
    if len(body) > limit:
        raise too_large(limit)
    return body


def _bounded(pieces: Iterator[bytes], coding: str, limit: int) -> bytes:
    result = bytearray()
    try:
        for piece in pieces:
            result += piece
            if len(result) > limit:
                raise too_large(limit)
    except (_Broken, zlib.error, brotli.error, zstd.ZstdError):
        raise refuse(
            400, f"The request body is not valid {coding} data.", code="invalid_content_encoding"
        ) from None
    return bytes(result)


def _streams(body: bytes, one: Callable[[bytes], Generator[bytes, None, bytes]]) -> Iterator[bytes]:
    """One or more streams, each of which must reach its end; `one` returns what follows the stream it read."""
    for _ in range(_MAX_STREAMS):
        if not body:
            return
        body = yield from one(body)
    if body:
        raise _Broken


def _zlib(body: bytes, window_bits: int) -> Generator[bytes, None, bytes]:
    decoder = zlib.decompressobj(window_bits)
    given = 0
    while not decoder.eof:
        data = decoder.unconsumed_tail
        if not data:
            data = body[given : given + _PIECE]
            given += len(data)
        piece = decoder.decompress(data, _PIECE)
        if not piece and not data and not decoder.eof:
            raise _Broken
        yield piece
    return decoder.unused_data + body[given:]


def _gzip(body: bytes) -> Iterator[bytes]:
    return _streams(body, partial(_zlib, window_bits=16 + zlib.MAX_WBITS))


def _deflate(body: bytes) -> Iterator[bytes]:
    """zlib format by the standard, raw deflate by the habit of many clients."""
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _streams(body, partial(_zlib, window_bits=zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS))


def _brotli(body: bytes) -> Iterator[bytes]:
    if not body:
        return
    decoder = brotli.Decompressor()
    given = 0
    while not decoder.is_finished():
        data = body[given : given + _PIECE] if decoder.can_accept_more_data() else b""
        given += len(data)
        piece = decoder.process(data, output_buffer_limit=_PIECE)
        if not piece and not data and not decoder.is_finished():
            raise _Broken
        yield piece
    if given < len(body):
        raise _Broken


def _zstd(body: bytes) -> Iterator[bytes]:
    return _streams(body, _zstd_frame)


def _zstd_frame(body: bytes) -> Generator[bytes, None, bytes]:
    decoder = zstd.ZstdDecompressor()
    yield decoder.decompress(body, _PIECE)
    while not decoder.eof:
        if decoder.needs_input:
            raise _Broken
        yield decoder.decompress(b"", _PIECE)
    return decoder.unused_data


_DECODERS: Final[dict[str, Callable[[bytes], Iterator[bytes]]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}


def too_large(limit: int) -> Refused:
    """The refusal of a body of more than `limit` bytes."""
    size = f"{limit // MIB} MiB" if limit >= MIB else f"{limit} bytes"
    return refuse(413, f"The request body is larger than {size}.", code="request_too_large")
