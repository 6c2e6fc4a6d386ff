"""The schema's versions: an older database is brought up to date, a newer one is refused."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from codesign_kernel.errors import SchemaError
from codesign_kernel.store.database import Database
from codesign_kernel.store.schema import VERSION_TABLE

#: Any number, the same everywhere: two processes that open a new PostgreSQL store take turns by it.
_LOCK = 0x636F646573


#: Alembic runs one migration at a time in a process: what its files call is global.
_ALEMBIC = threading.Lock()


def config() -> Config:
    """Alembic's configuration: the migrations that are installed with this package."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return made


@cache
def known() -> tuple[str, ...]:
    """The versions of the schema, oldest first."""
    script = ScriptDirectory.from_config(config())
    return tuple(revision.revision for revision in script.walk_revisions())[::-1]


def version(connection: Connection) -> str | None:
    """The version of the schema that a database has; ``None`` if it holds no store."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def upgrade(database: Database) -> str:
    """Bring ``database`` to the newest version, in one transaction; the version that it has then.

    Raises:
        SchemaError: it has a version that this release does not know.
        StoreError: it cannot be read or written.
    """
    newest = known()[-1]
    with database.read() as connection:
        _refuse_newer(database, version(connection))
        if version(connection) == newest:
            return newest
    with _ALEMBIC, database.write(for_long=True) as connection:
        if database.path is None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        _refuse_newer(database, version(connection))  # another process may have come first
        made = config()
        made.attributes["connection"] = connection
        command.upgrade(made, newest)
    return newest


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is not None and found not in known():
        raise SchemaError(
            f"the store {database.place} has schema {found[:40]}, and this release knows those up to {known()[-1]}; "
            "install the release that wrote it, or name another store"
        )
