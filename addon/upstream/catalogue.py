"""
The backend's model list: asked per account, kept in memory, joined over the accounts that may serve.

The one idea: stale while it is renewed. Whoever asks gets what is known at once, and what is old is fetched beside;
only an account that has never answered is waited for, five seconds at most. What is older than an hour is old, and so
is a list whose ETag differs from the one that a generation answer announced. Nothing is written to disk: a list is
one small request away, and belongs to the login it was made for.

The rule: no account's failure spoils another's list, and no request fails because a list could not be had. Until the
first answer, and offline, the built-in list stands in, and `Listing.built_in` says so.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from accounts.models import Access, Account, AccountsError
from accounts.wham import TokenSource
from addon.protocol import built_in_models, models, versions
from addon.protocol.identity import Identity
from addon.protocol.models import Model

logger = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds for one account's list, as the official client's."""
FRESH = 3600.0
"""Seconds that a list is not old."""
FRESH_ANNOUNCED = 300.0
"""Seconds in which the same announced ETag leads to one request only (the official client's 300 s)."""
RETRY = 60.0
"""Seconds before an account is asked again after a failure."""
UNGATED = "0.0.0"
"""The client version that switches the backend's own version filter off."""
BODY_LIMIT = 16 * 2**20
"""Bytes of a list; an entry may carry whole system prompts."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The models to show, in the order of priority."""

    models: tuple[Model, ...]
    built_in: bool


@dataclass(slots=True)
class _Known:
    """What one account's catalogue said. `models` is None until it has answered."""

    login: str | None
    """The ChatGPT account it was asked for."""
    models: dict[str, Model] | None = None
    etag: str | None = None
    fetched_at: float = 0.0
    failed_at: float | None = None
    announced: dict[str, float] = field(default_factory=dict)
    """ETags that answers told of, and when each was acted upon."""


class _Unavailable(Exception):
    """The list could not be had; the text says why."""


