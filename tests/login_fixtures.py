"""Fixtures of the login tests: a plugin, because both ends of them are wanted in several files."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from accounts.login_server import LoginServer
from accounts.oauth import Issuer
from tests.login_browser import no_sleep
from tests.scripted_issuer import ScriptedIssuer, scripted_issuer


@pytest.fixture
async def pair() -> AsyncIterator[tuple[ScriptedIssuer, Issuer]]:
    async with scripted_issuer() as both:
        yield both


@pytest.fixture
def script(pair: tuple[ScriptedIssuer, Issuer]) -> ScriptedIssuer:
    return pair[0]


@pytest.fixture
def issuer(pair: tuple[ScriptedIssuer, Issuer]) -> Issuer:
    return pair[1]


@pytest.fixture
async def server(issuer: Issuer) -> AsyncIterator[LoginServer]:
    server = LoginServer(issuer, ports=(0,), sleep=no_sleep)
    yield server
    await server.close()
