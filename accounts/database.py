"""One SQLite file, shared safely by several processes: how it is opened, written, watched and mistrusted.

The one idea: SQLite's own locks are the only lock between processes. A write takes the write lock at its
start (`BEGIN IMMEDIATE`), so that what it reads cannot change before it writes, and a commit is on the disk
before it returns (`synchronous=FULL`), so that a killed process loses nothing it was told is stored.

A whole transaction runs in one thread, as plain synchronous code (`reads`, `writes`): the event loop is asked once
for each, where a driver that hops to its thread for every statement would cost it more than all the rest.

The rule that must not be broken: a file that cannot be read is reported and left as it is; nothing here ever
deletes, truncates or replaces it. And no file of ours is readable by others, not even for a moment: SQLite
gives its `-wal` and `-shm` files the mode of the database, which is created with 0600 before SQLite sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Self

from sqlalchemy import Connection, Engine, create_engine, delete, event, or_, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from accounts import schema
from accounts.models import AccountsError, StoreDamaged, StoreUnavailable

FILE = "state.db"
BUSY_TIMEOUT = 10.0
"""Seconds a statement waits for another process's write."""
READERS = 3
"""Threads for reading; more at once wait."""
HEADER = b"SQLite format 3\x00"

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
UNUSABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
}
"""SQLite's primary result codes, by what they mean to a person."""