class Catalogue:
    """The lists of all accounts. `accounts`, `url` and `identity` are asked at every use."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        tokens: TokenSource,
        *,
        accounts: Callable[[], Sequence[Account]],
        url: Callable[[], str],
        identity: Callable[[], Identity],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._accounts = accounts
        self._url = url
        self._identity = identity
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._said_built_in = False

    async def close(self) -> None:
        """End what is being fetched."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listing(self) -> Listing:
        """What the accounts may use together. Waits only for accounts that have never answered."""
        usable = self._usable()
        due = [(account, self._refresh(account)) for account in usable if self._is_due(account)]
        if unknown := [task for account, task in due if self._of(account).models is None]:
            await asyncio.wait(unknown)
        if any(self._of(account).models for account in usable):
            return Listing(self._union(usable), built_in=False)
        if not self._said_built_in:
            self._said_built_in = True
            logger.warning("No account's model list could be had; the built-in list stands in for it.")
        return Listing(built_in_models.MODELS, built_in=True)

    def efforts(self, model: str) -> tuple[str, ...]:
        """The reasoning efforts that a model lists, () if it is not known."""
        found = self._find(model)
        return found.efforts if found else ()

    def version_for(self, model: str) -> str | None:
        """The lowest protocol version that `model` is served at; for an unknown model the highest of all.

        None if nothing is known.
        """
        found = self._find(model)
        asking = [found] if found else self._everything()
        return versions.newest("", (each.minimal_version for each in asking)) or None

    def lacks(self, account: Account, model: str) -> bool:
        """Whether the account's own list is known and does not offer the model."""
        listed = self._of(account).models
        if listed is None:
            return False
        found = listed.get(model)
        return found is None or not found.offered_to(account.plan)

    def announced(self, account: Account, etag: str | None) -> None:
        """An answer for this account told of its list's ETag: fetch the list if it is another one."""
        known, now = self._of(account), self._clock()
        if not etag or _bare(etag) == known.etag or not self._may_ask(account):
            return
        recent = {tag: at for tag, at in known.announced.items() if now - at < FRESH_ANNOUNCED}
        if _bare(etag) not in recent:
            recent[_bare(etag)] = now
            self._refresh(account)
        known.announced = recent

    async def learn(self, account: Account, *, at_once: bool) -> None:
        """A refusal cast doubt on the account's list: fetch it again, unless it is new enough.

        at_once: whatever its age.
        """
        known = self._of(account)
        age = self._clock() - known.fetched_at
        if self._may_ask(account) and (at_once or known.models is None or age >= FRESH_ANNOUNCED):
            await asyncio.wait([self._refresh(account)])

    def _usable(self) -> list[Account]:
        """The accounts whose login can list models, in routing order."""
        return [
            account
            for account in self._accounts()
            if account.enabled and account.type == "oauth" and account.login_error is None
        ]

    def _of(self, account: Account) -> _Known:
        """What is known for the account; another login in its place knows nothing yet."""
        known = self._known.get(account.id)
        if known is None or known.login != account.account_id:
            ids = {each.id for each in self._accounts()}
            self._known = {id: each for id, each in self._known.items() if id in ids}
            known = self._known[account.id] = _Known(account.account_id)
        return known

    def _union(self, accounts: Iterable[Account]) -> tuple[Model, ...]:
        return models.union(
            [model for model in (self._of(account).models or {}).values() if model.offered_to(account.plan)]
            for account in accounts
        )

    def _everything(self) -> tuple[Model, ...]:
        return self._union(self._usable()) or built_in_models.MODELS

    def _find(self, name: str) -> Model | None:
        usable = self._usable()
        for account in usable:
            known = self._of(account)
            if known.models is not None and self._is_due(account):
                self._refresh(account)
            if known.models and (found := known.models.get(name)):
                return found
        if any(self._of(account).models for account in usable):
            return None
        return next((model for model in built_in_models.MODELS if model.slug == name), None)

    def _may_ask(self, account: Account) -> bool:
        """Only a ChatGPT login has a catalogue, and a failure is let rest."""
        failed_at = self._of(account).failed_at
        return account.type == "oauth" and (failed_at is None or self._clock() - failed_at >= RETRY)

    def _is_due(self, account: Account) -> bool:
        known = self._of(account)
        return self._may_ask(account) and (known.models is None or self._clock() - known.fetched_at >= FRESH)

    def _refresh(self, account: Account) -> asyncio.Task[None]:
        """Fetch the account's list, or join the fetch that is under way."""
        if running := self._running.get(account.id):
            return running
        task = asyncio.create_task(self._update(account), name="model list")
        self._running[account.id] = task
        task.add_done_callback(lambda _: self._running.pop(account.id, None))
        return task

    async def _update(self, account: Account) -> None:
        known = self._of(account)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._fetch(account, known)
        except (_Unavailable, AccountsError, aiohttp.ClientError, TimeoutError, OSError) as error:
            known.failed_at = self._clock()
            reason = str(error) if isinstance(error, _Unavailable | AccountsError) else type(error).__name__
            logger.info("The model list of %s could not be had: %s", account.name, reason)
        except Exception:
            known.failed_at = self._clock()
            logger.exception("The model list of %s could not be read.", account.name)
        else:
            known.fetched_at, known.failed_at = self._clock(), None

    async def _fetch(self, account: Account, known: _Known) -> None:
        """Ask with the sentinel version, and with ours where that gives nothing."""
        access = await self._tokens.access(account)
        status, etag, answer = await self._get(access, UNGATED, known.etag)
        if status == 401:
            access = await self._tokens.renew(account, access)
            status, etag, answer = await self._get(access, UNGATED, known.etag)
        if status == 304 and known.models is not None:
            return
        found = models.read(answer)
        if not found and status in (200, 400):
            status, etag, answer = await self._get(access, self._version(), None)
            found = models.read(answer)
        if not found:
            raise _Unavailable(f"the backend answered {status}, and no models")
        known.models = {model.slug: model for model in found}
        known.etag = _bare(etag) if etag else None

    def _version(self) -> str:
        """Our protocol version; the highest that any model asks for if that is newer."""
        gates = (model.minimal_version for model in self._everything())
        return versions.newest(self._identity().version, gates)

    async def _get(self, access: Access, version: str, etag: str | None) -> tuple[int, str | None, Any]:
        """One request: status, ETag, and the JSON of a 200 (None if it is none)."""
        identity = self._identity()
        headers = {
            "version": self._version(),
            "authorization": f"Bearer {access.token.reveal()}",
            "accept": "*/*",
            "accept-encoding": "gzip",
            "originator": identity.originator,
            "user-agent": identity.user_agent,
        }
        if access.account_id:
            headers["chatgpt-account-id"] = access.account_id
        if etag:
            headers["if-none-match"] = f'W/"{etag}"'
        url = f"{self._url()}?client_version={version}"
        async with self._http.get(url, headers=headers, allow_redirects=False) as reply:
            if reply.status != 200:
                return reply.status, None, None
            body = bytearray()
            async for part in reply.content.iter_any():
                body += part
                if len(body) > BODY_LIMIT:
                    raise _Unavailable("it is too large")
            try:
                return 200, reply.headers.get("etag"), orjson.loads(body)
            except orjson.JSONDecodeError:
                return 200, None, None


def _bare(etag: str) -> str:
    """The tag itself: a header of its own may carry it without quotes or weakness."""
    return etag.strip().removeprefix("W/").strip('"')
