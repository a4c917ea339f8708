"""What `openai-auth doctor` looks at on this machine: Python, packages, settings, store, key, accounts, CA.

The one idea: a check gives findings, each a state, a sentence and, unless all is well, what to do. What needs
the network is in `doctor_online`.

The rules: a check changes nothing and makes no file; it never ends the others, whatever it comes upon; and no
finding holds a token.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from accounts import account_views, key, pacing, paths
from accounts.database import FILE as STORE_FILE
from accounts.models import Account, AccountsError, KeyUnavailable
from accounts.paths import DISTRIBUTION
from accounts.quota import active_mark
from accounts.settings import Settings
from accounts.settings_file import SettingsFile
from accounts.settings_sources import SettingsError
from accounts.store import Store
from certs import authority, trust

OLDEST_PYTHON = (3, 12)
CA_NOTICE = 30 * 86_400.0
"""Seconds before the CA's end at which its user is told."""


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    state: State
    text: str
    advice: str | None = None


def ok(check: str, text: str) -> Finding:
    return Finding(check, State.OK, text)


def warning(check: str, text: str, advice: str) -> Finding:
    return Finding(check, State.WARNING, text, advice)


def broken(check: str, text: str, advice: str) -> Finding:
    return Finding(check, State.BROKEN, text, advice)


def python() -> Finding:
    """Whether this Python will do."""
    found = f"Python {sys.version.split()[0]} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return broken("python", found, f"install {DISTRIBUTION} with Python {oldest} or newer")
    return ok("python", found)


def packages() -> Finding:
    """Whether what we depend on is there, in versions that we know."""
    wrong, versions = [], {}
    for requirement in importlib.metadata.requires(DISTRIBUTION) or ():
        wanted, _, marker = requirement.partition(";")
        name = re.split(r"[\s\[<>=!~]", wanted.strip(), maxsplit=1)[0]
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not marker:
                wrong.append(f"{name} is missing")
            continue
        if not marker and not _fits(versions[name], wanted):
            wrong.append(f"{name} {versions[name]} is not {wanted.strip()}")
    if wrong:
        return broken("packages", "; ".join(wrong), f"pip install --upgrade {DISTRIBUTION}")
    own = importlib.metadata.version(DISTRIBUTION)
    shown = ", ".join(f"{name} {versions[name]}" for name in ("mitmproxy", "aiohttp", "SQLAlchemy"))
    return ok("packages", f"{DISTRIBUTION} {own} with {shown}")


def settings() -> tuple[Settings | None, list[Finding]]:
    """The settings that hold, or None with what is wrong with them."""
    try:
        found = SettingsFile()
    except SettingsError as error:
        return None, [
            broken("settings", str(each), "correct it, or see `openai-auth config --help`")
            for each in error.problems
        ]
    findings = [
        warning("settings", str(each), "correct or unset it; it is ignored") for each in found.problems
    ]
    there = str(found.path) if found.path.exists() else f"defaults ({found.path} is not there)"
    return found.current, findings or [ok("settings", there)]


@asynccontextmanager
async def store() -> AsyncIterator[tuple[Store | None, list[Finding]]]:
    """The open store, or None with the reason."""
    folder = paths.state_folder()
    file = folder / STORE_FILE
    if not file.exists():
        yield None, [broken("accounts", "there is none yet", "add one with `openai-auth login`")]
        return
    try:
        opened = await Store.open(folder, keyring=paths.home() is None)
    except AccountsError as error:
        what, _, advice = str(error).partition(": ")
        check = "key" if isinstance(error, KeyUnavailable) else "store"
        yield None, [broken(check, what, advice or "see the log")]
        return
    async with opened:
        damage = await opened.check()
        where = _private("store", file, "is sound")
        if damage:
            where = broken("store", f"{file} is damaged ({damage})", "restore it from a backup")
        secret = folder / key.FILE
        held = (
            _private("key", secret, "holds the key of the stored logins")
            if secret.exists()
            else ok("key", "the keyring of this system holds the key of the stored logins")
        )
        yield opened, [where, held]


