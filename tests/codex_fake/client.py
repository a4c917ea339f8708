"""A plain client of the fake, for the tests of the fake itself and for anybody who needs a request that it
takes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from .accounts import FakeAccount
from .issuer import CLIENT_ID
from .server import CodexFake

Json = dict[str, Any]


def said(words: str, **more: Any) -> Json:
    """A body the backend takes."""
    return {
        "model": "gpt-5.5",
        "instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": words}]}],
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        **more,
    }


class Client:
    """A client of one account."""

    def __init__(self, fake: CodexFake, account: FakeAccount, http: aiohttp.ClientSession) -> None:
        self.fake, self.account, self.http = fake, account, http
        self.tokens: Json = account.auth_json()["tokens"]
        self.headers = {
            "authorization": f"Bearer {self.tokens['access_token']}",
            "chatgpt-account-id": account.account_id,
            "version": "0.169.0",
            "session-id": "thread-1",
        }

    async def post(self, body: Json, **headers: str) -> tuple[int, Json]:
        """(status, JSON) of a refused request."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(
            self.fake.responses_url, json=body, headers={**self.headers, **sent}
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def stream(self, body: Json) -> list[Json]:
        """The events of a served request."""
        async with self.http.post(self.fake.responses_url, json=body, headers=self.headers) as answer:
            assert answer.status == 200, await answer.text()
            return events(await answer.read())

    async def refresh(self, token: str, **more: str) -> tuple[int, Json]:
        sent = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": token, **more}
        async with self.http.post(f"{self.fake.issuer_url}/oauth/token", json=sent) as answer:
            return answer.status, await answer.json()


def events(raw: bytes) -> list[Json]:
    frames = raw.replace(b"\r\n", b"\n").split(b"\n\n")
    lines = [line for frame in frames for line in frame.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line[6:]) for line in lines if line != b"data: [DONE]"]


def text_of(stream: list[Json]) -> str:
    return "".join(event["delta"] for event in stream if event["type"] == "response.output_text.delta")


def items_of(stream: list[Json]) -> list[Json]:
    return [event["item"] for event in stream if event["type"] == "response.output_item.done"]


def replayed(item: Json) -> Json:
    return {name: value for name, value in item.items() if name not in ("id", "status")}


@asynccontextmanager
async def running(name: str = "acct-main") -> AsyncIterator[Client]:
    """A fake with one account, and a client of it."""
    async with CodexFake() as fake, aiohttp.ClientSession() as http:
        yield Client(fake, fake.account(name), http)
