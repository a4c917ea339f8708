"""
Answers that stay: the history behind `previous_response_id` and `item_reference`, and the stored responses.

The backend keeps nothing, so we do, in the store (accounts/response_records.py). What a client may need a moment later
is here in memory at once; encoding, encrypting and writing come after the client has its last byte, one response at a
time. What was written is kept decoded for a while, since a tool loop asks for the same chain again and again.

The rules: what is kept is what the client sent and got, so that a history from here makes the same bytes upstream as
one that the client sends itself. A response is known to the client key that made it and to nobody else. And a store
that cannot be read or written costs a client its history, never an answer that it has not asked for by name.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from accounts.models import AccountsError
from accounts.response_records import Limits, ParentGone, StoredResponse
from accounts.settings import Settings
from addon.background import Background
from addon.protocol.input_items import as_items
from addon.protocol.misplaced import reread

logger = logging.getLogger(__name__)

RECENT_COUNT = 4096
RECENT_BYTES = 32 * 2**20
"""Responses kept decoded, and their JSON."""
UNWRITTEN_COUNT = 256
"""Responses that wait for a store that does not write; older ones are given up."""
PRUNE_EVERY = 3600.0
"""Seconds between two looks for what is out of its time; writing looks too."""

Item = dict[str, Any]


class Records(Protocol):
    """The part of the store that outlives us; see accounts/response_records.py."""

    async def save_response(
        self, record: StoredResponse, limits: Limits, *, uses: Iterable[str] = ()
    ) -> StoredResponse: ...
    async def prune_responses(self, limits: Limits) -> None: ...
    async def response(self, id: str, client: str, max_age: float) -> StoredResponse | None: ...
    async def response_chain(self, id: str, client: str, max_age: float) -> list[str]: ...
    async def response_ancestry(self, id: str) -> list[str]: ...
    async def responses(self, ids: Iterable[str]) -> dict[str, StoredResponse]: ...
    async def responses_of_items(
        self, items: Iterable[str], client: str, max_age: float
    ) -> dict[str, str]: ...
    async def delete_response(self, id: str, client: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Past:
    """What a request refers to.

    parent: the response it continues. history: that conversation's items, None if it continues none (or one that is
    unknown). items: its own input, references resolved. session: the session key of what it continues. references:
    the items it refers to, by id. hidden: searches to put back, by the key of the item after them. uses: the
    responses it was built on.
    """

    items: list[Any] = field(default_factory=list)
    parent: str | None = None
    history: list[Item] | None = None
    session: str | None = None
    references: Mapping[str, Item] = field(default_factory=dict)
    hidden: Mapping[str, list[Item]] = field(default_factory=dict)
    uses: frozenset[str] = frozenset()

    @property
    def input(self) -> list[Any]:
        """Its own items without references to what is unknown."""
        return [item for item in self.items if reference(item) is None]

    @property
    def whole(self) -> list[Any]:
        """The conversation with its own items."""
        return [*(self.history or ()), *self.input]

    def record(
        self,
        response: dict[str, Any],
        *,
        client: str,
        session: str,
        account: str | None = None,
        hidden: Mapping[str, list[Item]] | None = None,
    ) -> StoredResponse:
        """What is stored of the request that refers to this past, and of its answer."""
        return StoredResponse(
            id=response["id"],
            client=client,
            session=session,
            created_at=float(response["created_at"]),
            input=self.input,
            response=response,
            parent=self.parent,
            account=account,
            hidden=hidden or {},
        )

    def rooted(self, record: StoredResponse) -> StoredResponse:
        """The record with the whole past in it, for when the response that it continues is gone."""
        hidden = {**self.hidden, **record.hidden}
        return replace(record, parent=None, input=[*(self.history or ()), *record.input], hidden=hidden)


class Stored:
    """The stored responses as the addon sees them."""

    def __init__(self, records: Records, background: Background, settings: Callable[[], Settings]) -> None:
        self._records = records
        self._background = background
        self._settings = settings
        self._unwritten: OrderedDict[str, tuple[StoredResponse, Past]] = OrderedDict()
        self._recent: OrderedDict[str, StoredResponse] = OrderedDict()
        self._recent_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._pruning: asyncio.Task[None] | None = None

    @property
    def enabled(self) -> bool:
        """Whether responses are stored at all."""
        return self._settings().store_responses

    @property
    def _limits(self) -> Limits:
        settings = self._settings()
        count = settings.store_max_count if settings.store_responses else 0
        return Limits(count, settings.store_max_bytes, settings.store_max_age_hours * 3600)

    def start(self) -> None:
        """Begin to drop what is out of its time."""
        self._pruning = asyncio.create_task(self._keep_pruned(), name="stored responses")

    async def close(self) -> None:
        """Write what waits. The store stays open."""
        if self._pruning:
            self._pruning.cancel()
        await self._write()

    # Requests

    async def past(self, body: dict[str, Any], client: str) -> Past:
        """What a Responses body refers to. Raises Refused (400) for a body whose input cannot be read."""
        items = as_items(reread(body).get("input"))
        previous = body.get("previous_response_id")
        wanted = {name for item in items if (name := reference(item)) is not None}
        if not self.enabled or not (previous or wanted):
            return Past(items)
        try:
            chain = await self.chain(previous, client) if isinstance(previous, str) else []
            sources = await self._sources(wanted, client) if wanted else []
        except AccountsError as error:
            logger.error("A stored response cannot be read: %s", error)
            return Past(items)
        known = {item["id"]: item for record in sources for item in record.output if item.get("id") in wanted}
        return Past(
            items=[known.get(reference(item) or "", item) for item in items],
            parent=chain[-1].id if chain else None,
            history=history(chain) if chain else None,
            session=chain[-1].session if chain else None,
            references=known,
            hidden={key: run for record in (*chain, *sources) for key, run in record.hidden.items()},
            uses=frozenset(record.id for record in (*chain[-1:], *sources)),
        )

    async def response(self, id: str, client: str) -> StoredResponse | None:
        """A response of this client; None if there is none."""
        if waiting := self._unwritten.get(id):
            return waiting[0] if waiting[0].client == client else None
        return await self._records.response(id, client, self._limits.age)

    async def chain(self, id: str, client: str) -> list[StoredResponse]:
        """A response of this client and all that it continues, the first one first; [] if there is none."""
        unwritten: list[StoredResponse] = []
        past = Past()
        link: str | None = id
        while link is not None and (waiting := self._unwritten.get(link)):
            if waiting[0].client != client:
                return []
            record, past = waiting
            unwritten.insert(0, record)
            link = record.parent
        if link is None:
            return unwritten
        if unwritten:
            ids = await self._records.response_ancestry(link)
        else:
            ids = await self._records.response_chain(id, client, self._limits.age)
        written = await self._read(ids)
        if unwritten and not written:
            return [past.rooted(unwritten[0]), *unwritten[1:]]
        return [*written, *unwritten] if written else []

    async def delete(self, id: str, client: str) -> bool:
        """Forget a response; False if this client has none of that id."""
        await self._written()
        self._forget(id)
        return await self._records.delete_response(id, client)

    def keep(self, record: StoredResponse, past: Past) -> None:
        """Store a response to a request that refers to `past`. It is known from now on, and written soon."""
        self._unwritten[record.id] = (record, past)
        while len(self._unwritten) > UNWRITTEN_COUNT:
            self._unwritten.popitem(last=False)
        if self._writing is None or self._writing.done():
            self._writing = self._background.start(self._write())

    # The store

    async def _sources(self, items: set[str], client: str) -> list[StoredResponse]:
        """The responses in whose output these items are."""
        found = [
            record
            for record, _ in self._unwritten.values()
            if record.client == client and not items.isdisjoint(record.item_ids)
        ]
        missing = items.difference(*(record.item_ids for record in found))
        if missing:
            places = await self._records.responses_of_items(missing, client, self._limits.age)
            for place in dict.fromkeys(places.values()):
                found += await self._read([place])
        return found

    async def _read(self, ids: Iterable[str]) -> list[StoredResponse]:
        """These responses in this order; [] if one of them is missing."""
        ids = list(ids)
        found = {id: self._recent[id] for id in ids if id in self._recent}
        found |= await self._records.responses([id for id in ids if id not in found])
        for record in found.values():
            self._remember(record)
        return [found[id] for id in ids] if len(found) == len(ids) else []

    async def _written(self) -> None:
        if self._writing:
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        while self._unwritten:
            id, (record, past) = next(iter(self._unwritten.items()))
            try:
                self._remember(await self._save(record, past))
            except AccountsError as error:
                logger.error("A response cannot be stored: %s", error)
            except Exception:  # given up, or it would stand before all others for ever
                logger.exception("A response cannot be stored.")
            if (now := self._unwritten.get(id)) and now[0] is record:
                del self._unwritten[id]

    async def _save(self, record: StoredResponse, past: Past) -> StoredResponse:
        try:
            return await self._records.save_response(record, self._limits, uses=past.uses)
        except ParentGone:
            return await self._records.save_response(past.rooted(record), self._limits, uses=past.uses)

    async def prune(self) -> None:
        """Drop what is out of its time, or everything when nothing is to be stored."""
        try:
            await self._records.prune_responses(self._limits)
        except AccountsError as error:
            logger.error("Old responses cannot be dropped: %s", error)

    async def _keep_pruned(self) -> None:
        while True:
            await self.prune()
            await asyncio.sleep(PRUNE_EVERY)

    def _remember(self, record: StoredResponse) -> None:
        self._forget(record.id)
        self._recent[record.id] = record
        self._recent_bytes += record.size
        while len(self._recent) > RECENT_COUNT or self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= self._recent.popitem(last=False)[1].size

    def _forget(self, id: str) -> None:
        if known := self._recent.pop(id, None):
            self._recent_bytes -= known.size


def reference(item: Any) -> str | None:
    """The id that an input item stands for, None if it is an item itself."""
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    refers = kind == "item_reference" or (kind is None and "role" not in item)
    name = item.get("id") if refers else None
    return name if isinstance(name, str) else None


def history(chain: list[StoredResponse]) -> list[Item]:
    """The items of a conversation, as its client would send them."""
    return [item for record in chain for item in (*record.input, *record.output)]
