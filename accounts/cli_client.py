"""`openai-auth` env and run: make a client use the proxy and trust its CA."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from accounts import paths
from accounts.cli_about import addon_path
from accounts.console import command, fail, note, say
from certs import authority, trust

Proxy = Annotated[
    str, typer.Option(metavar="URL", envvar="OPENAI_AUTH_PROXY", help="Where the proxy listens.")
]
Confdir = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="mitmproxy's confdir, if it has another one than usual.")
]
DEFAULT_PROXY = "http://127.0.0.1:8080"
CONNECT_SECONDS = 3.0


@command(
    "env",
    'eval "$(openai-auth env)"',
    "openai-auth env --shell fish | source",
    "openai-auth env --proxy http://127.0.0.1:8081",
)
def env(
    shell: Annotated[
        str | None, typer.Option(metavar="|".join(trust.SHELLS), help="Default: the shell you use.")
    ] = None,
    proxy: Proxy = DEFAULT_PROXY,
    confdir: Confdir = None,
) -> None:
    """Print the lines that make clients in this shell use the proxy and trust its CA.

    Makes the CA if there is none yet. Keys that are set stay; a client without one gets a placeholder, which
    is all it needs unless the proxy asks for keys of its own (`openai-auth keys`).
    """
    shell = shell or trust.shell_of(os.environ, windows=os.name == "nt")
    if shell not in trust.SHELLS:
        raise typer.BadParameter(f"{shell!r} is none of {', '.join(trust.SHELLS)}", param_hint="--shell")
    found = _variables(proxy, confdir)
    say(trust.exports(shell, found, command=f"openai-auth env --shell {shell}").rstrip())


@command(
    "run",
    "openai-auth run -- python my_script.py",
    "openai-auth run codex exec 'say hello'",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
def run(
    client: Annotated[list[str], typer.Argument(metavar="CMD …", help="The client and its arguments.")],
    proxy: Proxy = DEFAULT_PROXY,
    confdir: Confdir = None,
) -> None:
    """Run a client through the proxy. Its exit code is ours."""
    environ = os.environ | {each.name: each.value for each in _variables(proxy, confdir)}
    address = urlsplit(proxy_address(proxy))
    try:
        socket.create_connection((address.hostname or "", address.port or 80), CONNECT_SECONDS).close()
    except OSError:
        start = ["mitmdump", "-s", str(addon_path())]
        if address.port != urlsplit(DEFAULT_PROXY).port:
            start += ["-p", str(address.port or 80)]
        if confdir:
            start += ["--set", f"confdir={confdir}"]
        fail(f"no proxy answers at {proxy_address(proxy)}: start it with `{shlex.join(start)}`")
    sys.stdout.flush()
    try:
        if os.name == "nt":
            # Windows has no exec: there we wait for the client.
            raise typer.Exit(subprocess.run(client, env=environ, check=False).returncode)  # noqa: S603 - as below
        os.execvpe(client[0], client, environ)  # noqa: S606 - running what the user typed is the task
    except OSError as error:
        fail(f"cannot run {client[0]}: {error.strerror}")


def _variables(proxy: str, confdir: Path | None) -> list[trust.Variable]:
    address = proxy_address(proxy)
    for hindrance in trust.hindrances(os.environ, address):
        note(f"warning: {hindrance}")
    ca = authority.ensure((confdir or paths.mitmproxy_folder()).expanduser().absolute())
    return trust.variables(ca, address, os.environ)


def proxy_address(proxy: str) -> str:
    """The proxy's address in full; `127.0.0.1:8081` and `8081` will do."""
    text = f"127.0.0.1:{proxy}" if proxy.isdecimal() else proxy
    address = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise typer.BadParameter(f"{proxy!r} is not like {DEFAULT_PROXY}", param_hint="--proxy")
    return address.rstrip("/")
