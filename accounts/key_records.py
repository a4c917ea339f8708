"""Client keys in the store: who may use this proxy, and what each has used.

The one idea: a key is 256 random bits, shown once; the store knows its SHA-256 only. That is enough here, where a
password would need a slow hash: nobody guesses 256 bits.

The rule that must not be broken: a revoked key stays known, so that it is refused for ever, also when no other key is
left and the proxy serves everybody again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, literal_column, or_, select, update

from accounts import schema
from accounts.account_records import MAX_LABEL
from accounts.database import Database, reads, writes
from accounts.models import CLIENT_KEY_PREFIX, AccountsError, InvalidLabel, Secret

_t = schema.client_keys


class NoSuchKey(AccountsError):
    """No client key answers to the given id or label."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What was asked with a key. Tokens are counted when an answer is whole; `cached` are part of `input`."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    last_used_at: float | None = None

    def plus(self, other: KeyUse) -> KeyUse:
        """Both together."""
        return KeyUse(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            max(filter(None, (self.last_used_at, other.last_used_at)), default=None),
        )


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One key, without the key."""

    id: str
    """8 hex characters, random."""
    label: str
    hash: str
    """Hex SHA-256 of the key."""
    created_at: float
    revoked_at: float | None
    use: KeyUse


class KeyRecords(Database):
    """Part of the store."""

    @reads
    def client_keys(self, connection: Connection) -> list[ClientKey]:
        """All keys, the oldest first, revoked ones too."""
        rows = connection.execute(select(_t).order_by(_t.c.created_at, literal_column("rowid")))
        return [
            ClientKey(
                id=row.id,
                label=row.label,
                hash=row.hash,
                created_at=row.created_at,
                revoked_at=row.revoked_at,
                use=KeyUse(
                    row.requests, row.input_tokens, row.cached_tokens, row.output_tokens, row.last_used_at
                ),
            )
            for row in rows
        ]

    async def add_client_key(self, label: str) -> tuple[ClientKey, Secret]:
        """Makes a key; the secret cannot be had again. Raises InvalidLabel if the label is empty or in use."""
        text = label.strip()
        if not text or len(text) > MAX_LABEL or not text.isprintable():
            raise InvalidLabel(f"a label is 1 to {MAX_LABEL} printable characters: choose another one")
        secret = Secret(CLIENT_KEY_PREFIX + secrets.token_urlsafe(32))
        key = ClientKey(secrets.token_hex(4), text, secret.hash, self.clock(), None, KeyUse())
        await self._insert(key)
        return key, secret

    @writes
    def _insert(self, connection: Connection, key: ClientKey) -> None:
        named = or_(_t.c.label == key.label, _t.c.id == key.label)
        if connection.scalar(select(_t.c.id).where(named, _t.c.revoked_at.is_(None))):
            raise InvalidLabel(f"{key.label!r} already names a client key: choose another label")
        connection.execute(
            _t.insert().values(id=key.id, label=key.label, hash=key.hash, created_at=key.created_at)
        )

    async def revoke_client_key(self, name: str) -> tuple[ClientKey, int]:
        """Ends a key by its id or label; returns it, and how many keys are left. Raises NoSuchKey."""
        id = await self._revoke(name)
        keys = await self.client_keys()
        return next(key for key in keys if key.id == id), len(valid(keys))

    @writes
    def _revoke(self, connection: Connection, name: str) -> str:
        wanted = name.strip()
        named = or_(_t.c.id == wanted, _t.c.label == wanted)
        # An id wins over a label that happens to look like it.
        id: str | None = connection.scalar(
            select(_t.c.id).where(named, _t.c.revoked_at.is_(None)).order_by(_t.c.id != wanted).limit(1)
        )
        if id is None:
            raise NoSuchKey(f"there is no client key {wanted!r}: see `openai-auth keys list`")
        connection.execute(update(_t).where(_t.c.id == id).values(revoked_at=self.clock()))
        return id

    @writes
    def add_key_use(self, connection: Connection, uses: Mapping[str, KeyUse]) -> None:
        """Adds to what was used with each key, by its id; all in one commit."""
        for id, use in uses.items():
            later = func.max(func.coalesce(_t.c.last_used_at, 0.0), use.last_used_at or 0.0)
            connection.execute(
                update(_t)
                .where(_t.c.id == id)
                .values(
                    requests=_t.c.requests + use.requests,
                    input_tokens=_t.c.input_tokens + use.input_tokens,
                    cached_tokens=_t.c.cached_tokens + use.cached_tokens,
                    output_tokens=_t.c.output_tokens + use.output_tokens,
                    last_used_at=later if use.last_used_at else _t.c.last_used_at,
                )
            )


def valid(keys: Sequence[ClientKey]) -> list[ClientKey]:
    """Those that are not revoked."""
    return [key for key in keys if key.revoked_at is None]
