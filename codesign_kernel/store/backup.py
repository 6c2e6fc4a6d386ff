"""A backup: one file with everything that cannot be computed again, written while the gateway runs, checked as a whole.

A zip: ``tables/NAME.jsonl``, a row a line, read in one snapshot; ``artefacts/DIGEST``; ``audit/``, the audit trail;
``erased.jsonl``, the list of the erased; ``settings.json``, without secrets; ``keys/`` where asked for; and
``manifest.json`` with the SHA-256 of each. The zip's comment is the SHA-256 of all that stands before it. Cached
results and sessions are not in it. What was sealed stays sealed: without its keys, nobody reads it.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, select

from codesign_kernel.errors import OutputError, StoreError
from codesign_kernel.files import check_file
from codesign_kernel.store.provenance import versions
from codesign_kernel.store.schema import ArtefactRow, CacheRow, LoginRow, Table
from codesign_kernel.store.store import Store
from codesign_kernel.telemetry.audit import numbered_files, paths

FORMAT = "codesign-backup-1"
MANIFEST = "manifest.json"
#: The zip's comment: this, and 64 digits.
MARK = b"codesign-backup sha256 "
#: Tables that are not in a backup: what is computed again, and browsers that are signed in.
LEFT_OUT = {CacheRow.__tablename__, LoginRow.__tablename__}
_PIECE = 1 << 20


@dataclass(frozen=True)
class Places:
    """Where a gateway has what is not in its database; ``None``: it has none.

    Attributes:
        erased: the list of the erased.
        keys: the keys file of the encryption.
        audit: the audit trail's current file; those that were renamed, and its head, are beside it.
        audit_key: the audit trail's key.
    """

    erased: Path
    keys: Path | None = None
    audit: Path | None = None
    audit_key: Path | None = None

    def secrets(self) -> dict[str, Path]:
        """{path in the backup: file} of what is in it only where asked for."""
        named = {"keys/keys": self.keys, "keys/audit.key": self.audit_key}
        return {name: path for name, path in named.items() if path is not None}


class _Writer:
    """The zip that is being written, and the digests of what is in it."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._zip = opened
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, path: str, pieces: Iterable[bytes]) -> None:
        digest, size = hashlib.sha256(), 0
        with self._zip.open(path, "w", force_zip64=True) as stream:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                stream.write(piece)
        self.files[path] = {"sha256": digest.hexdigest(), "bytes": size}

    def finish(self, manifest: Mapping[str, Any]) -> None:
        self._zip.writestr(MANIFEST, json.dumps({**manifest, "files": self.files}, indent=1))


