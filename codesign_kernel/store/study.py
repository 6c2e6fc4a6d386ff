"""A study: the evaluations of one exploration, each design once, and the state of its sampler."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, select

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store import rows
from codesign_kernel.store.database import Database
from codesign_kernel.store.digests import checked_name
from codesign_kernel.store.provenance import Provenance, insert_provenance
from codesign_kernel.store.records import Key, checked_key, read_record
from codesign_kernel.store.schema import BatchRow, EvaluationRow, ProvenanceRow, StateRow, StudyRecordRow

if TYPE_CHECKING:
    import pandas as pd

#: Rows that are written at once.
_WRITTEN = 50_000
#: Rows that are read at once: few enough for PostgreSQL to hand them over from memory, for a full disk has no room.
_READ = 5_000
#: What both databases take in one value.
_STATE_BYTES = 900 << 20


@dataclass(frozen=True)
class Study:
    """One exploration that is kept. :meth:`Store.study` makes or opens it.

    Attributes:
        name: its name in the store.
        space_digest: of the space that its design numbers count.
        objectives: what was sought, as plain data.
        data: what else its maker keeps of it, as plain data.
        number: of its row.
    """

    name: str
    space_digest: str
    objectives: Any
    data: Any
    number: int
    _database: Database

    def __len__(self) -> int:
        """Designs that have been evaluated."""
        with self._database.read() as connection:
            count = select(func.count()).where(EvaluationRow.study_id == self.number)
            return int(connection.execute(count).scalar_one())

    def frame(self) -> pd.DataFrame:
        """All evaluations: one row a design, its number the index, in the order of the numbers."""
        with self._database.read(snapshot=True) as connection:
            return read_evaluations(connection, self.number)

    def attach(self, kind: str, digest: str) -> None:
        """Say that the study is about a record; it is then exported with it.

        Raises:
            InvalidInputError: the store has no such record.
        """
        key = checked_key((kind, digest))
        with self._database.write() as connection:
            if read_record(connection, key) is None:
                raise InvalidInputError(f"the store has no {kind} {digest}; keep it first")
            attach(self._database, connection, self.number, key)

    def recorder(self, seed: int | None = None) -> Recorder:
        """Where an exploration with this ``seed`` writes what it found."""
        return Recorder(self, seed)


class Recorder:
    """Writes evaluations as they come. What :meth:`add` has returned from is on disk.

    Where the database cannot be reached, the writing waits and tries again for the store's ``patience_s``; it is only
    then an error, and the frame is the caller's to add again. Several processes may record into one study.
    """

    def __init__(self, study: Study, seed: int | None = None) -> None:
        #: designs that were new to the store when this recorder added them
        self.added = 0
        self._study, self._number, self._database = study, study.number, study._database
        self._seed = seed
        self._since_s = time.monotonic()

    def done(self) -> pd.DataFrame:
        """What is known: one row a design, its number the index."""
        return self._database.patiently(self._study.frame)

    def add(self, frame: pd.DataFrame) -> None:
        """Keep the evaluations of ``frame``, whose index is the design's number: all or none.

        A design that is there already stays as it is. The provenance gets the time since the previous call.

        Raises:
            InvalidInputError: the frame holds what is not kept; see :func:`rows.encode`.
            StoreUnavailableError: the database stayed away for longer than ``patience_s``.
            StoreFullError: the disk is full.
        """
        now_s = time.monotonic()
        types, numbers, results = rows.encode(frame)
        provenance = Provenance(self._seed, now_s - self._since_s)
        if not numbers:
            return

        def write() -> int:
            with self._database.write() as connection:
                return insert_batch(self._database, connection, self._number, provenance, types, numbers, results)

        self.added += self._database.patiently(write)
        self._since_s = now_s

    def state(self, name: str) -> bytes | None:
        """The bytes that were kept last under ``name``."""

        def read() -> bytes | None:
            with self._database.read() as connection:
                wanted = select(StateRow.content).where(StateRow.study_id == self._number, StateRow.name == name)
                return connection.execute(wanted).scalar_one_or_none()

        return self._database.patiently(read)

    def keep(self, name: str, value: bytes) -> None:
        """Keep ``value`` under ``name``, in the place of what was there.

        Raises:
            InvalidInputError: it is no bytes, or too many.
            StoreUnavailableError, StoreFullError: as :meth:`add`.
        """
        if not isinstance(value, bytes) or len(value) > _STATE_BYTES:
            raise InvalidInputError(
                f"a state is at most {_STATE_BYTES:,} bytes, but {name!r} is "
                f"{len(value) if isinstance(value, bytes) else type(value).__name__}; encode it, or keep less"
            )

        def write() -> None:
            with self._database.write() as connection:
                insert_state(self._database, connection, self._number, name, value)

        self._database.patiently(write)


def insert_batch(
    database: Database,
    connection: Connection,
    study: int,
    provenance: Provenance,
    types: Mapping[str, str],
    numbers: list[int],
    results: list[str],
) -> int:
    """Write evaluations within a transaction; how many were new. To write a batch twice is to write it once."""
    origin, new_origin = insert_provenance(database, connection, provenance)
    if new_origin:
        row = {"study_id": study, "provenance_id": origin, "columns": dict(types)}
        database.insert_new(connection, BatchRow, [row])
    batch = connection.execute(select(BatchRow.id).where(BatchRow.provenance_id == origin)).scalar_one()
    new = 0
    for start in range(0, len(numbers), _WRITTEN):
        part = slice(start, start + _WRITTEN)
        cells = zip(numbers[part], results[part], strict=True)
        rows_of_part = [{"study_id": study, "number": n, "batch_id": batch, "results": text} for n, text in cells]
        new += database.insert_new(connection, EvaluationRow, rows_of_part)
    if new_origin and not new:
        connection.execute(delete(BatchRow).where(BatchRow.id == batch))
        connection.execute(delete(ProvenanceRow).where(ProvenanceRow.id == origin))
    return new


def insert_state(database: Database, connection: Connection, study: int, name: str, content: bytes) -> None:
    """Write a state within a transaction, in the place of the one of that name.

    Raises:
        InvalidInputError: the name is none.
    """
    row = {
        "study_id": study,
        "name": checked_name(name, "a state's name"),
        "content": content,
        "updated_at": datetime.now(UTC),
    }
    database.replace(connection, StateRow, row)


def attach(database: Database, connection: Connection, study: int, key: Key) -> None:
    """Say that a study is about a record, within a transaction."""
    database.insert_new(connection, StudyRecordRow, [{"study_id": study, "kind": key[0], "digest": key[1]}])


def read_evaluations(connection: Connection, study: int, *, batches: bool = False) -> pd.DataFrame:
    """All evaluations of a study by design number; with ``batches`` a column ``_batch`` says which was written when."""
    kinds = connection.execute(select(BatchRow.id, BatchRow.columns).where(BatchRow.study_id == study))
    columns = {row.id: tuple(row.columns.items()) for row in kinds}
    found = connection.execute(
        # not in order, which would be PostgreSQL's to make in files
        select(EvaluationRow.batch_id, EvaluationRow.number, EvaluationRow.results).where(
            EvaluationRow.study_id == study
        ),
        execution_options={"yield_per": _READ},
    )
    frames = []
    for chunk in found.partitions():
        alike: dict[tuple[tuple[str, str], ...], list[Any]] = {}
        for row in chunk:
            alike.setdefault(columns[row.batch_id], []).append(row)
        for types, members in alike.items():
            owners, numbers, results = zip(*members, strict=True)
            frame = rows.decode(dict(types), numbers, results)
            frames.append(frame.assign(_batch=list(owners)) if batches else frame)
    return rows.joined(frames)
