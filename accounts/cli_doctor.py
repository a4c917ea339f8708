"""`openai-auth doctor`: looks at everything that has to be right, and says what to do about what is not."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import typer
from rich.markup import escape

from accounts import doctor, doctor_online, paths
from accounts.cli_about import addon_path
from accounts.cli_client import DEFAULT_PROXY, Confdir, Proxy, proxy_address
from accounts.console import Json, command, print_json, terminal
from accounts.doctor import Finding, State
from certs.authority import BUNDLE_FILE

SIGNS = {State.OK: "[green]✓[/]", State.WARNING: "[yellow]![/]", State.BROKEN: "[red]✗[/]"}


@command("doctor", "openai-auth doctor", "openai-auth doctor --json | jq '.[] | select(.state != \"ok\")'")
async def doctor_(as_json: Json = False, proxy: Proxy = DEFAULT_PROXY, confdir: Confdir = None) -> None:
    """Check everything the proxy needs, and say what to do about what is wrong.

    ✓ is well, ! is worth knowing, ✗ is broken; then the exit code is 1. Tokens are sent to the configured
    backend only.
    """
    folder = (confdir or paths.mitmproxy_folder()).expanduser().absolute()
    findings = []
    async for finding in examine(proxy_address(proxy), folder):
        findings.append(finding)
        if not as_json:
            terminal().print(_shown(finding), soft_wrap=True)
    if as_json:
        print_json(
            [
                {"check": each.check, "state": each.state, "text": each.text, "advice": each.advice}
                for each in findings
            ]
        )
    if any(finding.state is State.BROKEN for finding in findings):
        raise typer.Exit(1)


async def examine(proxy: str, confdir: Path) -> AsyncIterator[Finding]:
    """Every check in turn, from the inside out."""
    yield doctor.python()
    yield doctor.packages()
    settings, findings = doctor.settings()
    for finding in findings:
        yield finding
    async with doctor.store() as (store, findings):
        for finding in findings:
            yield finding
        if store:
            usable, findings = await doctor.accounts(store)
            if settings:
                findings += await doctor_online.logins(store, settings, usable)
            for finding in findings:
                yield finding
    for finding in doctor.ca(confdir):
        yield finding
    start = shlex.join(["mitmdump", "-s", str(addon_path())])
    async for finding in doctor_online.proxy(proxy, confdir / BUNDLE_FILE, start):
        yield finding
    for finding in doctor.environment(proxy, os.environ):
        yield finding
    if settings:
        async for finding in doctor_online.servers(settings):
            yield finding


def _shown(finding: Finding) -> str:
    line = f"{SIGNS[finding.state]} [bold]{escape(finding.check)}[/]: {escape(finding.text)}"
    return f"{line}\n  → {escape(finding.advice)}" if finding.advice else line
