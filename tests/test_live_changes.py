"""What the command changes, a running proxy does: nothing is restarted. And what its log never holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import openai

from tests.world import world

MODEL = "gpt-5.5"
SAID = "a prompt nobody else should read"


async def served_by(client: openai.AsyncOpenAI) -> str:
    raw = await client.responses.with_raw_response.create(model=MODEL, input=SAID)
    return raw.headers["x-openai-auth-account"]


async def until_served_by(client: openai.AsyncOpenAI, name: str) -> None:
    """The proxy looks at the store twice a second."""
    async with asyncio.timeout(20):
        while await served_by(client) != name:
            pass


async def test_switch_disable_and_logout_are_seen_by_a_running_proxy(tmp_path: Path) -> None:
    settings = {"OPENAI_AUTH_KEEP_CONVERSATION": "0"}
    async with world(tmp_path, environ=settings) as here, here.client(direct=True) as client:
        assert await served_by(client) == "main"
        await here.openai_auth("rename", "main", "home")
        await until_served_by(client, "home")
        await here.openai_auth("switch", "work")
        await until_served_by(client, "work")
        await here.openai_auth("disable", "work")
        await until_served_by(client, "home")
        await here.openai_auth("enable", "work")
        await until_served_by(client, "work")
        await here.openai_auth("logout", "work")
        await until_served_by(client, "home")
        assert here.fake.issuer.revoked == ["acct-work"]
        assert not here.fake.violations


async def test_the_log_follows_the_level_and_never_holds_a_body_or_a_secret(tmp_path: Path) -> None:
    log = tmp_path / "openai-auth.log"
    async with world(tmp_path, environ={"OPENAI_AUTH_KEEP_CONVERSATION": "0"}) as here:
        assert "[mitmproxy" not in log.read_text()
        await here.openai_auth("logging", "trace")
        async with asyncio.timeout(20):
            while "[mitmproxy" not in log.read_text():
                async with here.client(direct=True) as client:
                    await served_by(client)  # a new connection each time: these are mitmproxy's to log
        here.main.limit()
        async with here.client(direct=True) as client:
            await until_served_by(client, "work")
        text = log.read_text()
        assert "429 main → work" in text
        for secret in (SAID, "You said", "eyJ", "rt_", "acct-main@", "Bearer any", "authorization: any"):
            assert secret not in text
            assert secret not in here.proxy.log
        assert log.stat().st_mode & 0o777 == 0o600
