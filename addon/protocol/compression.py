"""Request bodies as the client meant them: Content-Encoding undone, in bounded memory.

Newer clients compress (the Codex CLI and pi send zstd), and codings may be stacked. Each one is undone piece
by piece with a limit on what it may put out, so that a few kilobytes cannot become gigabytes.

The rule: no call here may produce more than the limit, plus one piece, before it is noticed.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
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


def _zlib(body: bytes, window_bits: int) -> Iterator[bytes]:
    """One or more streams, as gzip allows; each must reach its end."""
    while body:
        decoder = zlib.decompressobj(window_bits)
        while not decoder.eof:
            piece = decoder.decompress(body, _PIECE)
            body = decoder.unconsumed_tail
            if not piece and not body and not decoder.eof:
                raise _Broken
            yield piece
        body = decoder.unused_data


def _gzip(body: bytes) -> Iterator[bytes]:
    return _zlib(body, 16 + zlib.MAX_WBITS)


def _deflate(body: bytes) -> Iterator[bytes]:
    """zlib format by the standard, raw deflate by the habit of many clients."""
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _zlib(body, zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


def _brotli(body: bytes) -> Iterator[bytes]:
    if not body:
        return
    decoder = brotli.Decompressor()
    yield decoder.process(body, output_buffer_limit=_PIECE)
    while not decoder.is_finished():
        piece = decoder.process(b"", output_buffer_limit=_PIECE)
        if not piece and not decoder.is_finished():
            raise _Broken
        yield piece


def _zstd(body: bytes) -> Iterator[bytes]:
    """One or more frames."""
    while body:
        decoder = zstd.ZstdDecompressor()
        yield decoder.decompress(body, _PIECE)
        while not decoder.eof:
            if decoder.needs_input:
                raise _Broken
            yield decoder.decompress(b"", _PIECE)
        body = decoder.unused_data


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
