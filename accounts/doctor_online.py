"""What `openai-auth doctor` asks over the network: the accounts' tokens, the proxy, backend, issuer and clock.

The one idea: each question is one that is asked in use as well. The proxy is asked as a client would ask it,
through TLS with the bundle that clients are told to trust, but without a key: ours answers that itself.

The rule that must not be broken: a token goes to the configured backend and nowhere else (a renewal to the
configured issuer); all other requests carry none.
"""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from accounts import pacing
from accounts.doctor import Finding, broken, ok, warning
from accounts.models import Account, LoginRequired
from accounts.online import connect, session, user_agent
from accounts.settings import Settings
from accounts.store import Store
from accounts.usage import Polled
from certs.authority import HOST

TIMEOUT = aiohttp.ClientTimeout(total=15.0, connect=10.0)
NOTICEABLE_SKEW = 30.0
HARMFUL_SKEW = 300.0
"""Seconds between our clock and theirs. Tokens are renewed five minutes before their end: a clock that is
further off than that uses dead ones."""

ASKED = "/v1/responses"
OUR_REFUSAL = "missing_authorization"
"""The error code of our proxy's answer to a request without a key; no other server has it."""


async def logins(opened: Store, settings: Settings, accounts: Iterable[Account]) -> list[Finding]:
    """Whether the backend takes the tokens. Renews one that is about to end, as a request would."""
    async with connect(opened, settings) as online:
        return [_login(result) for result in await online.poller.poll(accounts)]


async def servers(settings: Settings) -> AsyncIterator[Finding]:
    """Whether backend and issuer can be reached from here, and whether their clocks agree with ours."""
    skews = []
    async with session(settings) as http:
        for check, url in (
            ("backend", f"{settings.backend_url}/codex/models"),
            ("issuer", f"{settings.issuer_url}/.well-known/openid-configuration"),
        ):
            host = urlsplit(url).netloc
            try:
                began = time.time()
                async with http.get(
                    url,
                    timeout=TIMEOUT,
                    allow_redirects=False,
                    headers={"user-agent": user_agent(settings)},
                ) as answer:
                    skew = _skew(answer.headers.get("date", ""), began, time.time())
            except (aiohttp.ClientError, OSError) as error:
                how = "check the network, DNS and firewall; behind a proxy set upstreamProxy"
                yield broken(check, f"{host} cannot be reached ({_reason(error)})", how)
                continue
            if skew is not None:
                skews.append(skew)
            if answer.status >= 500:
                yield warning(check, f"{host} has trouble of its own ({answer.status})", "try again later")
            else:
                yield ok(check, f"{host} answers")
    if skews:
        yield _clock(min(skews, key=abs))


async def proxy(url: str, bundle: Path, start: str) -> AsyncIterator[Finding]:
    """Whether a proxy of ours listens at `url`, and whether a client that trusts `bundle` gets through it.

    `start` is the command that starts one.
    """
    async with aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False) as http:
        try:
            ours, what = await _is_ours(http, f"{url}{ASKED}")
        except aiohttp.ClientConnectorError:
            yield warning("port", f"no proxy answers at {url}", f"start it with `{start}`")
            return
        except (aiohttp.ClientError, OSError) as error:
            ours, what = False, _reason(error)
        if not ours:
            other = (
                f"choose another port for the proxy (`{start} -p 8081`), or name the right one with --proxy"
            )
            yield broken("port", f"what answers at {url} is not our proxy ({what})", other)
            return
        yield ok("port", f"our proxy answers at {url}")
        try:
            tls = ssl.create_default_context(cafile=str(bundle))
            ours, what = await _is_ours(http, f"https://{HOST}{ASKED}", proxy=url, ssl=tls)
        except OSError as error:
            ours, what = False, _reason(error)
        except aiohttp.ClientError as error:
            ours, what = False, type(error).__name__
    if ours:
        yield ok("client", f"a client that trusts {bundle.name} reaches {HOST} through the proxy")
    else:
        yield broken(
            "client",
            f"a client that trusts {bundle} does not reach {HOST} through the proxy ({what})",
            "if the proxy runs with another confdir, name it with --confdir; else restart the proxy",
        )


async def _is_ours(
    http: aiohttp.ClientSession, url: str, *, proxy: str | None = None, ssl: ssl.SSLContext | bool = True
) -> tuple[bool, str]:
    """Sends a request that has no key; whether our proxy refused it, and else how it was answered."""
    async with http.post(url, json={}, proxy=proxy, ssl=ssl, allow_redirects=False) as answer:
        said = await answer.content.read(65_536)
    return OUR_REFUSAL.encode() in said and answer.status == 401, f"status {answer.status}"


def _login(result: Polled) -> Finding:
    account = result.account
    name = f"account {account.name}"
    if result.error is None:
        who = ", ".join(filter(None, (account.email, account.plan, account.role)))
        rest = account.expires_at - time.time() if account.expires_at else 0.0
        left = f", the token is good for {pacing.countdown(rest)}" if rest > 0 else ""
        return ok(name, f"{who}: the backend takes its login{left}")
    if isinstance(result.error, LoginRequired):
        what, _, advice = str(result.error).rpartition(": ")
        return broken(name, what or str(result.error), advice)
    return warning(name, f"its login could not be tried ({result.error})", "try again later")


def _clock(skew: float) -> Finding:
    off = f"this clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead'}"
    if abs(skew) >= HARMFUL_SKEW:
        return broken("clock", off, "set it, best by NTP: logins seem to live longer or shorter than they do")
    if abs(skew) >= NOTICEABLE_SKEW:
        return warning("clock", off, "set it, best by NTP")
    return ok("clock", "agrees with the backend's")


def _skew(date: str, began: float, ended: float) -> float | None:
    """How far their clock is ahead of ours (seconds), from a Date header; None without a usable one.

    The header has whole seconds, cut off, and was written while the request was under way: a difference
    that this explains is none.
    """
    try:
        theirs = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    if theirs + 1 < began:
        return theirs + 1 - began
    return max(0.0, theirs - ended)


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or type(error).__name__
