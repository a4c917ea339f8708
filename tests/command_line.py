"""The `openai-auth` command beside a running proxy, in the test's own process: a start of Python less each time.

As installed, in processes of its own, it is tested in tests/test_cli.py and others.
"""

import asyncio

from typer.testing import CliRunner

from accounts.cli import app
from tests.world import World


async def openai_auth(here: World, *arguments: str) -> str:
    """What it prints; it has to succeed."""
    environ = here.environ | {"OPENAI_AUTH_HOME": str(here.home)}
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environ)
    assert result.exit_code == 0, result.output
    return result.stdout
