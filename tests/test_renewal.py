"""What goes out beside the requests goes where the settings say at that moment, never where they once said."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp

from accounts.models import Access, Secret
from accounts.settings import Identity, Settings
from accounts.wham import Wham
from addon.renewal import Renewal
from tests.rotating_issuer import RotatingIssuer
from tests.wham_server import NOW, WhamServer, usage_answer

PATH = "/wham/usage"


async def test_a_token_is_renewed_at_the_issuer_that_the_settings_name_now() -> None:
    async with RotatingIssuer() as old, RotatingIssuer() as new, aiohttp.ClientSession() as http:
        settings = Settings(issuer_url=old.url)
        renewal = Renewal(http, lambda: settings)
        first = await renewal.refresh(Secret("rt|acc|0"), "proactive_expiry")
        new.serials["acc"] = 1
        settings = Settings(issuer_url=new.url)
        assert first.refresh
        await renewal.refresh(first.refresh, "unauthorized_recovery")
    assert [len(issuer.requests) for issuer in (old, new)] == [1, 1]
    assert new.requests[0]["refresh_reason"] == "unauthorized_recovery"


async def test_usage_is_asked_at_the_backend_that_the_settings_name_now_by_its_name_for_us() -> None:
    old, new = WhamServer({PATH: [usage_answer()]}), WhamServer({PATH: [usage_answer()]})
    async with AsyncExitStack() as opened:
        urls = [await opened.enter_async_context(server.serving()) for server in (old, new)]
        http = await opened.enter_async_context(aiohttp.ClientSession())
        settings = Settings(backend_url=urls[0])
        wham = Wham(http, lambda: settings.backend_url, user_agent=lambda: str(settings.identity.user_agent))
        await wham.call("GET", PATH, Access(Secret("t"), "acc"), now=NOW)
        settings = Settings(backend_url=urls[1], identity=Identity(user_agent="mine/2"))
        await wham.call("GET", PATH, Access(Secret("t"), "acc"), now=NOW)
    assert [server.paths() for server in (old, new)] == [[f"GET {PATH}"]] * 2
    assert new.asked[0].headers["user-agent"] == "mine/2"
