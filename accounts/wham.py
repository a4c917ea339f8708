"""Calls to the account side of the backend (`/wham/…`): usage and reset credits.

The one idea: one small authorised JSON call, with every failure as one typed error, so that the features
above it are about their own rules only.

The rule that must not be broken: a token goes to the configured backend and nowhere else. No redirect is
followed, and no error text quotes what was sent or answered.
"""

from __future__ import annotations

import email.utils
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import aiohttp
import orjson

from accounts.models import Access, Account, AccountsError

TIMEOUT_SECONDS = 15.0


class BackendError(AccountsError):
    """A call failed.

    `status` of a refusal, or None when there was no usable answer (network, timeout, not JSON).
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """Seconds, when the backend named them."""

    @property
    def transient(self) -> bool:
        """Whether asking again later makes sense: no answer, 429, or the backend's own trouble."""
        return self.status is None or self.status == 429 or self.status >= 500


class TokenSource(Protocol):
    """Where a valid token of an account comes from (`accounts.tokens`, or the pool of a running proxy)."""

    async def access(self, account: Account) -> Access:
        """A token that should work now; raises AccountsError."""

    async def renew(self, account: Account, rejected: Access) -> Access:
        """Another token than the one that was just refused; raises AccountsError."""


class Wham:
    """The client; `url` is the backend base (`https://chatgpt.com/backend-api`). Both are asked with every call."""

    def __init__(
        self, http: aiohttp.ClientSession, url: Callable[[], str], *, user_agent: Callable[[], str]
    ) -> None:
        self._http = http
        self._url = url
        self._user_agent = user_agent

    async def call(
        self,
        method: str,
        path: str,
        access: Access,
        *,
        now: float,
        body: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        """One call, for example `GET /wham/usage`; the JSON object of a 2xx answer. Raises BackendError."""
        headers = {
            "authorization": f"Bearer {access.token.reveal()}",
            "chatgpt-account-id": access.account_id or "",
            "oai-client-platform": "web",
            "oai-client-version": "0",
            "x-openai-target-path": f"/backend-api{path}",
            "user-agent": self._user_agent(),
            "accept": "application/json",
        }
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            async with self._http.request(
                method,
                self._url().rstrip("/") + path,
                headers=headers,
                data=None if body is None else orjson.dumps(body),
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
            ) as response:
                if not 200 <= response.status < 300:
                    wait = retry_after(response.headers.get("retry-after", ""), now)
                    raise BackendError(f"{path} answered {response.status}", response.status, wait)
                answer = orjson.loads(await response.read())
        except TimeoutError:
            raise BackendError(f"{path} did not answer within {timeout:g} s") from None
        except aiohttp.ClientError as error:
            raise BackendError(f"{path} could not be reached ({type(error).__name__})") from None
        except orjson.JSONDecodeError:
            raise BackendError(f"{path} answered something that is not JSON") from None
        if not isinstance(answer, dict):
            raise BackendError(f"{path} answered something that is not a JSON object")
        return answer


async def authorised[Answer](
    tokens: TokenSource, account: Account, call: Callable[[Access], Awaitable[Answer]]
) -> Answer:
    """Run a call with a token of the account, and once more with a renewed one if the backend answers 401."""
    access = await tokens.access(account)
    try:
        return await call(access)
    except BackendError as error:
        if error.status != 401:
            raise
    return await call(await tokens.renew(account, access))


def retry_after(value: str, now: float) -> float | None:
    """Seconds of a `retry-after` header: a positive number or a date ahead, rounded up; else None."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return float(math.ceil(seconds)) if math.isfinite(seconds) and seconds > 0 else None
