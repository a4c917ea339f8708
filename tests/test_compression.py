"""Compressed request bodies."""

from __future__ import annotations

import gzip
import random
import sys
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol import compression
from addon.protocol.errors import Refused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024


def decode(body: bytes, encoding: str, limit: int = MIB) -> bytes:
    return compression.decode(body, encoding, limit)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK = {
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("data", [b"", b"{}", b'{"a":1}' * 100_000])
def test_each_coding_is_undone(coding: str, data: bytes) -> None:
    assert decode(PACK[coding](data), coding) == data


@given(st.binary(max_size=5000), st.lists(st.sampled_from(sorted(PACK)), max_size=3))
def test_stacked_codings_are_undone_in_reverse(data: bytes, codings: list[str]) -> None:
    body = data
    for coding in codings:
        body = PACK[coding](body)
    assert decode(body, ", ".join(codings)) == data


def test_raw_deflate_is_understood_too() -> None:
    assert decode(raw_deflate(b"hello" * 50), "deflate") == b"hello" * 50


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_joined(coding: str) -> None:
    assert decode(PACK[coding](b"one") + PACK[coding](b"two"), coding) == b"onetwo"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_million_tiny_streams_are_a_400(coding: str) -> None:
    """If each one copied the rest of the body, this would need minutes."""
    with pytest.raises(Refused) as refused:
        decode(PACK[coding](b"") * 1_000_000, coding)
    assert refused.value.failure.status == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("size", [1, 7])
def test_it_does_not_matter_where_the_pieces_end(
    coding: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "_PIECE", size)
    data = random.Random(1).randbytes(999) + bytes(999)
    body = PACK[coding](data)
    assert decode(body, coding) == data
    for broken in (body[:-1], body + b"x"):
        with pytest.raises(Refused):
            decode(broken, coding)


def test_the_name_is_read_in_any_case_with_spaces() -> None:
    assert decode(gzip.compress(b"x"), " GZip ") == b"x"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_cut_stream_is_a_400(coding: str) -> None:
    with pytest.raises(Refused) as refused:
        decode(PACK[coding](bytes(range(256)) * 40)[:-5], coding)
    assert refused.value.failure.status == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_stream_of_another_kind_is_a_400(coding: str) -> None:
    with pytest.raises(Refused) as refused:
        decode(b'{"model":"gpt-5.5","input":"hi"}', coding)
    assert refused.value.failure.status == 400


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_bytes_after_the_end_are_a_400(coding: str) -> None:
    with pytest.raises(Refused) as refused:
        decode(PACK[coding](b"x") + b"trailing", coding)
    assert refused.value.failure.status == 400


@pytest.mark.parametrize("encoding", ["compress", "gzip, lzma", "gzip," * 5])
def test_an_unknown_coding_is_a_415(encoding: str) -> None:
    with pytest.raises(Refused) as refused:
        decode(b"x", encoding)
    assert refused.value.failure.status == 415


@pytest.mark.parametrize("coding", PACK)
def test_the_limit_is_exact(coding: str) -> None:
    body = PACK[coding](b"a" * 1000)
    assert len(decode(body, coding, 1000)) == 1000
    with pytest.raises(Refused) as refused:
        decode(body, coding, 999)
    assert refused.value.failure.status == 413


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_stopped_before_it_fills_the_memory(coding: str) -> None:
    bomb = PACK[coding](b"\0" * (64 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as refused:
            decode(bomb, coding, MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.failure.status == 413
    assert peak < 16 * MIB
