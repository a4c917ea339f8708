"""The words of the account side: account, credentials, window, quota, mark, and what can go wrong with them.

The one idea: everything here is a frozen value. The store makes them, the pool hands out snapshots of them,
routing and the command line only read them; nobody changes an account by changing an object.

The rule that must not be broken: a token is never a plain string outside the store and the upstream
connection. It is a `Secret`, which no repr, log line, format string or traceback can show; `reveal()` is the
only way out, and is easy to find.

Times are epoch seconds (float), percentages are *used* percent from 0 to 100, unless a name says otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

AccountType = Literal["oauth", "api_key"]
Role = Literal["main", "fallback"]
Source = Literal["headers", "frame", "usage"]

MAIN = "main"
"""The reserved name of the account in first position; no label may equal it in any case."""

CLIENT_KEY_PREFIX = "oa-"
"""What the keys begin with that this proxy gives to its clients; no key of OpenAI's does."""

DEFAULT_LIMIT = "codex"
"""`limit_id` of the plan's own limit; per-model limits have ids of their own."""


class Secret:
    """A string that does not show itself: `repr`, `str`, `format`, pickling and logging all hide it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself, for the wire or for encryption; never for a message."""
        return self._value

    @property
    def hash(self) -> str:
        """Hex SHA-256: tells two tokens apart without holding either."""
        return hashlib.sha256(self._value.encode()).hexdigest()

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class Account:
    """One login, as everybody but the token code sees it: no token in it."""

    id: str
    """12 hex characters, random, for ever the same; what other tables refer to."""
    label: str | None
    type: AccountType
    account_id: str | None
    """The ChatGPT account id from the token's claims: the identity. None for an API key."""
    email: str | None = None
    plan: str | None = None
    enabled: bool = True
    position: int = 0
    """Routing order without gaps; 0 is main."""
    expires_at: float | None = None
    """When the access token expires; None for an API key."""
    login_error: str | None = None
    """Set when only a new login helps: what happened and what to do. Cleared by new credentials."""
    added_at: float = 0.0
    last_used_at: float | None = None
    generation: int = 0
    """Grows with every change of the tokens, so that a copy of them can be known to be old."""

    @property
    def role(self) -> Role:
        return "main" if self.position == 0 else "fallback"

    @property
    def identity(self) -> str:
        """What the backend ties ciphertexts to: the ChatGPT account id; for an API key our own id."""
        return self.account_id or self.id

    @property
    def name(self) -> str:
        """What people see: the label, else `main`, else the first 8 characters of the ChatGPT account id."""
        if self.label:
            return self.label
        if self.position == 0:
            return MAIN
        return (self.account_id or self.id)[:8]


@dataclass(frozen=True, slots=True)
class Window:
    """One quota window, known by its length; which slot the backend sent it in means nothing."""

    minutes: int | None
    used_percent: float
    resets_at: float | None
    seen_at: float
    source: Source
    limit_id: str = DEFAULT_LIMIT
    limit_name: str | None = None
    """The backend's own name of a per-model limit, for people."""

    @property
    def remaining_percent(self) -> float:
        return max(0.0, 100.0 - self.used_percent)


@dataclass(frozen=True, slots=True)
class Credits:
    """Paid credits beside the plan; `balance` is the backend's own text."""

    has_credits: bool
    unlimited: bool
    balance: str | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """What the backend said about one account's limits, as of `seen_at`."""

    account_id: str | None
    """The ChatGPT account id the numbers belong to: that of the request that brought them."""
    windows: tuple[Window, ...] = ()
    plan: str | None = None
    credits: Credits | None = None
    reset_credits: int | None = None
    """Available reset credits; only usage answers know them, None is "unknown", not 0."""
    reset_credits_applicable: int | None = None
    seen_at: float = 0.0
    complete: bool = False
    """True when a window that is missing here is gone, False when it is merely not mentioned."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A refusal's word that a limit of the account is used up until a moment; `quota.holds` says how long it counts."""

    until: float
    reason: str
    seen_at: float
    limit: str = DEFAULT_LIMIT
    """The plan's own, or a model's as `quota.limit_for` calls it."""


type Marks = Mapping[tuple[str, str], Mark]
"""By our account id and limit; past and disproved ones may be among them."""


@dataclass(frozen=True, slots=True)
class PollHold:
    """An account whose usage could not be asked for: left alone until a moment, or until its tokens change."""

    until: float
    failures: int
    """In a row."""
    generation: int
    """Of the tokens it failed with."""

    def holds(self, account: Account, now: float) -> bool:
        return account.generation <= self.generation and now < self.until


@dataclass(frozen=True, slots=True)
class Access:
    """What a request needs to speak for an account: the bearer token, and the id that goes beside it."""

    token: Secret
    account_id: str | None
    generation: int = 0
    """Of the account, when the token was read."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The stored tokens of one account; for an API key `access` is the key and `refresh` is None."""

    access: Secret
    refresh: Secret | None
    expires_at: float | None
    refreshed_at: float | None
    """When a refresh last brought these; None for tokens as a login brought them."""
    generation: int

    @property
    def refresh_hash(self) -> str | None:
        return self.refresh.hash if self.refresh else None


@dataclass(frozen=True, slots=True)
class RefreshError:
    """A failed refresh, remembered for exactly the refresh token (`token_hash`) it happened with."""

    message: str
    permanent: bool
    checked_at: float
    next_retry_at: float | None
    """None for a permanent failure: no second attempt until the credentials change."""
    retry_count: int
    token_hash: str

    def blocks(self, token_hash: str | None, now: float) -> bool:
        """Whether a refresh with this token must not be tried now."""
        if token_hash != self.token_hash:
            return False
        return self.permanent or (self.next_retry_at is not None and now < self.next_retry_at)


@dataclass(frozen=True, slots=True)
class Login:
    """A login to be stored, from whatever door it came: browser, device code, import or API key."""

    type: AccountType
    access: Secret
    refresh: Secret | None = None
    expires_at: float | None = None
    account_id: str | None = None
    email: str | None = None
    plan: str | None = None
    label: str | None = None
    """What the source called it; a label given by the person wins."""
    enabled: bool = True


class TokenGrant(Protocol):
    """The part of an issuer's answer that the store keeps."""

    @property
    def access(self) -> Secret: ...
    @property
    def refresh(self) -> Secret | None: ...
    @property
    def expires_at(self) -> float: ...


class AccountsError(Exception):
    """Base of everything that goes wrong here; the message says what happened and what to do."""


class LoginRequired(AccountsError):
    """Only a new login helps; asking again does not."""


class RefreshFailed(AccountsError):
    """The token could not be renewed now; `retry_at` is when the next attempt makes sense."""

    def __init__(self, message: str, retry_at: float | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class NoSuchAccount(AccountsError):
    """No account answers to the given name."""


class AmbiguousAccount(AccountsError):
    """Several accounts answer to the given name; the message lists them."""


class InvalidLabel(AccountsError):
    """The label is reserved, empty or already the name of another account."""


class StoreDamaged(AccountsError):
    """The database cannot be read; it is left as it is."""


class StoreTooNew(AccountsError):
    """The database was written by a newer version of this program."""


class StoreUnavailable(AccountsError):
    """The database cannot be used now: locked for too long, not writable, disk full."""


class KeyUnavailable(AccountsError):
    """The key that decrypts the stored tokens is missing or another one; the tokens are untouched."""


class ImportFailed(AccountsError):
    """The file is not a login this program can read."""
