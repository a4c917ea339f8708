"""What a login and a logout do to the accounts, and the words for it.

The one idea: the command line and mitmproxy differ in how they show a login that waits, not in what comes of
it; that is here, as a value with a sentence in it.

The rule that must not be broken: a login that a person went through is never lost for a detail. A label that
turns out to belong to another account is left out and said so; a logout whose revocation fails removes the
account all the same.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts.account_records import checked_label
from accounts.models import Account, AccountsError, InvalidLabel, Login, Secret
from accounts.store import Store

if TYPE_CHECKING:
    from accounts.oauth import Issuer  # with an HTTP client, which most commands need not wait for

API_KEY_NOTE = "An API key costs money when it is used: when no subscription can serve, or as main."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to which account."""

    what: str
    account: Account
    promoted: Account | None = None
    """Who is main by this."""
    warning: str | None = None
    """What did not go as wished."""

    @property
    def text(self) -> str:
        """A sentence for the person who asked."""
        return f"{self.what} {described(self.account)}.{self._promotion}"

    @property
    def brief(self) -> str:
        """The same without the e-mail address, for a log."""
        return f"{self.what} {self.account.name} ({self.account.role}).{self._promotion}"

    @property
    def _promotion(self) -> str:
        return f" {self.promoted.name} is main now." if self.promoted else ""


class InvalidApiKey(AccountsError):
    """What was given as an API key cannot be one."""


def check_label(label: str | None) -> str | None:
    """The label as it would be stored. Raises InvalidLabel for one that no account can have, such as `main`.

    Asked before a login begins. Whether another account has it shows only when it is known who logged in:
    the label may name the very account that logs in again.
    """
    return None if label is None else checked_label(label, ())


def api_key_login(text: str) -> Login:
    """An OpenAI API key as a login. Raises InvalidApiKey; the message does not quote it."""
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidApiKey("that is no API key: copy it again from platform.openai.com/api-keys")
    return Login(type="api_key", access=Secret(key))


async def sign_in(store: Store, login: Login, label: str | None = None) -> Outcome:
    """Stores a login: a new account, or new tokens for the one that is there. Raises what the store raises."""
    warning = None
    try:
        account, created = await store.add(login, label)
    except InvalidLabel as error:
        account, created = await store.add(login)
        id = shlex.quote(account.label or account.id)
        warning = f"the label was not taken ({error}); give it one with `openai-auth rename {id} NAME`"
    what = "Logged in as" if created else "Updated the login of"
    if login.type == "api_key":
        what = "Stored the API key" if created else "Updated the API key"
    return Outcome(what, account, warning=warning)


async def take_over(store: Store, login: Login, label: str | None = None) -> Outcome:
    """Stores a login of another program, unless the account's own is newer: that program's is spent by then.

    Raises what the store raises.
    """
    account, created = await store.add(login, label, keep_newer=True)
    if created:
        return Outcome("Added", account)
    if (await store.credentials(account.id)).access == login.access:
        return Outcome("Updated", account)
    return Outcome("Kept", account, warning=f"the login of {account.name} is newer than the one in the file")


async def sign_out(store: Store, issuer: Issuer, name: str) -> Outcome:
    """Revokes a login at the issuer, if that can be done, and removes the account in any case.

    Raises NoSuchAccount, AmbiguousAccount.
    """
    account = await store.account(name)
    trouble = await _revoke(store, issuer, account) if account.type == "oauth" else None
    gone, promoted = await store.remove(account.id)
    warning = None
    if trouble is not None:
        warning = (
            f"the login could not be revoked at {issuer.name} ({trouble}), it ends there by itself: "
            "to end it now, log out of all devices in ChatGPT's security settings"
        )
    return Outcome("Logged out and removed", gone, promoted, warning)


async def _revoke(store: Store, issuer: Issuer, account: Account) -> AccountsError | None:
    try:
        held = await store.credentials(account.id)
    except AccountsError as error:
        return error
    if held.refresh:
        return await issuer.revoke(held.refresh)
    return await issuer.revoke(held.access, "access_token")


def described(account: Account) -> str:
    """An account in a sentence: `work (me@example.com, plus, fallback)`."""
    kind = "API key" if account.type == "api_key" else account.plan
    facts = [fact for fact in (account.email, kind, account.role) if fact]
    return f"{account.name} ({', '.join(facts)})"
