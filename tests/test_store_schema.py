"""The schema: migrations give the tables that the code uses, older databases come along, newer ones are refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

import codesign_kernel as ck
from codesign_kernel.errors import SchemaError
from codesign_kernel.store import digest_of, migrate
from codesign_kernel.store.database import Database, address
from codesign_kernel.store.schema import VERSION_TABLE, Table

ROOT = Path(__file__).parent.parent


def at_version(url: str, version: str) -> Database:
    """A database with the schema of an older release."""
    database = Database(address(url))
    with database.write() as connection:
        config = migrate.config()
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    return database


def test_the_migrations_make_the_tables(store_url: str) -> None:
    with ck.Store(store_url) as store:
        assert store.schema == migrate.known()[-1]
    database = Database(address(store_url))
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Table.metadata) == []
        names = set(inspect(connection).get_table_names())
    assert names == {*Table.metadata.tables, VERSION_TABLE}
    assert all(name.startswith("codesign_") for name in names)
    database.close()


def test_every_migration_goes_back(store_url: str) -> None:
    database = at_version(store_url, "head")
    with database.write() as connection:
        config = migrate.config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with database.read() as connection:
        assert inspect(connection).get_table_names() == [VERSION_TABLE]
    database.close()


def test_an_older_database_comes_along(store_url: str) -> None:
    database = at_version(store_url, "0001")
    with database.write() as connection:
        connection.execute(text("INSERT INTO codesign_artefact VALUES (:d, 1, :c)"), {"d": "ab" * 32, "c": b"x"})
    with database.read() as connection:
        assert "codesign_cache" not in inspect(connection).get_table_names()
    with ck.Store(store_url) as store:
        assert store.schema == "0003"
        store.cache.put(digest_of(1), b"works")
        assert store.health()["cache"]["database"]["errors"] == 0
    with database.read() as connection:
        assert connection.execute(text("SELECT digest FROM codesign_artefact")).scalars().all() == ["ab" * 32]
    database.close()


def test_a_failed_migration_changes_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = at_version(store_url, "0001")
    upgrade = command.upgrade

    def interrupted(config: object, version: str) -> None:
        upgrade(config, version)
        raise KeyboardInterrupt

    monkeypatch.setattr(migrate.command, "upgrade", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ck.Store(store_url)
    with database.read() as connection:
        assert migrate.version(connection) == "0001"
        assert "codesign_cache" not in inspect(connection).get_table_names()
    database.close()


def test_a_newer_database_is_refused(store_url: str) -> None:
    database = at_version(store_url, "head")
    with database.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0099'"))
    with pytest.raises(SchemaError, match=r"has schema 0099, .* up to 0003; install the release that wrote it"):
        ck.Store(store_url)
    with database.read() as connection:
        assert migrate.version(connection) == "0099", "it was left alone"
    database.close()


def test_other_tables_stand_beside(store_url: str) -> None:
    """As those of Optuna do, which also has a table of Alembic's."""
    database = Database(address(store_url))
    with database.write() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('v3.2.0.a')"))
        connection.execute(text("CREATE TABLE studies (id INTEGER)"))
    with ck.Store(store_url) as store:
        store.study("s", digest_of(0), ["a"])
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "v3.2.0.a"
        assert connection.execute(text("SELECT count(*) FROM studies")).scalar_one() == 0
    database.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_processes_that_open_a_new_store_at_once(store_url: str) -> None:
    code = (
        "import sys, codesign_kernel.store as c; print('ready', flush=True); sys.stdin.readline(); "
        "s = c.Store(sys.argv[1], patience_s=0); print(s.schema, s.keep('design', {'rows': 4}))"
    )
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", code, store_url], cwd=ROOT, **pipes) for _ in range(6)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 6
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = {process.communicate(timeout=250)[0] for process in running}
    assert [process.returncode for process in running] == [0] * 6
    assert len(told) == 1
    with ck.Store(store_url) as store:
        assert len(store.records()) == 1


def test_threads_that_open_new_stores_at_once(tmp_path: Path) -> None:
    """Alembic's own state is global, so that they take turns."""
    schemas = []
    barrier = threading.Barrier(4)

    def open_one(number: int) -> None:
        barrier.wait()
        with ck.Store(tmp_path / f"{number % 2}.db") as store:
            schemas.append(store.schema)

    threads = [threading.Thread(target=open_one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert schemas == [migrate.known()[-1]] * 4


def test_the_migrations_are_found_where_they_are_installed() -> None:
    folder = Path(migrate.config().get_main_option("script_location"))
    assert folder == ROOT / "codesign_kernel" / "store" / "migrations"
    assert migrate.known() == ("0001", "0002", "0003")


def test_what_is_deleted_is_overwritten_at_once(tmp_path: Path) -> None:
    """``secure_delete``: before any VACUUM, a page from which rows were deleted holds nothing of them.

    The same words are written and deleted by a connection without it, and stay there: so the test can tell.
    """

    def left(path: Path, setting: str) -> bool:
        with ck.Store(path) as store:
            with store._database.write() as connection:
                connection.exec_driver_sql("CREATE TABLE page (words TEXT)")
                connection.exec_driver_sql("INSERT INTO page VALUES ('kept')")
                connection.exec_driver_sql("INSERT INTO page VALUES (?)", ("canary" * 40,))
            with store._database.engine.connect() as connection:
                raw = connection.connection.cursor()
                if setting:
                    raw.execute(setting)
                raw.execute("DELETE FROM page WHERE words <> 'kept'")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return b"canary" in path.read_bytes()

    assert left(tmp_path / "without.db", "PRAGMA secure_delete = OFF")
    assert not left(tmp_path / "with.db", "")
