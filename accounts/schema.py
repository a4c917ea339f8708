"""The tables of `state.db`, their version, and the way from an older version to this one.

The one idea: this file is the only description of the schema. A fresh database gets it whole from `metadata`;
an older one walks through `MIGRATIONS`, one step per version, inside one transaction. A table that is new
in a version needs no step of its own: `metadata` creates what is missing before the steps run.

The rule that must not be broken: a released version's step is never changed, and no step loses an account or
a token. Whoever changes a table adds one to `VERSION` and a step that brings the old table to the new form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from accounts.models import StoreDamaged, StoreTooNew

VERSION = 5

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String, primary_key=True),
    # What makes two logins the same account: the ChatGPT account id, or the hash of an API key.
    Column("identity", String, nullable=False, unique=True),
    Column("label", String, unique=True),
    Column("type", String, nullable=False),
    Column("account_id", String),
    Column("email", String),
    Column("plan", String),
    Column("enabled", Boolean, nullable=False),
    Column("position", Integer, nullable=False),
    Column("added_at", Float, nullable=False),
    Column("last_used_at", Float),
    # Tokens are ciphertext; the hash lets processes compare refresh tokens without decrypting them.
    Column("access", LargeBinary, nullable=False),
    Column("refresh", LargeBinary),
    Column("refresh_hash", String),
    Column("expires_at", Float),
    Column("refreshed_at", Float),
    Column("generation", Integer, nullable=False),
)


def _account(primary_key: bool = True) -> Column[str]:
    """A column that names an account and goes with it."""
    return Column(
        "account",
        String,
        ForeignKey("accounts.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


refresh_errors = Table(
    "refresh_errors",
    metadata,
    _account(),
    Column("message", String, nullable=False),
    Column("permanent", Boolean, nullable=False),
    Column("checked_at", Float, nullable=False),
    Column("next_retry_at", Float),
    Column("retry_count", Integer, nullable=False),
    Column("token_hash", String, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("until", Float, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    _account(),
    Column("seen_at", Float, nullable=False),
    Column("snapshot", LargeBinary, nullable=False),  # JSON of models.Quota
)

marks = Table(
    "marks",
    metadata,
    _account(),
    Column("limit", String, primary_key=True),
    Column("until", Float, nullable=False),
    Column("reason", String, nullable=False),
    Column("seen_at", Float, nullable=False),
)

poll_holds = Table(
    "poll_holds",
    metadata,
    _account(),
    Column("until", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
)

pins = Table(
    "pins",
    metadata,
    Column("session", String, primary_key=True),  # hash of the session key
    _account(primary_key=False),
    Column("account_id", String),
    Column("assigned_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("input_bytes", Integer, nullable=False),
    Column("quota_seen_at", Float),
    Column("model", String),
)

threads = Table(
    "threads",
    metadata,
    Column("session", String, primary_key=True),
    Column("thread_id", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    Index("threads_seen_at", "seen_at"),
)

# By identity, and not tied to `accounts`: a ciphertext stays its account's after a logout and another login.
ciphertexts = Table(
    "ciphertexts",
    metadata,
    Column("hash", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    Index("ciphertexts_seen_at", "seen_at"),
)

# By ChatGPT account id, and not tied to `accounts`: a pair that was sent is owed its outcome, also after the
# login was removed and made again. Without `request_id` and `credit_id` nothing is unsettled.
reset_credits = Table(
    "reset_credits",
    metadata,
    Column("account_id", String, primary_key=True),
    Column("request_id", String),
    Column("credit_id", String),
    Column("started_at", Float),
    Column("outcome_code", String),
    Column("outcome_at", Float),
    Column("outcome_detail", String),
    Column("cooldown_until", Float),
)

# Kept answers. `content` is compressed and encrypted; `gone`: kept only for the responses that continue it.
responses = Table(
    "responses",
    metadata,
    Column("id", String, primary_key=True),
    Column("client", String, nullable=False),  # digest of the client's key
    Column("parent", String),
    Column("session", String, nullable=False),  # hash of the session key
    Column("account", String),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("size", Integer, nullable=False),  # bytes of `content`
    Column("content", LargeBinary, nullable=False),
    # Each holds all that one of the questions asks for, so that none reads through the contents.
    Index("responses_used_at", "gone", "used_at", "id", "size"),
    Index("responses_links", "id", "parent", "client", "gone"),
    Index("responses_size", "size"),
)

response_items = Table(
    "response_items",
    metadata,
    Column("item", String, primary_key=True),
    Column("response", String, ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True, index=True),
)

# Keys that clients of this proxy bear. Revoked ones stay, so that they are refused for ever.
client_keys = Table(
    "client_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("label", String, nullable=False),
    Column("hash", String, nullable=False, unique=True),  # SHA-256 of the key
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("last_used_at", Float),
    Column("requests", Integer, nullable=False, default=0),
    Column("input_tokens", Integer, nullable=False, default=0),
    Column("cached_tokens", Integer, nullable=False, default=0),
    Column("output_tokens", Integer, nullable=False, default=0),
)

Migration = Callable[[Connection], None]


def _limits_and_identities(connection: Connection) -> None:
    """Marks per limit, pins with a model, ciphertexts by the identity of their maker.

    Marks and pins are made anew by the next answers.
    """
    for table in (marks, pins):
        table.drop(connection)
        table.create(connection)
    identity = func.coalesce(accounts.c.account_id, accounts.c.id)
    connection.execute(delete(ciphertexts).where(ciphertexts.c.account.not_in(select(accounts.c.id))))
    maker = select(identity).where(accounts.c.id == ciphertexts.c.account).scalar_subquery()
    connection.execute(update(ciphertexts).values(account=maker))


MIGRATIONS: Mapping[int, Migration] = {4: _limits_and_identities}
"""Version n → what brings a database of version n to n + 1."""


def version_of(connection: Connection, file: str) -> int:
    """The schema version of a database, 0 for an empty one; `file` is for messages.

    Raises StoreTooNew for a later version than ours and StoreDamaged for a database that is not ours.
    """
    tables = inspect(connection).get_table_names()
    if "meta" not in tables:
        if tables:
            raise StoreDamaged(
                f"{file} is a database of another program: move it away, or choose another folder with "
                "OPENAI_AUTH_HOME"
            )
        return 0
    found = connection.scalar(select(meta.c.value).where(meta.c.key == "schema_version"))
    if found is None or not found.isdecimal():
        raise StoreDamaged(
            f"{file} does not say which version it is: restore it from a backup, or move it away "
            "and log in again"
        )
    if int(found) > VERSION:
        raise StoreTooNew(
            f"{file} was written by a newer version of openai-auth-proxy (schema {found}, this one knows "
            f"{VERSION}): upgrade, or choose another folder with OPENAI_AUTH_HOME"
        )
    return int(found)


def upgrade(connection: Connection, file: str) -> None:
    """Creates the schema, or brings an older one to this version. Call it inside a write transaction."""
    found = version_of(connection, file)
    if found < VERSION:
        metadata.create_all(connection)
        for version in range(found, VERSION) if found else ():
            if step := MIGRATIONS.get(version):
                step(connection)
        _set_version(connection)


def _set_version(connection: Connection) -> None:
    row = insert(meta).values(key="schema_version", value=str(VERSION))
    connection.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": row.excluded.value}))
