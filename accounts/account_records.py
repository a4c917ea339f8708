"""The accounts in the store: who there is, in which order, and how people name them.

The one idea: two logins are the same account if their identity is the same (the ChatGPT account id; for an
API key, its hash), so adding is always "add or update", and order is a column of positions without gaps.

The rule that must not be broken: no operation here loses a login except `remove`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, select, update

from accounts import schema
from accounts.claims import claims
from accounts.credential_records import CredentialRecords
from accounts.database import reads, writes
from accounts.models import (
    MAIN,
    Account,
    AmbiguousAccount,
    InvalidLabel,
    KeyUnavailable,
    Login,
    NoSuchAccount,
)

MAX_LABEL = 64
"""Characters; labels stand in tables and in a response header."""

_t = schema.accounts
_SELECT = (
    select(
        _t.c.id,
        _t.c.label,
        _t.c.type,
        _t.c.account_id,
        _t.c.email,
        _t.c.plan,
        _t.c.enabled,
        _t.c.position,
        _t.c.expires_at,
        schema.refresh_errors.c.message.label("login_error"),
        _t.c.added_at,
        _t.c.last_used_at,
        _t.c.generation,
    )
    .outerjoin(
        schema.refresh_errors,
        and_(
            schema.refresh_errors.c.account == _t.c.id,
            schema.refresh_errors.c.permanent,
            schema.refresh_errors.c.token_hash == _t.c.refresh_hash,
        ),
    )
    .order_by(_t.c.position, _t.c.added_at, _t.c.id)
)


def resolve(accounts: Sequence[Account], name: str) -> Account:
    """The account a person means: `main`, an id, a label, a ChatGPT account id, or the name shown in tables.

    An exact id or label wins over one that differs in case only. Raises NoSuchAccount, or AmbiguousAccount if
    the name fits several.
    """
    wanted = name.strip()
    if wanted.casefold() == MAIN and accounts:
        return accounts[0]
    exact = [each for each in accounts if wanted in (each.id, each.label, each.account_id)]
    loose = [
        each
        for each in accounts
        if wanted.casefold() in {text.casefold() for text in (each.label, each.account_id, each.name) if text}
    ]
    found = exact or loose
    if not found:
        known = ", ".join(each.name for each in accounts)
        raise NoSuchAccount(
            f"there is no account {wanted!r}: known are {known}"
            if known
            else f"there is no account {wanted!r}, nor any other: add one with `openai-auth login`"
        )
    if len(found) > 1:
        listed = ", ".join(f"{each.name} (id {each.id})" for each in found)
        raise AmbiguousAccount(f"{wanted!r} fits several accounts: {listed}; use the id")
    return found[0]


class AccountRecords(CredentialRecords):
    """Part of the store."""

    @reads
    def accounts(self, connection: Connection) -> list[Account]:
        """All accounts in routing order; the first is main."""
        return _all(connection)

    async def account(self, name: str) -> Account:
        """The one account that `name` means; see `resolve`."""
        return resolve(await self.accounts(), name)

    @writes
    def add(
        self, connection: Connection, login: Login, label: str | None = None, *, keep_newer: bool = False
    ) -> tuple[Account, bool]:
        """Stores a login; True if the account is new, False if it was there and now has the new tokens.

        `label` is what a person chose and must be free (InvalidLabel); the login's own label is taken for a
        new account if it is. The first account is main, later ones go to the end. An update clears
        `login_error` and leaves the account where, and as enabled, as it was. With `keep_newer` the account
        keeps tokens that work and were issued after those of the login: that one's refresh token is spent.
        A new API key under the label of another one takes its place.
        """
        tokens: dict[str, Any] = {
            "identity": _identity(login),
            "type": login.type,
            "account_id": login.account_id,
            "expires_at": login.expires_at,
            "refreshed_at": None,
            **self.sealed(login.access, login.refresh),
        }
        known = _all(connection)
        id = connection.scalar(select(_t.c.id).where(_t.c.identity == tokens["identity"]))
        if id is None and label and login.type == "api_key":
            id = next((each.id for each in known if each.type == "api_key" and each.label == label), None)
        columns: dict[str, Any] = {} if label is None else {"label": checked_label(label, known, id)}
        if id is None:
            id = secrets.token_hex(6)
            columns = {"label": _offered_label(login.label, known)} | columns | tokens
            columns.update(
                id=id,
                email=login.email,
                plan=login.plan,
                enabled=login.enabled,
                position=len(known),
                added_at=self.clock(),
                generation=1,
            )
            connection.execute(_t.insert().values(columns))
        elif keep_newer and self._is_newer(connection, resolve(known, id), login):
            if columns:
                connection.execute(update(_t).where(_t.c.id == id).values(columns))
        else:
            said = {"email": login.email, "plan": login.plan}
            columns |= tokens | {name: value for name, value in said.items() if value}
            columns["generation"] = _t.c.generation + 1
            connection.execute(update(_t).where(_t.c.id == id).values(columns))
            self.forget_refresh_error(connection, id)
        after = _all(connection)
        return resolve(after, id), len(after) > len(known)

    def _is_newer(self, connection: Connection, account: Account, login: Login) -> bool:
        """Whether the account's tokens work, as far as is known, and were issued after the login's."""
        if account.login_error:
            return False
        try:
            held = self._credentials(connection, account.id)
        except KeyUnavailable:
            return False
        own, other = claims(held.access.reveal()), claims(login.access.reveal())
        if own.issued_at and other.issued_at:
            return own.issued_at > other.issued_at
        if held.expires_at is None or login.expires_at is None:
            return False
        return held.expires_at > login.expires_at

    @writes
    def remove(self, connection: Connection, name: str) -> tuple[Account, Account | None]:
        """Deletes an account and its tokens.

        Returns it, and the account that became main by this (None if another was removed, or none is left).
        """
        gone = resolve(_all(connection), name)
        connection.execute(delete(_t).where(_t.c.id == gone.id))
        left = _all(connection)
        _arrange(connection, [each.id for each in left])
        after = _all(connection)
        return gone, after[0] if gone.position == 0 and after else None

    @writes
    def switch(self, connection: Connection, name: str) -> Account:
        """Makes an account main by changing places with the present one; switching back undoes it."""
        before = _all(connection)
        chosen = resolve(before, name)
        return _swap(connection, before, chosen, before[0])

    @writes
    def order(self, connection: Connection, a: str, b: str) -> list[Account]:
        """Two accounts change places; returns all in the new order."""
        before = _all(connection)
        _swap(connection, before, resolve(before, a), resolve(before, b))
        return _all(connection)

    @writes
    def rename(self, connection: Connection, name: str, label: str | None) -> Account:
        """Gives an account a label, or takes it away (None). Raises InvalidLabel."""
        known = _all(connection)
        id = resolve(known, name).id
        text = None if label is None else checked_label(label, known, id)
        connection.execute(update(_t).where(_t.c.id == id).values(label=text))
        return resolve(_all(connection), id)

    @writes
    def enable(self, connection: Connection, name: str, enabled: bool = True) -> Account:
        """Lets routing use the account, or keeps it from doing so."""
        id = resolve(_all(connection), name).id
        connection.execute(update(_t).where(_t.c.id == id).values(enabled=enabled))
        return resolve(_all(connection), id)


def checked_label(label: str, accounts: Iterable[Account], own_id: str | None = None) -> str:
    """The label as it is stored; raises InvalidLabel if it is empty, reserved, or names another account."""
    text = label.strip()
    if not text or len(text) > MAX_LABEL or not text.isprintable():
        raise InvalidLabel(f"a label is 1 to {MAX_LABEL} printable characters: choose another one")
    if text.casefold() == MAIN:
        raise InvalidLabel(
            f"{text!r} is reserved for the account in first place: choose another label, and make an account "
            "main with `openai-auth switch`"
        )
    for each in accounts:
        if each.id != own_id and text in (each.label, each.id, each.account_id):
            raise InvalidLabel(f"{text!r} already names another account: choose another label")
    return text


def _offered_label(label: str | None, accounts: Sequence[Account]) -> str | None:
    try:
        return None if label is None else checked_label(label, accounts)
    except InvalidLabel:
        return None


def _identity(login: Login) -> str:
    if login.type == "api_key":
        return f"key:{login.access.hash}"
    if login.account_id:
        return f"chatgpt:{login.account_id}"
    return f"token:{(login.refresh or login.access).hash}"


def _all(connection: Connection) -> list[Account]:
    return [Account(**row._mapping) for row in connection.execute(_SELECT)]


def _swap(connection: Connection, before: list[Account], a: Account, b: Account) -> Account:
    """`a` and `b` change places; returns `a` as it is then."""
    places = {a.id: b.id, b.id: a.id}
    _arrange(connection, [places.get(each.id, each.id) for each in before])
    return resolve(_all(connection), a.id)


def _arrange(connection: Connection, ids: Sequence[str]) -> None:
    for position, id in enumerate(ids):
        connection.execute(update(_t).where(_t.c.id == id).values(position=position))