def reads[S: Database, **P, R](
    method: Callable[Concatenate[S, Connection, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Makes a method of a `Database` asynchronous: what it does is one `read`."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.read(lambda connection: method(self, connection, *args, **kwargs))

    return run


def writes[S: Database, **P, R](
    method: Callable[Concatenate[S, Connection, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Makes a method of a `Database` asynchronous: what it does is one `write`."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.write(lambda connection: method(self, connection, *args, **kwargs))

    return run


class Database:
    """The open file. Subclasses say what is in it, in methods that are marked `reads` or `writes`.

    A caller that is cancelled, as when a client hangs up, cuts no transaction: it ends in its thread.
    """

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        self.file = file
        self.clock = clock
        self.engine = _engine(file)
        # Two writers of one process would wait for each other in SQLite's coarse sleeps.
        self._writer = ThreadPoolExecutor(1, "store writer")
        self._readers = ThreadPoolExecutor(READERS, "store reader")
        self._watcher: Connection | None = None
        self._watchers = 0
        self._watching = threading.Lock()

    @classmethod
    async def _open(cls, folder: Path, clock: Callable[[], float] = time.time) -> Self:
        file = folder / FILE
        await asyncio.to_thread(_secure, folder, file)
        self = cls(file, clock)
        try:
            found = await self.read(lambda connection: schema.version_of(connection, str(file)))
            if found < schema.VERSION:
                await self.write(lambda connection: schema.upgrade(connection, str(file)))
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Ends every connection, when what is running has ended; call it once, at the end."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for threads in (self._writer, self._readers):
            threads.shutdown()
        if self._watcher is not None:
            self._watcher.close()
        self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read[R](self, work: Callable[[Connection], R]) -> R:
        """Does `work` on one consistent view, which never waits for a writer."""
        return await _in_thread(self._readers, lambda: self._transaction("BEGIN", work))

    async def write[R](self, work: Callable[[Connection], R]) -> R:
        """Does `work` holding the write lock; committed to the disk at its end, undone on an exception."""
        return await _in_thread(self._writer, lambda: self._transaction("BEGIN IMMEDIATE", work))

    def _transaction[R](self, begin: str, work: Callable[[Connection], R]) -> R:
        with self.engine.connect().execution_options(begin=begin) as connection, connection.begin():
            return work(connection)

    async def version(self) -> int:
        """A number that changes with every commit to the file, by whichever process; costs some 0.1 ms."""
        return await _in_thread(self._readers, self._version)

    def _version(self) -> int:
        # `data_version` counts the commits of all other connections, and is relative to the one that asks.
        with self._watching:
            if self._watcher is None:
                self._watcher = self.engine.connect().execution_options(begin=None)
                self._watchers += 1
            try:
                commits = int(self._watcher.exec_driver_sql("PRAGMA data_version").scalar_one())
            except BaseException:
                broken, self._watcher = self._watcher, None
                broken.close()
                raise
        return self._watchers << 32 | commits

    @reads
    def check(self, connection: Connection) -> str | None:
        """Reads the whole file; None if it is sound, else what SQLite found. For `openai-auth doctor`."""
        found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one())
        return None if found == "ok" else found

    @contextlib.asynccontextmanager
    async def lease(self, name: str, ttl: float, *, keep: bool = False) -> AsyncIterator[bool]:
        """Tries to be the only one, among all processes, who does `name` for at most `ttl` seconds.

        Yields at once, with whether it worked. A lease that its owner did not give back (a killed process) is
        free again after its `ttl`. `keep` makes it last as long as the work does.
        """
        owner = secrets.token_hex(8)
        acquired = True  # until we know better: a caller that is cancelled here may have got it
        keeper: asyncio.Task[None] | None = None
        try:
            acquired = await self._take_lease(name, owner, ttl)
            if acquired and keep:
                keeper = asyncio.create_task(self._keep_lease(name, owner, ttl))
            yield acquired
        finally:
            if keeper:
                keeper.cancel()
            if acquired:
                await self._give_lease_back(name, owner)

    async def _keep_lease(self, name: str, owner: str, ttl: float) -> None:
        while True:
            await asyncio.sleep(ttl / 3)
            with contextlib.suppress(AccountsError):
                await self._extend_lease(name, owner, ttl)

    @writes
    def _extend_lease(self, connection: Connection, name: str, owner: str, ttl: float) -> None:
        mine = (schema.leases.c.name == name) & (schema.leases.c.owner == owner)
        connection.execute(update(schema.leases).where(mine).values(until=self.clock() + ttl))

    @writes
    def _take_lease(self, connection: Connection, name: str, owner: str, ttl: float) -> bool:
        now = self.clock()
        row = insert(schema.leases).values(name=name, owner=owner, until=now + ttl)
        free = or_(schema.leases.c.until <= now, schema.leases.c.until > now + 86_400)  # the clock went back
        taken = connection.execute(
            row.on_conflict_do_update(
                index_elements=["name"],
                set_={"owner": row.excluded.owner, "until": row.excluded.until},
                where=free,
            )
        )
        return taken.rowcount == 1

    @writes
    def _give_lease_back(self, connection: Connection, name: str, owner: str) -> None:
        mine = (schema.leases.c.name == name) & (schema.leases.c.owner == owner)
        connection.execute(delete(schema.leases).where(mine))


async def _in_thread[R](threads: ThreadPoolExecutor, work: Callable[[], R]) -> R:
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(threads, work))


def _secure(folder: Path, file: Path) -> None:
    """Makes folder and file with the right modes, or corrects them; refuses what is not a database."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _tighten(folder, 0o700)
        wal = file.with_name(file.name + "-wal")
        # Looked at before the database: SQLite writes the first page before it begins a log.
        logged = wal.exists() and wal.stat().st_size > 0
        with contextlib.suppress(FileExistsError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        for each in (file, wal, file.with_name(file.name + "-shm")):
            _tighten(each, 0o600)
        with file.open("rb") as stream:
            header = stream.read(len(HEADER))
    except OSError as error:
        raise StoreUnavailable(
            f"{file} cannot be used ({error.strerror}): check the folder and its owner"
        ) from error
    # SQLite takes an empty file for a new database, and drops the log beside it.
    if header != HEADER and (header or logged):
        raise _damaged(file, "it does not begin like a database")


def _tighten(path: Path, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mode & 0o777 & ~mode:
            path.chmod(mode)


def _damaged(file: Path, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"{file} is damaged ({what}); it was left as it is. Restore it from a backup, or move it away "
        "together with its -wal and -shm files and log in again"
    )


def _engine(file: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(file)),
        connect_args={"timeout": BUSY_TIMEOUT},
        pool_size=READERS + 2,  # the writer's, the watcher's
        hide_parameters=True,  # parameters are tokens and session keys; they must not be part of an error
    )

    @event.listens_for(engine, "connect")
    def connected(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # Transactions are begun below, not by the driver, which begins them too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
                cursor.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise _explain(file, error) or error from error
        finally:
            cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if statement := connection.get_execution_options().get("begin", "BEGIN"):
            connection.exec_driver_sql(statement)

    # `retval`: what the listener returns is raised in place of SQLAlchemy's own error.
    @event.listens_for(engine, "handle_error", retval=True)
    def failed(context: ExceptionContext) -> BaseException | None:
        return _explain(file, context.original_exception)

    return engine


def _explain(file: Path, error: BaseException) -> AccountsError | None:
    """Our word for what SQLite could not do; None: a mistake of ours, which stays what it is."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in DAMAGED:
        return _damaged(file, str(error))
    if code in LOCKED:
        return StoreUnavailable(
            f"{file} was kept locked by another process for {BUSY_TIMEOUT:.0f} seconds: try again, "
            "and end the process that hangs"
        )
    if code in UNUSABLE:
        return StoreUnavailable(f"{file} cannot be used ({error}): check disk space, owner and mode")
    return None
