"""The database: SQLite or PostgreSQL, transactions that read and such that write, errors in plain words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Pool, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from codesign_kernel.errors import InvalidInputError, StoreError, StoreFullError, StoreUnavailableError
from codesign_kernel.store.schema import Table

#: Seconds that a process waits for another one to finish writing, before it says so.
BUSY_S = 30.0
#: Seconds without a sign of PostgreSQL, after which it counts as away: it may be suspended, or behind a network that is
#: gone, or another process may hold what is asked for. Its own ``statement_timeout`` does not end a wait for it.
SILENT_S = 20.0
_WRITES = "codesign_writes"
#: SQLite's codes for a disk (or a quota, or a limit) that takes no more; the second to fifth are failed writes.
_FULL = {sqlite3.SQLITE_FULL, *(sqlite3.SQLITE_IOERR | (n << 8) for n in (3, 4, 6, 19))}
_POSTGRES_FULL = "53100"

Result = TypeVar("Result")

_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
_OPENED: weakref.WeakSet[Database] = weakref.WeakSet()
_INHERITED: list[Pool] = []


def _leave_to_the_parent() -> None:
    """In a forked child: the connections belong to the parent, so they are neither used nor closed."""
    for engine in _ENGINES:
        _INHERITED.append(engine.pool)
        engine.dispose(close=False)
    for database in _OPENED:
        database._turn = threading.RLock()  # a thread of the parent's may hold it, and is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def data_root() -> Path:
    """``$CODESIGN_DATA_DIR``, else ``codesign`` in ``$XDG_DATA_HOME``, else in ``~/.local/share``."""
    given = os.environ.get("CODESIGN_DATA_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "codesign"


def address(url: str | os.PathLike[str] | None) -> URL:
    """What ``url`` names: a file of SQLite, ``sqlite:///file`` or ``postgresql://...``; ``store.db`` without.

    Raises:
        InvalidInputError: another database, or one in memory.
    """
    if url is None:
        url = data_root() / "store.db"
    if not isinstance(url, str) or "://" not in url:
        return URL.create("sqlite", database=os.path.abspath(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # the text may hold a password: it is not repeated
        raise InvalidInputError(f"the store's URL cannot be read ({type(error).__name__}); {_FORMS}") from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InvalidInputError(f"a store is SQLite or PostgreSQL, but got {backend!r:.40}; {_FORMS}")
    if not parsed.database or parsed.database.startswith((":", "file:")) or parsed.query:
        raise InvalidInputError(
            f"a store in SQLite is a file, so that processes can share it, but got {url!r:.80}; {_FORMS}"
        )
    return URL.create("sqlite", database=os.path.abspath(parsed.database))


_FORMS = "write a path, sqlite:///path or postgresql://user@host/database"


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """A new connection. ``isolation_level`` None leaves BEGIN to :func:`_begin`: sqlite3's own never covers CREATE."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # what was committed survives a power cut
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not only forgotten
    deadline_s = time.monotonic() + BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # the change of mode does not wait for others as everything else does
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)


def _begin(connection: Connection) -> None:
    """A writer locks at once: one that read first and then wrote would be refused, not made to wait."""
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _impatient(_dialect: object, _record: object, args: Sequence[Any], given: dict[str, Any]) -> Any:
    """A connection to PostgreSQL that waits no longer than ``SILENT_S``, nor does the server for it."""
    from codesign_kernel.store.impatient import ImpatientConnection

    return ImpatientConnection.within(SILENT_S, *args, **given)


