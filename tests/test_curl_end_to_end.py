"""What only raw HTTP shows: curl through the proxy, over HTTP/2 and 1.1, with bodies in every encoding and in none."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import brotli
import orjson
import pytest
import pytest_asyncio

from tests.world import KEY, World, world

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("curl"),
]

API = "https://api.openai.com/v1"
RESPONSES = f"{API}/responses"
ASKED = orjson.dumps({"model": "gpt-5.5", "input": "good day"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("home")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    version: str
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found

    @property
    def error(self) -> tuple[int, str | None]:
        """Status and code, of an error that has all that an SDK looks for."""
        error = self.json["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        return self.status, error["code"]


async def curl(
    here: World, url: str, *options: str, body: bytes | None = None, key: str | None = KEY
) -> Reply:
    """Run curl with nothing but a proxy and a CA; `body` goes as JSON."""
    command = ["curl", "-q", "-sS", "--proxy", here.proxy.url, "--cacert", str(here.proxy.ca)]
    command += ["--write-out", "\n%{http_code} %{http_version}", *options]
    if key is not None:
        command += ["-H", f"authorization: Bearer {key}"]
    if body is not None:
        command += ["-H", "content-type: application/json", "--data-binary", "@-"]
    process = await asyncio.create_subprocess_exec(
        *command,
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    printed, _ = await process.communicate(body or b"")
    content, _, end = printed.rpartition(b"\n")
    status, version = end.decode().split()
    return Reply(int(status), version, content)


@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
async def test_an_answer_comes_in_the_clients_own_http_version(
    here: World, option: str, version: str
) -> None:
    reply = await curl(here, RESPONSES, option, body=ASKED)
    assert (reply.status, reply.version) == (200, version)
    assert reply.json["output"][-1]["content"][0]["text"] == "You said: good day"


@pytest.mark.parametrize("option", ["--http2", "--http1.1"])
async def test_a_stream_comes_as_events(here: World, option: str) -> None:
    reply = await curl(here, RESPONSES, option, "-N", body=ASKED[:-1] + b',"stream":true}')
    kinds = [line.removeprefix(b"event: ") for line in reply.body.splitlines() if line.startswith(b"event: ")]
    assert (kinds[0], kinds[-1]) == (b"response.created", b"response.completed")
    assert kinds.count(b"response.output_text.delta") > 2


async def test_the_base_url_needs_no_tls(here: World) -> None:
    reply = await curl(here, f"{here.proxy.base_url}/responses", "--noproxy", "*", body=ASKED)
    assert reply.json["output"][-1]["content"][0]["text"] == "You said: good day"


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zstd": ("zstd", zstd.compress),
    "br": ("br", brotli.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", _raw_deflate),
    "gzip, then br": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
}


@pytest.mark.parametrize("name", ENCODINGS)
async def test_a_body_may_be_compressed(here: World, name: str) -> None:
    encoding, compress = ENCODINGS[name]
    reply = await curl(here, RESPONSES, "-H", f"content-encoding: {encoding}", body=compress(ASKED))
    assert reply.status == 200
    assert reply.json["output"][-1]["content"][0]["text"] == "You said: good day"
    assert "content-encoding" not in here.fake.seen()[-1].headers


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("gzip", b"this is no gzip", 400),
        ("zstd", zstd.compress(ASKED)[:-4], 400),
        ("compress", ASKED, 415),
        ("gzip", gzip.compress(b" " * (65 * 2**20)), 413),
    ],
    ids=["broken", "cut off", "unknown", "bomb"],
)
async def test_a_body_that_cannot_be_inflated_is_refused(
    here: World, encoding: str, body: bytes, expected: int
) -> None:
    asked = len(here.fake.seen())
    reply = await curl(here, RESPONSES, "-H", f"content-encoding: {encoding}", body=body)
    assert reply.error[0] == expected
    assert len(here.fake.seen()) == asked


@pytest.mark.parametrize("option", ["--http2", "--http1.1"])
async def test_a_body_over_the_limit_is_refused(here: World, option: str) -> None:
    body = b'{"model":"gpt-5.5","input":"' + b"x" * (64 * 2**20) + b'"}'
    reply = await curl(here, RESPONSES, option, "-H", "expect:", body=body)
    assert reply.error == (413, "request_too_large")


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'{"model": "gpt-5.5", "input": NaN}'])
async def test_a_body_that_is_no_json_object_is_refused(here: World, body: bytes) -> None:
    assert (await curl(here, RESPONSES, body=body)).error == (400, "invalid_json")


@pytest.mark.parametrize("path", ["responses", "chat/completions", "models"])
async def test_without_authorization_nothing_is_served(here: World, path: str) -> None:
    asked = len(here.fake.requests)
    body = None if path == "models" else ASKED
    assert (await curl(here, f"{API}/{path}", body=body, key=None)).error == (401, "missing_authorization")
    assert len(here.fake.requests) == asked


async def test_a_websocket_is_sent_to_post(here: World) -> None:
    upgrade = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13")
    headers = [
        word
        for header in (*upgrade, "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==")
        for word in ("-H", header)
    ]
    reply = await curl(here, RESPONSES, "--http1.1", *headers)
    assert reply.error == (426, "upgrade_required")


@pytest.mark.parametrize(("path", "status"), [("embeddings", 400), ("no/such/thing", 404)])
async def test_what_is_not_served_says_so(here: World, path: str, status: int) -> None:
    reply = await curl(here, f"{API}/{path}", body=ASKED)
    assert reply.error == (status, "unsupported_endpoint")
    assert f"POST /v1/{path}" in reply.json["error"]["message"]
