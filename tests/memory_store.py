"""What an `AccountPool` needs of a store and of tokens, in memory: for decisions by the thousand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from accounts.models import Access, Account, Mark, Quota, Secret
from accounts.placement import Pin
from accounts.quota_records import Observations
from tests.routing_world import by_limit


@dataclass
class MemoryStore:
    """Holds a state to load; what is observed is not kept, because the pool's own view has it at once."""

    known: Iterable[Account] = ()
    quotas_known: Mapping[str, Quota] = field(default_factory=dict)
    marks_known: Mapping[str, Mark] = field(default_factory=dict)
    pins_known: Mapping[str, Pin] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)

    async def accounts(self) -> list[Account]:
        return list(self.known)

    async def quotas(self) -> dict[str, Quota]:
        return dict(self.quotas_known)

    async def marks(self) -> dict[tuple[str, str], Mark]:
        return by_limit(self.marks_known)

    async def pins(self) -> dict[str, Pin]:
        return dict(self.pins_known)

    async def version(self) -> int:
        return 1

    async def observe(self, seen: Observations) -> None:
        pass

    async def owners(self, hashes: Iterable[str]) -> dict[str, str]:
        return {each: self.makers[each] for each in hashes if each in self.makers}


class EndlessTokens:
    """Every login is good; the token says whose it is."""

    async def access(self, account: Account, *, ahead: float = 0.0) -> Access:
        return Access(Secret(account.id), account.account_id)

    async def renew(self, account: Account, rejected: Access, *, revoked: bool = False) -> Access:
        return await self.access(account)

    async def save_unsaved(self) -> None:
        pass

    async def close(self) -> None:
        pass
