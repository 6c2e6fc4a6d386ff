"""One file that holds a study or everything: a zip of Parquet tables, artefacts, and a manifest with all digests.

``manifest.json``: ``format``; ``schema``; ``created_at``; ``versions``; ``files`` {path: {sha256, bytes}}; ``records``
and ``studies``. ``studies/N/evaluations.parquet`` has a row a design: its number (``design``), the columns of the
study, and the number of the batch that it was written in (``_batch``). ``studies/N/states/M`` is a sampler's state, and
``artefacts/DIGEST`` what it says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from codesign_kernel.errors import InvalidInputError, OutputError
from codesign_kernel.files import check_file
from codesign_kernel.store.artefacts import Artefacts
from codesign_kernel.store.database import Database
from codesign_kernel.store.provenance import Provenance, read_provenance, versions
from codesign_kernel.store.records import Key, Record, with_origins
from codesign_kernel.store.schema import ArtefactRow, BatchRow, RecordRow, StateRow, StudyRecordRow, StudyRow
from codesign_kernel.store.study import read_evaluations

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "codesign-store-1"
MANIFEST = "manifest.json"


class _Writer:
    """The zip, and the digests of what went into it."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._zip = opened
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, path: str, content: bytes) -> str:
        if path not in self.files:
            self.files[path] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            self._zip.writestr(path, content)
        return path

    def finish(self, manifest: Mapping[str, Any]) -> None:
        self._zip.writestr(MANIFEST, json.dumps({**manifest, "files": self.files}, indent=1, allow_nan=False))


def export(
    database: Database,
    artefacts: Artefacts,
    connection: Connection,
    path: Path,
    schema: str,
    study: str | None,
) -> Path:
    """Write ``path``, whole or not at all; see :meth:`Store.export_file`."""
    wanted = select(StudyRow.__table__).where(StudyRow.owner.is_(None)).order_by(StudyRow.id)
    found = connection.execute(wanted if study is None else wanted.where(StudyRow.name == study)).all()
    if study is not None and not found:
        raise InvalidInputError(f"the store {database.place} has no study {study!r:.60}; see studies()")
    check_file(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
                writer = _Writer(opened)
                writer.finish(_contents(artefacts, connection, writer, schema, found, everything=study is None))
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
        temporary = ""
    except OSError as error:
        if isinstance(error, OutputError) or not error.errno:
            raise
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place") from error
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
    return path


def _contents(
    artefacts: Artefacts,
    connection: Connection,
    writer: _Writer,
    schema: str,
    found: Sequence[Any],
    *,
    everything: bool,
) -> dict[str, Any]:
    """Write all but the manifest; the manifest."""
    studies: list[dict[str, Any]] = []
    about: set[Key] = set()
    for number, row in enumerate(found):
        entry = _study(connection, writer, number, row)
        studies.append(entry)
        about.update((kind, digest) for kind, digest in entry["records"])
    if everything:
        about.update((row.kind, row.digest) for row in connection.execute(select(RecordRow.kind, RecordRow.digest)))
    records = with_origins(connection, about)
    digests = {digest for record in records for digest in record.files.values()}
    if everything:
        digests.update(connection.execute(select(ArtefactRow.digest)).scalars())
    for digest in sorted(digests):
        writer.add(f"artefacts/{digest}", artefacts.read(connection, digest))
    return {
        "format": FORMAT,
        "schema": schema,
        "created_at": datetime.now(UTC).isoformat(),
        "versions": dict(versions()),
        "records": [_record(record) for record in records],
        "studies": studies,
    }


def _study(connection: Connection, writer: _Writer, number: int, row: Any) -> dict[str, Any]:
    folder = f"studies/{number}"
    frame = read_evaluations(connection, row.id, batches=True)
    about = select(StudyRecordRow.kind, StudyRecordRow.digest).where(StudyRecordRow.study_id == row.id)
    keys: list[Key] = sorted((found.kind, found.digest) for found in connection.execute(about))
    batches = connection.execute(
        select(BatchRow.id, BatchRow.provenance_id, BatchRow.columns)
        .where(BatchRow.study_id == row.id)
        .order_by(BatchRow.id)
    ).all()
    states = connection.execute(
        select(StateRow.name, StateRow.content).where(StateRow.study_id == row.id).order_by(StateRow.name)
    )
    return {
        "name": row.name,
        "space_digest": row.space_digest,
        "objectives": row.objectives,
        "data": row.data,
        "provenance": provenance_entry(read_provenance(connection, row.provenance_id)),
        "records": [list(key) for key in keys],
        "batches": {
            str(batch.id): {
                "columns": batch.columns,
                "provenance": provenance_entry(read_provenance(connection, batch.provenance_id)),
            }
            for batch in batches
        },
        "evaluations": writer.add(f"{folder}/evaluations.parquet", _parquet(frame)) if len(frame) else None,
        "states": {
            state.name: writer.add(f"{folder}/states/{place}", bytes(state.content))
            for place, state in enumerate(states)
        },
    }


def _record(record: Record) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "digest": record.digest,
        "name": record.name,
        "data": record.data,
        "files": dict(record.files),
        "links": [list(link) for link in record.links],
        "provenance": provenance_entry(record.provenance),
    }


def provenance_entry(provenance: Provenance) -> dict[str, Any]:
    """As plain data."""
    return {
        "seed": provenance.seed,
        "wall_s": provenance.wall_s,
        "versions": dict(provenance.versions),
        "created_at": provenance.created_at.isoformat(),
        "token": provenance.token,
    }


def _parquet(frame: pd.DataFrame) -> bytes:
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    table = pyarrow.Table.from_pandas(frame.reset_index(), preserve_index=False)
    pyarrow.parquet.write_table(table, stream, compression="zstd")
    return stream.getvalue()
