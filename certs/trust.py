"""What a client must be told to use the proxy and to trust its CA.

The one idea: there is no single variable that every client reads, so all of them are set; each is known by
the clients named beside it (seen on the wire). The rule: a variable that *adds* a certificate gets ours, one
that *replaces* the whole list gets the bundle, or the client could reach nothing else any more.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from certs.authority import HOST, Authority

Shell = Literal["sh", "bash", "zsh", "fish", "powershell", "cmd"]
SHELLS: tuple[str, ...] = get_args(Shell)

PLACEHOLDER_KEY = "sk-proxy"
"""A key for clients that refuse to start without one. It opens nothing, and is known not to be a real key."""

LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    value: str
    why: str


def variables(authority: Authority, proxy: str, environ: Mapping[str, str]) -> list[Variable]:
    """The variables for a client that is to use the proxy at `proxy` (such as http://127.0.0.1:8080).

    `environ` is what the client has so far: names that it keeps away from proxies stay so, and a key that is
    set stays. Without one a placeholder is given, because most clients do not start without a key."""
    bundle, certificate = str(authority.bundle), str(authority.certificate)
    direct = _direct(environ)
    found = [
        Variable("HTTPS_PROXY", proxy, "every client"),
        Variable("https_proxy", proxy, "clients that read the lower-case name"),
        Variable("NO_PROXY", direct, "this machine is reached directly"),
        Variable("no_proxy", direct, "this machine is reached directly"),
        Variable("SSL_CERT_FILE", bundle, "Python (httpx, openai), curl, Go; replaces the list"),
        Variable("REQUESTS_CA_BUNDLE", bundle, "Python requests; replaces the list"),
        Variable("CURL_CA_BUNDLE", bundle, "curl; replaces the list"),
        Variable("NODE_EXTRA_CA_CERTS", certificate, "Node and Bun; adds to the list"),
        Variable("NODE_USE_ENV_PROXY", "1", "Node 24 and later reads the proxy variables only with this"),
        Variable("CODEX_CA_CERTIFICATE", certificate, "Codex CLI; adds to the list"),
    ]
    for name, client in (("OPENAI_API_KEY", "every client"), ("CODEX_API_KEY", "codex exec")):
        if not environ.get(name):
            found.append(Variable(name, PLACEHOLDER_KEY, f"{client}: any key will do, none was set"))
    return found


def hindrances(environ: Mapping[str, str], proxy: str) -> list[str]:
    """What in `environ` would still lead clients past the proxy, each with what to do about it."""
    found = []
    base = environ.get("OPENAI_BASE_URL", "")
    if base and urlsplit(base).hostname not in (HOST, urlsplit(proxy).hostname):
        found.append(f"OPENAI_BASE_URL sends clients to {urlsplit(base).hostname}: unset it")
    for name in ("NO_PROXY", "no_proxy"):
        for host in environ.get(name, "").split(","):
            bare = host.strip().removeprefix("*").removeprefix(".")
            if host.strip() and (not bare or bare == HOST or HOST.endswith(f".{bare}")):
                found.append(f"{name} keeps {HOST} away from the proxy: take {host.strip()!r} out of it")
    return found


def _direct(environ: Mapping[str, str]) -> str:
    before = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in before.split(",") if host.strip()]
    return ",".join([*hosts, *(host for host in LOCAL if host not in hosts)])


def _fish(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _powershell(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a shell sets a variable for the programs it starts, and writes a comment."""

    assign: Callable[[str, str], str]
    comment: str
    use: str
    """How to apply the output; `{command}` is the command that prints it."""


_SH = Syntax(lambda name, value: f"export {name}={shlex.quote(value)}", "#", 'eval "$({command})"')
SYNTAX: dict[str, Syntax] = {
    "sh": _SH,
    "bash": _SH,
    "zsh": _SH,
    "fish": Syntax(lambda name, value: f"set -gx {name} {_fish(value)}", "#", "{command} | source"),
    "powershell": Syntax(
        lambda name, value: f"$env:{name} = {_powershell(value)}",
        "#",
        "{command} | Out-String | Invoke-Expression",
    ),
    "cmd": Syntax(lambda name, value: f'set "{name}={value}"', "rem", "copy the lines into the window"),
}


def exports(shell: str, found: Iterable[Variable], *, command: str) -> str:
    """The lines that set the variables in a shell, after a comment that says how to apply them.

    In PowerShell and cmd, where names have no case, the lower-case doubles are left out."""
    syntax = SYNTAX[shell]
    caseless = shell in {"powershell", "cmd"}
    lines = [f"{syntax.comment} {syntax.use.format(command=command)}"]
    for variable in found:
        if caseless and variable.name.islower():
            continue
        if variable.value == PLACEHOLDER_KEY:
            lines.append(f"{syntax.comment} {variable.why}")
        lines.append(syntax.assign(variable.name, variable.value))
    return "\n".join(lines) + "\n"


def shell_of(environ: Mapping[str, str], *, windows: bool) -> str:
    """The shell to print for when none was named: that of SHELL, else PowerShell on Windows, else sh."""
    name = environ.get("SHELL", "").rsplit("/", 1)[-1]
    if name in SHELLS:
        return name
    return "powershell" if windows and not name else "sh"
