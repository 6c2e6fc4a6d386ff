"""A backup is put back: checked as a whole first, into an empty place, all of it or nothing; the erased stay erased."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import Connection, DateTime, LargeBinary, MetaData, Numeric, func, inspect, select, text

from codesign_kernel.errors import ArchiveError, InvalidInputError, OutputError, StoreError
from codesign_kernel.files import write_whole
from codesign_kernel.store import erasure, migrate
from codesign_kernel.store.artefacts import FILE_BYTES, Artefacts
from codesign_kernel.store.backup import FORMAT, MANIFEST, MARK, Places, digest_before
from codesign_kernel.store.database import Database, address
from codesign_kernel.store.digests import sha256
from codesign_kernel.store.schema import Table
from codesign_kernel.store.store import Store
from codesign_kernel.store.tombstones import Tombstones, tombstones_of

_PATH = re.compile(
    r"tables/codesign_[a-z_]{1,60}\.jsonl|artefacts/[0-9a-f]{64}|audit/[\w.-]{1,200}|keys/(keys|audit\.key)"
    r"|erased\.jsonl|settings\.json"
)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError, TypeError)
_ROWS, _BYTES = 500, 8 << 20
_PIECE = 1 << 20
_MANIFEST_BYTES = 256 << 20


class Backup:
    """A backup file, opened and checked as a whole; a context manager.

    Raises:
        ArchiveError: it is none, or was cut, damaged or changed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as stream:
                self._check_whole(stream)
            self._zip = zipfile.ZipFile(self.path)
        except OSError as error:
            raise ArchiveError(f"{self.path} cannot be read: {error.strerror or error}") from error
        except zipfile.BadZipFile as error:
            raise self.wrong("it is no zip") from error
        try:
            self._check_parts()
        except _BROKEN as error:
            self._zip.close()
            if isinstance(error, ArchiveError):
                raise
            raise self.wrong(f"a part of it cannot be read ({error})") from error

    def __enter__(self) -> Backup:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def wrong(self, why: str) -> ArchiveError:
        """What is raised for this file."""
        return ArchiveError(f"{self.path} is no sound backup, and nothing was restored: {why}; take another one")

    def _check_whole(self, stream: Any) -> None:
        end = stream.seek(0, os.SEEK_END) - 64
        if end < len(MARK):
            raise self.wrong("it is too short")
        stream.seek(end - len(MARK))
        mark, digest = stream.read(len(MARK)), stream.read(64)
        if mark != MARK:
            raise self.wrong("it does not end as a backup does: it was cut, or is something else")
        if digest_before(stream, end).encode() != digest:
            raise self.wrong("its content is not what was written")

    def _check_parts(self) -> None:
        names = self._zip.namelist()
        if self._zip.getinfo(MANIFEST).file_size > _MANIFEST_BYTES:
            raise self.wrong("its manifest is too large")
        self.manifest: dict[str, Any] = json.loads(self._zip.read(MANIFEST))
        if self.manifest["format"] != FORMAT:
            raise self.wrong(f"its format is {self.manifest['format']!r:.60}, not {FORMAT!r}")
        if self.manifest["schema"] not in migrate.known():
            raise self.wrong(
                f"its schema is {self.manifest['schema']!r:.40}, and this release knows those up to "
                f"{migrate.known()[-1]}; restore it with the release that wrote it"
            )
        self.files: Mapping[str, dict[str, Any]] = self.manifest["files"]
        if sorted(names) != sorted([*self.files, MANIFEST]):
            raise self.wrong("it holds other files than its manifest lists")
        for name, about in self.files.items():
            if not _PATH.fullmatch(name) or ".." in name:
                raise self.wrong(f"no file in it may be called {name!r:.80}")
            digest, size = _digest_of(self._zip, name)
            if (digest, size) != (about["sha256"], about["bytes"]):
                raise self.wrong(f"{name} is not what was written")

    def read(self, name: str) -> bytes:
        """A file of it."""
        return self._zip.read(name)

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of a table."""
        with self._zip.open(f"tables/{table}.jsonl") as stream:
            for line in stream:
                yield json.loads(line)


def _digest_of(opened: zipfile.ZipFile, name: str) -> tuple[str, int]:
    import hashlib

    digest, size = hashlib.sha256(), 0
    with opened.open(name) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def restore(
    path: str | os.PathLike[str],
    url: str | os.PathLike[str] | None,
    places: Places,
    *,
    erased: Path | None = None,
    revoke_tokens: bool = False,
) -> dict[str, int]:
    """Put a backup into an empty database and empty places; {"rows", "artefacts", "files", "erased": people}.

    Whoever is on a list of the erased - in the backup, in its place here, or in ``erased`` - is erased again.

    Args:
        path: of :func:`backup.back_up`.
        url: of the database, as of :class:`Store`; it may be of the other kind than the one that was backed up.
        places: where the rest goes.
        erased: a newer list of the erased than the backup's.
        revoke_tokens: no API token of the backup is good any more: those that were revoked since cannot be told.

    Raises:
        ArchiveError: the file is no sound backup; nothing was restored.
        InvalidInputError: something is there already, and was left alone.
        StoreError: the database refused; nothing was restored.
    """
    lists = [] if erased is None else [Tombstones(erased).all()]
    with Backup(path) as backup:
        files = _targets(backup, places)
        database = Database(address(url))
        new = database.path is not None and not database.path.exists()
        try:
            folder = Artefacts(database).folder
            _refuse_what_is_there(database, folder, list(files.values()))
            rows = _fill(backup, database, folder, new=new, revoke_tokens=revoke_tokens)
        finally:
            database.close()
        for name, target in files.items():
            _write_alone(target, backup.read(name))
        if "erased.jsonl" in backup.files:
            lists.append(tombstones_of(backup.read("erased.jsonl").decode(), "the backup"))
        artefacts = sum(name.startswith("artefacts/") for name in backup.files)
    tombstones = Tombstones(places.erased)
    for others in lists:
        tombstones.take(others)
    with Store(url) as store:
        gone = bury(store, tombstones)
    return {"rows": rows, "artefacts": artefacts, "files": len(files), "erased": gone}


def bury(store: Store, tombstones: Tombstones) -> int:
    """Erase again whoever is on the list and in the database; how many people that were.

    Raises:
        StoreError: the database refused.
    """
    database, count = store._database, 0
    listed = tombstones.all()
    for subject, done in listed.items():
        with database.write() as connection:
            here = any(erasure.delete_person(connection, subject).values())
        count += here
        if not done:
            tombstones.end(subject)
    if count:
        erasure.sweep_files(database, store._artefacts)
        erasure.scrub(database, whole=True)
    return count


def _targets(backup: Backup, places: Places) -> dict[str, Path]:
    """{path in the backup: where it goes}."""
    targets = {name: path for name, path in places.secrets().items() if name in backup.files}
    if places.audit is not None:
        for name in backup.files:
            if name.startswith("audit/"):
                targets[name] = places.audit.parent / name.removeprefix("audit/")
    return targets


def _refuse_what_is_there(database: Database, folder: Path | None, files: list[Path]) -> None:
    with database.read() as connection:
        known = [name for name in inspect(connection).get_table_names() if name in Table.metadata.tables]
        full = [n for n in known if connection.execute(text(f'SELECT 1 FROM "{n}" LIMIT 1')).first() is not None]
    if full:
        raise InvalidInputError(
            f"a backup goes into an empty database, but {database.place} has rows in {full[0]}; name another one"
        )
    taken = [path for path in ([] if folder is None else [folder]) if path.is_dir() and any(path.iterdir())]
    taken += [path for path in files if path.exists()]
    if taken:
        raise InvalidInputError(f"a backup overwrites nothing, but {taken[0]} is there; move it away, then repeat")


def _fill(backup: Backup, database: Database, folder: Path | None, *, new: bool, revoke_tokens: bool) -> int:
    """All rows and artefacts in one transaction, brought up to date; how many rows. A ``new`` file of SQLite goes if
    that fails."""
    try:
        with migrate._ALEMBIC, database.write() as connection:
            config = migrate.config()
            config.attributes["connection"] = connection
            if migrate.version(connection) is not None:  # made, and empty: its tables are those of another release
                command.downgrade(config, "base")
            command.upgrade(config, backup.manifest["schema"])
            rows = _tables(backup, connection, folder, revoke_tokens=revoke_tokens)
            command.upgrade(config, migrate.known()[-1])
        return rows
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if new and database.path is not None:
            database.close()
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    os.unlink(f"{database.path}{suffix}")
        if isinstance(error, _BROKEN) and not isinstance(error, InvalidInputError | ArchiveError):
            raise backup.wrong(f"a row does not fit its table ({type(error).__name__})") from error
        raise


def _tables(backup: Backup, connection: Connection, folder: Path | None, *, revoke_tokens: bool) -> int:
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name.startswith("codesign_"))
    total = 0
    for table in metadata.sorted_tables:
        if f"tables/{table.name}.jsonl" not in backup.files:
            continue
        count = 0
        for batch in _batches(_cells(backup, table, folder, revoke_tokens=revoke_tokens)):
            connection.execute(table.insert(), batch)
            count += len(batch)
        if count != backup.manifest["tables"][table.name]:
            raise backup.wrong(f"{table.name} has {count:,} rows, and its manifest says otherwise")
        total += count
        _go_on_counting(connection, table)
    if set(backup.manifest["tables"]) - set(metadata.tables):
        raise backup.wrong("it holds a table that its schema has not")
    return total


def _cells(backup: Backup, table: Any, folder: Path | None, *, revoke_tokens: bool) -> Iterator[dict[str, Any]]:
    """The rows of a table as the database takes them."""
    for row in backup.rows(table.name):
        cells = {name: _cell(table.columns[name].type, value) for name, value in row.items()}
        if table.name == "codesign_artefact":
            cells["content"] = _artefact(backup, cells["digest"], folder)
        if table.name == "codesign_token" and revoke_tokens:
            cells["revoked_at"] = cells["revoked_at"] or datetime.now(UTC)
        yield cells


def _cell(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, LargeBinary):
        return base64.b64decode(value, validate=True)
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(value).astimezone(UTC)
    return float(value) if isinstance(kind, Numeric) else value


def _artefact(backup: Backup, digest: str, folder: Path | None) -> bytes | None:
    """What goes into the row: the content, or nothing where it went into a file beside SQLite's."""
    content = backup.read(f"artefacts/{digest}")
    if sha256(content) != digest:
        raise backup.wrong(f"the artefact {digest} is another one")
    if folder is None or len(content) <= FILE_BYTES:
        return content
    _write(folder / digest[:2] / digest, content)
    return None


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(cell) for cell in row.values() if isinstance(cell, bytes | str))
        if len(batch) >= _ROWS or size > _BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _go_on_counting(connection: Connection, table: Any) -> None:
    """PostgreSQL numbers new rows by a sequence of its own, which does not see numbers that are given."""
    if connection.dialect.name != "postgresql" or "id" not in table.columns:
        return
    sequence = connection.execute(select(func.pg_get_serial_sequence(table.name, "id"))).scalar()
    if sequence is not None:
        last = select(func.coalesce(func.max(table.c.id), 0)).scalar_subquery()
        connection.execute(select(func.setval(text(f"'{sequence}'"), last + 1, False)))


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OutputError as error:
        raise StoreError(f"{error}") from error


def _write_alone(path: Path, content: bytes) -> None:
    """A file for its owner alone, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}; check the folder") from error