def back_up(
    store: Store,
    path: str | os.PathLike[str],
    places: Places,
    *,
    settings: Mapping[str, Any] | None = None,
    with_keys: bool = False,
) -> dict[str, int]:
    """Write a backup, whole or not at all, readable by its owner alone; {"rows", "artefacts", "files", "bytes"}.

    Args:
        store: the database and what lies beside it; others may write meanwhile.
        path: of the file.
        places: where the rest is.
        settings: plain data, kept for the operator's eyes; passwords in URLs are cut out.
        with_keys: whether the keys are in it. Whoever has such a file can read everything in it.

    Raises:
        OutputError: the file cannot be written.
        StoreError: something cannot be read.
    """
    path = Path(path)
    check_file(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        with os.fdopen(handle, "w+b") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
                opened.comment = MARK + b"0" * 64  # its place, until what stands before it is complete
                counts = _contents(store, _Writer(opened), places, settings or {}, with_keys=with_keys)
            _sign(stream)
            stream.flush()
            os.fsync(stream.fileno())
            counts["bytes"] = stream.seek(0, os.SEEK_END)
        os.replace(temporary, path)
        temporary = ""
    except OSError as error:
        if isinstance(error, OutputError | StoreError) or not error.errno:
            raise
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place") from error
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
    return counts


def _sign(stream: Any) -> None:
    end = stream.seek(0, os.SEEK_END) - 64
    digest = digest_before(stream, end)
    stream.seek(end)
    stream.write(digest.encode())


def digest_before(stream: Any, end: int) -> str:
    """SHA-256 of the first ``end`` bytes of a stream."""
    stream.seek(0)
    digest, left = hashlib.sha256(), end
    while left and (piece := stream.read(min(_PIECE, left))):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


def _contents(
    store: Store, writer: _Writer, places: Places, settings: Mapping[str, Any], *, with_keys: bool
) -> dict[str, int]:
    """Write all of it; what there was."""
    tables: dict[str, int] = {}
    with store._database.read(snapshot=True) as connection:
        for table in Table.metadata.sorted_tables:
            if table.name not in LEFT_OUT:
                tables[table.name] = _table(writer, connection, table)
        digests = connection.execute(select(ArtefactRow.digest).order_by(ArtefactRow.digest)).scalars().all()
        for digest in digests:
            writer.add(f"artefacts/{digest}", [store._artefacts.read(connection, digest)])
    before = len(writer.files)
    for name, pieces in _beside(places, with_keys=with_keys):
        writer.add(name, pieces)
    told = without_secrets(settings)
    writer.add("settings.json", [json.dumps(told, indent=1, default=str).encode()])
    writer.finish(
        {
            "format": FORMAT,
            "schema": store.schema,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": dict(versions()),
            "tables": tables,
            "with_keys": with_keys,
        }
    )
    return {"rows": sum(tables.values()), "artefacts": len(digests), "files": len(writer.files) - before}


def _table(writer: _Writer, connection: Connection, table: Any) -> int:
    """Write a table; how many rows it has. The bytes of artefacts are in files of their own."""
    columns = [c for c in table.columns if (table.name, c.name) != (ArtefactRow.__tablename__, "content")]
    wanted = select(*columns).order_by(*table.primary_key.columns)
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in connection.execute(wanted, execution_options={"yield_per": 500}):
            count += 1
            yield json.dumps(_plain(columns, row), separators=(",", ":"), allow_nan=False).encode() + b"\n"

    writer.add(f"tables/{table.name}.jsonl", lines())
    return count


def _plain(columns: list[Column[Any]], row: Any) -> dict[str, Any]:
    def cell(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    return {column.name: cell(value) for column, value in zip(columns, row, strict=True)}


def _beside(places: Places, *, with_keys: bool) -> Iterator[tuple[str, Iterator[bytes]]]:
    """(path in the backup, pieces) of what is not in the database."""
    if places.erased.exists():
        yield "erased.jsonl", _pieces(places.erased)
    if places.audit is not None:
        yield from _trail(places.audit)
    for name, path in places.secrets().items() if with_keys else ():
        yield name, _pieces(path)


def _trail(current: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The audit trail as it stood at one moment: its last file and its head are read while nobody writes."""
    head, lock = paths(current)
    if not head.exists():
        return
    with lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        renamed = numbered_files(current)
        last = current.read_bytes() if current.exists() else b""
        how_it_ends = head.read_bytes()
    for path in renamed:
        yield f"audit/{path.name}", _pieces(path)
    yield f"audit/{current.name}", iter([last])
    yield f"audit/{head.name}", iter([how_it_ends])


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                yield piece
    except OSError as error:
        raise StoreError(f"{path} should be in the backup, but {error.strerror or error}; repeat it") from error


def without_secrets(value: Any) -> Any:
    """Plain data whose texts have no passwords in their URLs any more."""
    if isinstance(value, Mapping):
        return {str(name): without_secrets(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    if not isinstance(value, str):
        return value
    hidden = re.sub(r"(://[^/@\s:]*:)[^@\s]*@", r"\1***@", value)
    return re.sub(r"(?i)([?&]password=)[^&\s]*", r"\1***", hidden)
