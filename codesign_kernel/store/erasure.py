"""How all that is one person's goes: rows in one transaction, then the files, then what the database remembers."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, or_, select, text, update

from codesign_kernel.errors import StoreError, StoreUnavailableError
from codesign_kernel.store.artefacts import Artefacts
from codesign_kernel.store.database import Database
from codesign_kernel.store.records import Key
from codesign_kernel.store.schema import (
    ArtefactRow,
    BatchRow,
    BelongingRow,
    CacheRow,
    ConsentRow,
    EvaluationRow,
    FileRow,
    JobEventRow,
    JobRow,
    LinkRow,
    LoginRow,
    PersonRow,
    ProvenanceRow,
    RecordRow,
    StateRow,
    StudyRecordRow,
    StudyRow,
    TokenRow,
)

#: Rows of one statement.
_MANY = 500


def lock_out(database: Database, subject: str) -> dict[str, int]:
    """End all sessions and tokens of a person, who cannot come in again; how many of each that were."""
    with database.write() as connection:
        connection.execute(update(PersonRow).where(PersonRow.subject == subject).values(disabled=True))
        return _ways_in(connection, subject)


def _ways_in(connection: Connection, subject: str) -> dict[str, int]:
    ways: tuple[tuple[str, Any], ...] = (("sessions", LoginRow), ("tokens", TokenRow))
    return {name: connection.execute(delete(table).where(table.owner == subject)).rowcount for name, table in ways}


def delete_person(connection: Connection, subject: str) -> dict[str, int]:
    """Delete every row of ``subject`` within a transaction; how many of each kind that were."""

    def gone(table: Any, *where: Any) -> int:
        return int(connection.execute(delete(table).where(*where)).rowcount)

    mine = select(JobRow.id).where(JobRow.owner == subject)
    events = gone(JobEventRow, JobEventRow.job_id.in_(mine))
    counts = {
        "belongings": gone(BelongingRow, or_(BelongingRow.owner == subject, BelongingRow.job_id.in_(mine))),
        "events": events,
        "jobs": gone(JobRow, JobRow.owner == subject),
        **delete_studies(connection, StudyRow.owner == subject),
        "cache": gone(CacheRow, CacheRow.owner == subject),
        "consents": gone(ConsentRow, ConsentRow.owner == subject),
        **_ways_in(connection, subject),
        "people": gone(PersonRow, PersonRow.subject == subject),
    }
    return counts


def delete_studies(connection: Connection, *where: Any) -> dict[str, int]:
    """Delete studies with all that is only theirs, records too: {"studies", "evaluations", "records", "artefacts"}."""
    found = connection.execute(select(StudyRow.id, StudyRow.provenance_id).where(*where)).all()
    about: set[Key] = set()
    origins: set[int] = set()
    evaluations = 0
    for study, origin in found:
        records = select(StudyRecordRow.kind, StudyRecordRow.digest).where(StudyRecordRow.study_id == study)
        about.update((row.kind, row.digest) for row in connection.execute(records))
        batches = select(BatchRow.provenance_id).where(BatchRow.study_id == study)
        origins |= {origin, *connection.execute(batches).scalars()}
        evaluations += connection.execute(delete(EvaluationRow).where(EvaluationRow.study_id == study)).rowcount
        for table in (StateRow, StudyRecordRow, BatchRow):
            connection.execute(delete(table).where(table.study_id == study))
        connection.execute(delete(StudyRow).where(StudyRow.id == study))
    _delete_in(connection, ProvenanceRow.id, origins)
    records_gone, artefacts_gone = _delete_records(connection, about)
    return {
        "studies": len(found),
        "evaluations": evaluations,
        "records": records_gone,
        "artefacts": artefacts_gone,
    }


def _delete_records(connection: Connection, keys: set[Key]) -> tuple[int, int]:
    """Delete those records that no study is about and no record was made from, and then those that they came from."""
    records, artefacts = 0, set[str]()
    todo = sorted(keys)
    while todo:
        kind, digest = todo.pop()
        used = select(StudyRecordRow.kind).where(StudyRecordRow.kind == kind, StudyRecordRow.digest == digest)
        origin = select(LinkRow.kind).where(LinkRow.to_kind == kind, LinkRow.to_digest == digest)
        if connection.execute(used).first() or connection.execute(origin).first():
            continue
        is_it = (RecordRow.kind == kind, RecordRow.digest == digest)
        number = connection.execute(select(RecordRow.provenance_id).where(*is_it)).scalar_one_or_none()
        if number is None:
            continue
        files = (FileRow.kind == kind, FileRow.digest == digest)
        artefacts.update(connection.execute(select(FileRow.artefact).where(*files)).scalars())
        links = (LinkRow.kind == kind, LinkRow.digest == digest)
        todo += [
            (row[0], row[1]) for row in connection.execute(select(LinkRow.to_kind, LinkRow.to_digest).where(*links))
        ]
        connection.execute(delete(FileRow).where(*files))
        connection.execute(delete(LinkRow).where(*links))
        connection.execute(delete(RecordRow).where(*is_it))
        _delete_in(connection, ProvenanceRow.id, {number})
        records += 1
    wanted = select(FileRow.artefact)
    orphans = {a for a in artefacts if connection.execute(wanted.where(FileRow.artefact == a)).first() is None}
    return records, _delete_in(connection, ArtefactRow.digest, orphans)


def _delete_in(connection: Connection, column: Any, values: Iterable[Any]) -> int:
    count, ordered = 0, sorted(values)
    for start in range(0, len(ordered), _MANY):
        count += connection.execute(delete(column.class_).where(column.in_(ordered[start : start + _MANY]))).rowcount
    return count


def sweep_files(database: Database, artefacts: Artefacts) -> int:
    """Remove the artefact files beside SQLite that no row speaks of; how many that were.

    Whoever writes an artefact holds the database's lock from before the file until after its row, so that with the lock
    in hand no file is somebody's who has not finished.

    Raises:
        StoreError: a file cannot be removed.
    """
    folder = artefacts.folder
    if folder is None or not folder.is_dir():
        return 0
    count = 0
    with database.write() as connection:
        for path in sorted(folder.glob("*/*")):
            known = select(ArtefactRow.digest).where(ArtefactRow.digest == path.name)
            if connection.execute(known).first() is None:
                _remove(path)
                count += 1
    for inner in folder.iterdir():
        with suppress(OSError):  # it is not empty
            inner.rmdir()
    return count


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror or error}; remove it, then repeat") from error


def scrub(database: Database, *, whole: bool) -> None:
    """Make the database forget what was deleted: nothing of it is left in SQLite's file or log of writes.

    SQLite overwrites what is deleted (``secure_delete``); the log of writes is put into the file and cut, and with
    ``whole`` the file is written anew. PostgreSQL gives the room of deleted rows free (VACUUM); its log of writes
    and its own backups keep them until they are overwritten.

    Raises:
        StoreUnavailableError: a reader kept SQLite's log in use.
        StoreError: the database refused.
    """
    if database.path is None:
        tables = ", ".join(sorted(f'"{name}"' for name in ProvenanceRow.metadata.tables))
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"VACUUM {tables}"))
        return
    raw = database.engine.raw_connection()
    try:
        cursor = raw.cursor()
        if whole:
            cursor.execute("VACUUM")
        busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        cursor.close()
    except sqlite3.Error as error:
        raise StoreError(f"{database.place} could not forget what was deleted ({error}); repeat it") from error
    finally:
        raw.close()
    if busy:
        raise StoreUnavailableError(
            f"somebody has been reading {database.place} for so long that its log still holds what was deleted; "
            "repeat it"
        )
