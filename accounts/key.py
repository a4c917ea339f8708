"""The key that encrypts stored tokens: where it lives, how it is made once, and how a wrong one is noticed.

The one idea: the database never holds the key, only where it is and a fingerprint of it. The key is in the
operating system's keyring if one works, else in a file `key` with mode 0600 beside the database. Whoever
commits that record first has decided; a process that lost the race uses the winner's key.

The rule that must not be broken: a key that does not fit is an error with advice, and nothing is written.
Nothing here ever replaces a key that tokens may have been encrypted with, and no keyring may keep a start
waiting: one that is locked, asks questions or hangs counts as none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from accounts import schema
from accounts.database import Database
from accounts.models import KeyUnavailable, Secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

FILE = "key"
SERVICE = "openai-auth-proxy"
"""The name under which the keyring shows our entries."""

OFFER_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
"""Seconds for a keyring to take a new key, and to give one back (a person may have to unlock it)."""

MINIMUM_PRIORITY = 1
"""The keyring library's own line between backends to trust and plain-text or console ones."""

IN_FILE = "file"
IN_KEYRING = "keyring:"


@dataclass(frozen=True, slots=True)
class _Record:
    location: str
    """`file`, or `keyring:` and the entry's name."""
    fingerprint: str


class Cipher:
    """Encrypts and decrypts tokens, and other content that nobody is to read, with one key."""

    def __init__(self, key: bytes, where: str) -> None:
        self._fernet = Fernet(key)
        self._where = where

    def encrypt(self, secret: Secret) -> bytes:
        return self._fernet.encrypt(secret.reveal().encode())

    def decrypt(self, ciphertext: bytes) -> Secret:
        """Raises KeyUnavailable if the ciphertext was not made with this key, or was damaged."""
        try:
            return Secret(self._fernet.decrypt(ciphertext).decode())
        except InvalidToken:
            raise KeyUnavailable(
                f"a stored token cannot be decrypted with the key in {self._where}: log in again with "
                "`openai-auth login`, or restore key and database from the same backup"
            ) from None

    def seal(self, content: bytes) -> bytes:
        """Encrypts content other than tokens."""
        return self._fernet.encrypt(content)

    def unseal(self, ciphertext: bytes) -> bytes:
        """Raises KeyUnavailable if `seal` did not make it with this key, or it was damaged."""
        try:
            return self._fernet.decrypt(ciphertext)
        except InvalidToken:
            raise KeyUnavailable(
                f"stored content cannot be decrypted with the key in {self._where}: restore key and database "
                "from the same backup"
            ) from None


async def unlock(database: Database, *, keyring: bool) -> Cipher:
    """The cipher of this database; makes its key at the first start.

    `keyring` False keeps a new key out of the OS keyring, so that the folder can be carried elsewhere. Raises
    KeyUnavailable if the key of an existing database is missing, unreadable or another one.
    """
    folder = database.file.parent
    record = await database.read(_recorded)
    if record is None:
        offer = await asyncio.to_thread(_offer) if keyring else None
        record = await database.write(lambda connection: _first(connection, offer, folder))
        if offer is not None and record != offer:
            await asyncio.to_thread(_bounded, lambda: _forget(offer), OFFER_TIMEOUT)
    return await asyncio.to_thread(_load, record, folder)


def _load(record: _Record, folder: Path) -> Cipher:
    if record.location.startswith(IN_KEYRING):
        entry = record.location.removeprefix(IN_KEYRING)
        where = f"the keyring of this system (service {SERVICE}, entry {entry})"
        key = _bounded(lambda: _keyring().get_password(SERVICE, entry), READ_TIMEOUT)
        lost = "unlock the keyring and try again"
    else:
        where = str(folder / FILE)
        key = _read_file(folder / FILE)
        lost = "restore the file from a backup"
    start_over = f"or move {folder / 'state.db'} away and log in again"
    if key is None:
        raise KeyUnavailable(f"{where} does not give the key of the stored logins: {lost}, {start_over}")
    if _fingerprint(key) != record.fingerprint:
        raise KeyUnavailable(f"{where} holds another key than the stored logins need: {lost}, {start_over}")
    return Cipher(key.encode(), where)


def _fingerprint(key: str) -> str:
    return hashlib.sha256(b"openai-auth-proxy key " + key.encode()).hexdigest()[:16]


def _first(connection: Connection, offer: _Record | None, folder: Path) -> _Record:
    """The record that another process was faster to make, else ours."""
    if (record := _recorded(connection)) is not None:
        return record
    record = offer or _Record(IN_FILE, _fingerprint(_make_file(folder / FILE)))
    _remember(connection, record)
    return record


def _recorded(connection: Connection) -> _Record | None:
    rows = {row.key: row.value for row in connection.execute(select(schema.meta))}
    if "key_location" not in rows or "key_fingerprint" not in rows:
        return None
    return _Record(rows["key_location"], rows["key_fingerprint"])


def _remember(connection: Connection, record: _Record) -> None:
    connection.execute(
        insert(schema.meta),
        [
            {"key": "key_location", "value": record.location},
            {"key": "key_fingerprint", "value": record.fingerprint},
        ],
    )


def _read_file(file: Path) -> str | None:
    try:
        return file.read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise KeyUnavailable(f"{file} cannot be read: check its owner and mode, or restore it") from None


def _make_file(file: Path) -> str:
    """The key in `file`, made if there is none. Call it while holding the database's write lock."""
    if (key := _read_file(file)) is not None:
        try:
            Fernet(key)
        except ValueError:
            raise KeyUnavailable(
                f"{file} does not hold a key: move it away, a new one is made then"
            ) from None
        file.chmod(0o600)
        return key
    key = Fernet.generate_key().decode()
    # Complete or absent, also after a power cut: written beside, then renamed.
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "w", encoding="ascii") as stream:
        stream.write(key + "\n")
        stream.flush()
        os.fsync(descriptor)
    draft.replace(file)
    _sync_folder(file.parent)
    return key


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows does not open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _offer() -> _Record | None:
    """Puts a new key under a name of its own into the OS keyring; None if there is no keyring that works.

    The name is random, so that two processes, or two folders, never overwrite each other's key.
    """
    entry, key = secrets.token_hex(8), Fernet.generate_key().decode()

    def store() -> bool:
        backend = _keyring()
        if backend.priority < MINIMUM_PRIORITY:
            return False
        backend.set_password(SERVICE, entry, key)
        return backend.get_password(SERVICE, entry) == key

    if not _bounded(store, OFFER_TIMEOUT):
        return None
    return _Record(IN_KEYRING + entry, _fingerprint(key))


def _keyring() -> KeyringBackend:
    # Imported when it is needed: looking for backends takes as long as all else that opens a store.
    import keyring

    return keyring.get_keyring()


def _forget(record: _Record) -> None:
    _keyring().delete_password(SERVICE, record.location.removeprefix(IN_KEYRING))


def _bounded[T](call: Callable[[], T], timeout: float) -> T | None:
    """The call's answer; None if it raises or takes longer.

    A keyring may wait for a dialog nobody sees; its thread is a daemon, so that it cannot hold up the exit.
    """
    answers: list[T] = []

    def run() -> None:
        with contextlib.suppress(Exception):  # backends raise whatever their libraries raise
            answers.append(call())

    thread = threading.Thread(target=run, name="keyring", daemon=True)
    thread.start()
    thread.join(timeout)
    return answers[0] if answers else None