class Database:
    """One database, opened. Threads may share it; a forked child gets connections of its own.

    Args:
        url: of :func:`address`.
        patience_s: how long :meth:`patiently` goes on.

    Raises:
        StoreError: the folder of an SQLite file cannot be made.
    """

    def __init__(self, url: URL, patience_s: float = 30.0) -> None:
        self.url, self.patience_s = url, patience_s
        self._turn = threading.RLock()
        #: the file of SQLite; None with PostgreSQL
        self.path = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"a store needs a folder that can be written to, but {self.path.parent}: "
                    f"{error.strerror or error}; choose another, or set CODESIGN_DATA_DIR"
                ) from error
            self.engine = create_engine(url, connect_args={"timeout": BUSY_S})
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin)
        else:
            waits = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
            given = {name: value for name, value in waits.items() if name not in url.query}
            self.engine = create_engine(
                url, connect_args=given, pool_pre_ping=True, pool_timeout=SILENT_S, use_insertmanyvalues=False
            )
            event.listen(self.engine, "do_connect", _impatient)
        _ENGINES.add(self.engine)
        _OPENED.add(self)

    @property
    def place(self) -> str:
        """The database in words, without its password."""
        return str(self.path) if self.path is not None else self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Iterator[Connection]:
        """A transaction that reads; with ``snapshot`` all of it sees one moment (SQLite's always do).

        Raises:
            StoreError: the database refused.
        """
        with self._translating(), self.engine.connect() as connection:
            if snapshot and self.path is None:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, *, for_long: bool = False) -> Iterator[Connection]:
        """A transaction that writes: all of it or nothing.

        ``for_long``: one statement may take as long as it takes, as a new version of the schema does.

        Raises:
            StoreFullError: the disk is full.
            StoreUnavailableError: it cannot be reached, or another process has been writing for ``BUSY_S``.
            StoreError: the database refused.
        """
        with self._alone(), self._translating(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin(), self._for_long(connection) if for_long else nullcontext():
                yield connection

    @contextmanager
    def _for_long(self, connection: Connection) -> Iterator[None]:
        """Nothing of PostgreSQL's ends a statement meanwhile."""
        if self.path is not None:
            yield
            return
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        held: Any = connection.connection.dbapi_connection
        before, held.silent_s = held.silent_s, float("inf")
        try:
            yield
        finally:
            held.silent_s = before

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One of this process's threads writes to SQLite at a time, without a connection until it is its turn.

        SQLite itself lets writers sleep up to 0.1 s and try again, so that some would wait for seconds.
        """
        if self.path is None:
            yield
            return
        turn = self._turn
        if not turn.acquire(timeout=BUSY_S):
            raise StoreUnavailableError(
                f"another thread has been writing to {self.place} for {BUSY_S:g} s; wait for it, then repeat"
            )
        try:
            yield
        finally:
            turn.release()

    def insert_new(self, connection: Connection, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert those of ``rows`` whose key is not there; how many that were."""
        if not rows:
            return 0
        dialect = sqlite if self.path is not None else postgresql
        statement = dialect.insert(table).on_conflict_do_nothing().inline()  # nobody wants the new keys back
        done = connection.execute(statement, list(rows), execution_options={"preserve_rowcount": True})
        return done.rowcount

    def replace(self, connection: Connection, table: type[Table], row: Mapping[str, Any]) -> None:
        """Insert ``row``, or take the place of the one with its key."""
        dialect = sqlite if self.path is not None else postgresql
        keys = {column.name for column in table.__table__.primary_key.columns}  # type: ignore[attr-defined]
        statement = dialect.insert(table).values(dict(row))
        others = {name: statement.excluded[name] for name in row if name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=sorted(keys), set_=others))

    def patiently(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns; while the database cannot be reached it is repeated, for ``patience_s``.

        ``work`` is written so that twice is the same as once: an answer may be lost after the writing was done.

        Raises:
            StoreUnavailableError: it could not be reached in all that time.
        """
        until_s, pause_s = time.monotonic() + self.patience_s, 0.05
        while True:
            try:
                return work()
            except StoreUnavailableError:
                if time.monotonic() + pause_s > until_s:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)

    def close(self) -> None:
        """Close the connections; it opens new ones if it is used again."""
        self.engine.dispose()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._in_words(error) from error
        except PoolTimeout as error:
            raise StoreUnavailableError(
                f"all connections to {self.place} are in use; use the store in fewer threads at once"
            ) from error

    def _in_words(self, error: DBAPIError) -> StoreError:
        told = str(error.orig).strip().split("\n")[0]
        code = getattr(error.orig, "sqlite_errorcode", 0) or 0
        if code in _FULL or code & 0xFF == sqlite3.SQLITE_FULL or _sqlstate(error) == _POSTGRES_FULL:
            return StoreFullError(
                f"the disk of the store {self.place} is full, and nothing was written ({told}); make room, then repeat"
            )
        if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreUnavailableError(
                f"another process has been writing to {self.place} for {BUSY_S:g} s; wait for it or end it, then repeat"
            )
        if code & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return StoreError(f"{self.place} is not a sound database ({told}); name another file, or restore this one")
        if self.path is None and isinstance(error, (OperationalError, InterfaceError)):
            return StoreUnavailableError(
                f"the store at {self.place} cannot be reached ({told}); start it, or check the URL"
            )
        return StoreError(f"the store {self.place} refused ({told}); check that it can be read and written")


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