async def accounts(opened: Store) -> tuple[list[Account], list[Finding]]:
    """The accounts whose login can be tried, and findings on all the others."""
    found = await opened.accounts()
    if not found:
        return [], [broken("accounts", "there is none yet", "add one with `openai-auth login`")]
    worth_trying, findings = [], []
    quotas, marks, now = await opened.quotas(), await opened.marks(), time.time()
    for account in found:
        name = f"account {account.name}"
        again = account_views.login_command(account)
        try:
            await opened.credentials(account.id)
        except AccountsError as error:
            findings.append(broken(name, str(error), f"log in again with `{again}`"))
            continue
        if account.login_error:
            findings.append(broken(name, account.login_error, f"log in again with `{again}`"))
        elif account.type == "api_key":
            findings.append(ok(name, "an API key, for when no subscription can serve; it is not tried here"))
        else:
            worth_trying.append(account)
            known = quotas.get(account.id)
            until = account_views.limited_until(known, active_mark(marks, account.id, known, now), now)
            if until is not None:
                rest = pacing.countdown(until - now)
                findings.append(
                    warning(
                        name, f"its limit is used up for another {rest}", "other accounts serve meanwhile"
                    )
                )
        if not account.enabled:
            advice = f"`openai-auth enable {shlex.quote(account.label or account.id)}` lets it serve again"
            findings.append(warning(name, "is disabled", advice))
    if not any(account.enabled and not account.login_error for account in found):
        findings.append(broken("accounts", "none of them can serve", "see the lines of the accounts"))
    return worth_trying, findings


def ca(confdir: Path) -> Iterator[Finding]:
    """The CA, and whether clients that were told to trust it can."""
    try:
        found = authority.inspect(confdir)
    except authority.AuthorityError as error:
        what, _, advice = str(error).rpartition("; ")
        yield broken("ca", what or str(error), advice)
        return
    if found is None:
        yield warning(
            "ca", f"{confdir} has none yet", "the proxy makes one when it starts, so does `openai-auth env`"
        )
        return
    rest = found.expires_at - time.time()
    renew = (
        f"stop the proxy, move {confdir / 'mitmproxy-ca'}* away, start it, and run `openai-auth env` again"
    )
    if rest <= 0:
        yield broken("ca", f"{found.path} has expired", renew)
    elif rest < CA_NOTICE:
        yield warning("ca", f"{found.path} expires in {pacing.countdown(rest)}", renew)
    elif not found.constrained:
        yield warning("ca", f"{found.path} can sign any name, not {authority.HOST} alone", renew)
    else:
        limits = f"signs {authority.HOST} only, for another {pacing.countdown(rest)}"
        yield _private("ca", found.path, limits)
    yield _trust(found)


def environment(proxy: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether clients started from here would go through the proxy."""
    found = [
        warning("environment", each, "see `openai-auth env`") for each in trust.hindrances(environ, proxy)
    ]
    yield from found
    way = environ.get("HTTPS_PROXY") or environ.get("https_proxy") or environ.get("OPENAI_BASE_URL") or ""
    if urlsplit(way).netloc != urlsplit(proxy).netloc:
        use = '`openai-auth run -- CLIENT`, or eval "$(openai-auth env)" in the client\'s shell'
        yield warning("environment", "clients started from this shell do not use the proxy", use)
    elif not found:
        yield ok("environment", f"clients started from this shell go through {proxy}")


def _trust(found: authority.Authority) -> Finding:
    refresh = "`openai-auth env` writes it anew"
    try:
        certificate = found.certificate.read_bytes().strip()
        whole = found.bundle.read_bytes()
        current = certificate in found.path.read_bytes()
    except OSError as error:
        return broken("trust", f"{error.filename}: {error.strerror}", refresh)
    if not current:
        return broken("trust", f"{found.certificate} belongs to another CA", refresh)
    if certificate not in whole:
        return broken("trust", f"{found.bundle} lacks the CA", refresh)
    return ok("trust", f"{found.bundle} holds the public roots and the CA")


def _private(check: str, file: Path, text: str) -> Finding:
    """All is well with a file that is nobody else's to read; or it is not."""
    if os.name == "posix" and file.stat().st_mode & 0o077:
        return warning(check, f"{file} can be read by others", f"chmod 600 {file}")
    return ok(check, f"{file} {text}")


def _fits(version: str, requirement: str) -> bool:
    """Whether a version is within the `>=` and `<` of a requirement."""
    have = _numbers(version)
    for relation, bound in re.findall(r"(>=|<)\s*([\d.]+)", requirement):
        limit = _numbers(bound)
        if (have < limit) if relation == ">=" else (have >= limit):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
