"""The tokens in the store: encrypted, replaced as a pair, and never replaced by older ones.

The one idea: a refresh token is spent by using it, so the stored one is a value to compare and swap. A
refresh names the token it started from; if the store holds another by then, somebody logged in or refreshed
meanwhile, and what they stored stays.

The rule that must not be broken: tokens leave this file as `Secret`s or as ciphertext, never as text.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from accounts import schema
from accounts.claims import claims
from accounts.database import Database, reads, writes
from accounts.key import Cipher
from accounts.models import Credentials, NoSuchAccount, RefreshError, Secret, TokenGrant

_t = schema.accounts
_e = schema.refresh_errors


class CredentialRecords(Database):
    """Part of the store."""

    cipher: Cipher

    def sealed(self, access: Secret, refresh: Secret | None) -> dict[str, Any]:
        """The token columns of an account."""
        return {
            "access": self.cipher.encrypt(access),
            "refresh": self.cipher.encrypt(refresh) if refresh else None,
            "refresh_hash": refresh.hash if refresh else None,
        }

    @reads
    def credentials(self, connection: Connection, id: str) -> Credentials:
        """The tokens of the account with this id.

        Raises NoSuchAccount if it was removed, KeyUnavailable if they cannot be decrypted.
        """
        return self._credentials(connection, id)

    def _credentials(self, connection: Connection, id: str) -> Credentials:
        columns = (_t.c.access, _t.c.refresh, _t.c.expires_at, _t.c.refreshed_at, _t.c.generation)
        row = connection.execute(select(*columns).where(_t.c.id == id)).one_or_none()
        if row is None:
            raise NoSuchAccount("the account was removed meanwhile: see `openai-auth list`")
        return Credentials(
            access=self.cipher.decrypt(row.access),
            refresh=self.cipher.decrypt(row.refresh) if row.refresh is not None else None,
            expires_at=row.expires_at,
            refreshed_at=row.refreshed_at,
            generation=row.generation,
        )

    @writes
    def rotate(self, connection: Connection, id: str, spent: str, grant: TokenGrant) -> Credentials:
        """Stores what a refresh brought; `spent` is the hash of the refresh token it was made with.

        A grant without a refresh token keeps the old one. If the store holds another refresh token than
        `spent`, nothing is written. Returns what is stored then; committed to disk. Raises NoSuchAccount.
        """
        current = self._credentials(connection, id)
        if current.refresh_hash != spent:
            return current
        said = claims(grant.access.reveal())
        news = {name: value for name, value in (("email", said.email), ("plan", said.plan)) if value}
        connection.execute(
            update(_t)
            .where(_t.c.id == id)
            .values(
                **self.sealed(grant.access, grant.refresh or current.refresh),
                expires_at=grant.expires_at,
                refreshed_at=self.clock(),
                generation=_t.c.generation + 1,
                **news,
            )
        )
        self.forget_refresh_error(connection, id)
        return self._credentials(connection, id)

    @reads
    def refresh_error(self, connection: Connection, id: str) -> RefreshError | None:
        """The last refresh failure of the account since its tokens last changed."""
        row = connection.execute(select(_e).where(_e.c.account == id)).one_or_none()
        if row is None:
            return None
        return RefreshError(
            message=row.message,
            permanent=row.permanent,
            checked_at=row.checked_at,
            next_retry_at=row.next_retry_at,
            retry_count=row.retry_count,
            token_hash=row.token_hash,
        )

    @writes
    def save_refresh_error(self, connection: Connection, id: str, error: RefreshError) -> None:
        """Remembers a failure, if the account still has the token that it happened with."""
        values = {
            "message": error.message,
            "permanent": error.permanent,
            "checked_at": error.checked_at,
            "next_retry_at": error.next_retry_at,
            "retry_count": error.retry_count,
            "token_hash": error.token_hash,
        }
        token = connection.scalar(select(_t.c.refresh_hash).where(_t.c.id == id))
        if token != error.token_hash:
            return
        row = insert(_e).values(account=id, **values)
        connection.execute(row.on_conflict_do_update(index_elements=["account"], set_=values))

    def forget_refresh_error(self, connection: Connection, id: str) -> None:
        """New tokens end every old failure."""
        connection.execute(delete(_e).where(_e.c.account == id))
