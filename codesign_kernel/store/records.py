"""Records: networks, profiles, designs and what was made from them, as plain data with named artefacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.database import Database
from codesign_kernel.store.digests import checked_digest, checked_name, plain_text, sha256
from codesign_kernel.store.provenance import Provenance, insert_provenance, read_provenance
from codesign_kernel.store.schema import FileRow, LinkRow, RecordRow

#: What there is: ``rtl`` is a bundle of generated text, ``report`` one of a co-simulation, ``run`` one of a workflow.
KINDS = ("network", "profile", "workload", "design", "rtl", "report", "run")

#: A record by its kind and digest.
Key = tuple[str, str]


@dataclass(frozen=True)
class Record:
    """What is kept of one thing.

    Attributes:
        kind: of ``KINDS``.
        digest: under which it is found: of the thing itself, as its maker says, else of this record.
        name: for readers; not part of the digest.
        data: plain data.
        files: {name: digest of the artefact}.
        links: records that it was made from, sorted.
        provenance: where it comes from.
    """

    kind: str
    digest: str
    name: str
    data: Any
    files: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Key, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def content(self) -> str:
        """The digest of all that the record says."""
        return content_digest(self.kind, self.data, self.files, self.links)


def content_digest(kind: str, data: object, files: Mapping[str, str], links: Iterable[Key]) -> str:
    """The digest of what a record says, without its name and provenance.

    Raises:
        InvalidInputError: ``data`` is not plain.
    """
    parts = {"kind": kind, "data": data, "files": dict(files), "links": sorted(map(list, links))}
    return sha256(plain_text(parts).encode())


def checked_key(key: Any) -> Key:
    """``key`` as (kind, digest).

    Raises:
        InvalidInputError: it is no such pair.
    """
    if not isinstance(key, (tuple, list)) or len(key) != 2 or key[0] not in KINDS:
        raise InvalidInputError(
            f"a record is named by its kind and digest, but got {key!r:.100}; kinds are {', '.join(KINDS)}"
        )
    return str(key[0]), checked_digest(key[1], f"the digest of a {key[0]}")


def insert_record(database: Database, connection: Connection, record: Record) -> bool:
    """Write ``record``, whose artefacts are there, within a transaction; whether it was new.

    Raises:
        InvalidInputError: it is no record, links to what is not there, or differs from the one that is there.
    """
    key = checked_key((record.kind, record.digest))
    if record.name:
        checked_name(record.name, "a record's name")
    known = connection.execute(select(RecordRow.content).where(*_is(key))).scalar_one_or_none()
    if known is None:
        for link in record.links:
            if connection.execute(select(RecordRow.kind).where(*_is(checked_key(link)))).first() is None:
                raise InvalidInputError(
                    f"a {record.kind} links to a {link[0]} {link[1]} that the store has not; keep that first"
                )
        number, _ = insert_provenance(database, connection, record.provenance)
        row = {
            **dict(zip(("kind", "digest"), key, strict=True)),
            "content": record.content,
            "name": record.name,
            "data": record.data,
            "provenance_id": number,
        }
        if database.insert_new(connection, RecordRow, [row]):
            _insert_parts(database, connection, record)
            return True
        known = connection.execute(select(RecordRow.content).where(*_is(key))).scalar_one()
    if known != record.content:
        raise InvalidInputError(
            f"a digest stands for one content, but the store's {record.kind} {record.digest} says something else; "
            "leave the digest out, and it is made of the content"
        )
    return False


def _insert_parts(database: Database, connection: Connection, record: Record) -> None:
    own = {"kind": record.kind, "digest": record.digest}
    files = [
        {**own, "name": checked_name(name, "a file's name"), "artefact": artefact}
        for name, artefact in record.files.items()
    ]
    database.insert_new(connection, FileRow, files)
    links = [{**own, "to_kind": kind, "to_digest": digest} for kind, digest in record.links]
    database.insert_new(connection, LinkRow, links)


def read_record(connection: Connection, key: Key) -> Record | None:
    """The record of that kind and digest, or ``None``."""
    kind, digest = checked_key(key)
    found = connection.execute(select(RecordRow.__table__).where(*_is((kind, digest)))).one_or_none()
    if found is None:
        return None
    files = connection.execute(
        select(FileRow.name, FileRow.artefact)
        .where(FileRow.kind == kind, FileRow.digest == digest)
        .order_by(FileRow.name)
    )
    links = connection.execute(
        select(LinkRow.to_kind, LinkRow.to_digest).where(LinkRow.kind == kind, LinkRow.digest == digest)
    )
    return Record(
        kind,
        digest,
        found.name,
        found.data,
        {row.name: row.artefact for row in files},
        tuple(sorted((row.to_kind, row.to_digest) for row in links)),
        read_provenance(connection, found.provenance_id),
    )


def with_origins(connection: Connection, keys: Iterable[Key]) -> list[Record]:
    """The records ``keys`` and all that they were made from; what is linked to comes before what links to it."""
    ordered: dict[Key, Record] = {}
    todo: list[tuple[Key, bool]] = [(key, False) for key in sorted(keys, reverse=True)]
    while todo:
        key, ready = todo.pop()
        if key in ordered:
            continue
        record = read_record(connection, key)
        if record is None:
            continue
        if ready or not record.links:
            ordered[key] = record
        else:
            todo.append((key, True))
            todo.extend((link, False) for link in record.links)
    return [*ordered.values()]


def _is(key: Key) -> tuple[Any, Any]:
    return RecordRow.kind == key[0], RecordRow.digest == key[1]
