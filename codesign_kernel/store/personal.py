"""What one person is handed of theirs: a zip of JSON that people and programs can read, and the files themselves.

It follows the table in ``kept``. Left out are what only guards the door (the hash of the password, the digests of
cookies and tokens) and what the table says is not in an export; the manifest repeats why.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, LargeBinary, Table, select

from codesign_kernel.errors import StoreError
from codesign_kernel.store.artefacts import Artefacts
from codesign_kernel.store.crypto import Vault, key_of
from codesign_kernel.store.kept import DATA
from codesign_kernel.store.records import Record, with_origins
from codesign_kernel.store.schema import (
    BatchRow,
    BelongingRow,
    CacheRow,
    ConsentRow,
    EvaluationRow,
    JobEventRow,
    JobRow,
    LoginRow,
    PersonRow,
    ProvenanceRow,
    StateRow,
    StudyRecordRow,
    StudyRow,
    TokenRow,
)

FORMAT = "codesign-person-1"
#: Columns that are not handed out: they say nothing about the person, and help whoever finds the file.
GUARDS = {"codesign_person": {"password"}, "codesign_login": {"digest"}, "codesign_token": {"digest"}}
#: Bytes before a cached value: its digest.
_CACHE_SEAL = 32
_README = """What this server keeps about you
================================

{name}, {when}

manifest.json   every file of this archive with its SHA-256, and what is kept but not here, with the reason
person.json     your name, role and how you sign in; sessions.json, tokens.json, consents.json likewise
jobs.json       what you asked for; jobs/ has each request and its result, opened
belongings.json your files; belongings/ has them, opened
studies.json    your explorations; studies/ has every evaluation (a JSON object a line), states and records
cache.json      results kept so that they are not computed twice; cache/ has them
audit.jsonl     the lines of the audit trail about you
folders/        what your running sessions have written

Times are UTC in ISO 8601. Text is UTF-8. Nothing here is encrypted any more: keep it where you keep such things.
"""


class Package:
    """The zip that is being written, and what is in it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED)
        self.files: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, int] = {}

    def add(self, path: str, pieces: Iterable[bytes]) -> str:
        """A file, in pieces; its path."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(path, "w", force_zip64=True) as stream:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                stream.write(piece)
        self.files[path] = {"sha256": digest.hexdigest(), "bytes": size}
        return path

    def json(self, path: str, value: object, kind: str, rows: int) -> None:
        """A file of plain data, and how many rows of a kind that is."""
        self.add(path, [json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode(), b"\n"])
        self.rows[kind] = self.rows.get(kind, 0) + rows

    def finish(self, about: Mapping[str, Any]) -> None:
        """The manifest, and the end."""
        left_out = {name: kind.why_not for name, kind in DATA.items() if not kind.exported}
        body = {"format": FORMAT, **about, "rows": self.rows, "not_in_here": left_out, "files": self.files}
        self._zip.writestr("manifest.json", json.dumps(body, indent=1, ensure_ascii=False))
        self._zip.close()


def write_export(
    package: Package,
    connection: Connection,
    artefacts: Artefacts,
    vault: Vault,
    subject: str,
    trail: Iterable[Path],
    folders: Iterable[Path],
) -> None:
    """Everything of ``subject`` into ``package``, read in one transaction.

    Raises:
        StoreError: something cannot be opened or read.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    (person,) = rows_of(connection, PersonRow.__table__, PersonRow.subject == subject)
    package.add("README.txt", [_README.format(name=person["name"], when=when).encode()])
    package.json("person.json", person, "people", 1)
    for path, kind, table in (
        ("sessions.json", "sessions", LoginRow),
        ("tokens.json", "tokens", TokenRow),
        ("consents.json", "consents", ConsentRow),
    ):
        found = rows_of(connection, table.__table__, table.owner == subject)
        package.json(path, found, kind, len(found))
    _jobs(package, connection, vault, subject)
    _belongings(package, connection, vault, subject)
    _studies(package, connection, artefacts, subject)
    _cache(package, connection, subject)
    lines = list(trail_lines(trail, subject))
    package.add("audit.jsonl", lines)
    package.rows["audit trail"] = len(lines)
    _folders(package, folders)
    package.finish({"subject": subject, "made_at": when})


def rows_of(connection: Connection, table: Any, *where: Any, without: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Rows as plain data in the order of the key, without guards and the columns ``without``."""
    assert isinstance(table, Table)
    hidden = {*GUARDS.get(table.name, ()), *without}
    columns = [column for column in table.columns if column.name not in hidden]
    found = connection.execute(select(*columns).where(*where).order_by(*table.primary_key.columns))
    return [{column.name: _plain(cell) for column, cell in zip(columns, row, strict=True)} for row in found]


def _plain(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.isoformat()
    return base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell


def opened(vault: Vault, content: bytes | None) -> bytes | None:
    """What was sealed; what never was stays as it is."""
    return content if content is None or key_of(content) is None else vault.open(bytes(content))


def _jobs(package: Package, connection: Connection, vault: Vault, subject: str) -> None:
    sealed = [column for column in JobRow.__table__.columns if isinstance(column.type, LargeBinary)]
    names = [column.name for column in sealed]
    jobs = rows_of(connection, JobRow.__table__, JobRow.owner == subject, without=names)
    for job in jobs:
        content = connection.execute(select(*sealed).where(JobRow.id == job["id"])).one()
        for name, cell in zip(names, content, strict=True):
            plain = opened(vault, cell)
            job[name] = None if plain is None else _document(package, f"jobs/{_safe(job['id'])}/{name}", plain)
        job["events"] = rows_of(connection, JobEventRow.__table__, JobEventRow.job_id == job["id"], without=("job_id",))
    package.json("jobs.json", jobs, "jobs", len(jobs))


def _document(package: Package, path: str, content: bytes) -> str:
    try:
        json.loads(content)
    except ValueError:
        return package.add(f"{path}.bin", [content])
    return package.add(f"{path}.json", [content])


def _belongings(package: Package, connection: Connection, vault: Vault, subject: str) -> None:
    files = rows_of(connection, BelongingRow.__table__, BelongingRow.owner == subject, without=("content",))
    for file in files:
        sealed = connection.execute(select(BelongingRow.content).where(BelongingRow.id == file["id"])).scalar_one()
        path = f"belongings/{_safe(file['id'])}-{_safe(file['name'])}"
        file["file"] = package.add(path, [opened(vault, sealed) or b""])
    package.json("belongings.json", files, "belongings", len(files))


def _studies(package: Package, connection: Connection, artefacts: Artefacts, subject: str) -> None:
    studies = rows_of(connection, StudyRow.__table__, StudyRow.owner == subject)
    for study in studies:
        number = study["id"]
        study["name"] = study["name"].removeprefix(f"{subject} ")
        study["provenance"] = _provenance(connection, study.pop("provenance_id"))
        batches = rows_of(connection, BatchRow.__table__, BatchRow.study_id == number)
        study["batches"] = [b | {"provenance": _provenance(connection, b.pop("provenance_id"))} for b in batches]
        lines = _evaluations(connection, number)
        study["evaluations"] = package.add(f"studies/{number}/evaluations.jsonl", lines)
        states = rows_of(connection, StateRow.__table__, StateRow.study_id == number, without=("content",))
        for place, state in enumerate(states):
            wanted = select(StateRow.content).where(StateRow.study_id == number, StateRow.name == state["name"])
            content = connection.execute(wanted).scalar_one()
            state["file"] = package.add(f"studies/{number}/states/{place}", [bytes(content)])
        study["states"] = states
        about = select(StudyRecordRow.kind, StudyRecordRow.digest).where(StudyRecordRow.study_id == number)
        keys = [(row.kind, row.digest) for row in connection.execute(about)]
        records = with_origins(connection, keys)
        study["records"] = [_record(package, connection, artefacts, record) for record in records]
    package.json("studies.json", studies, "studies", len(studies))


def _evaluations(connection: Connection, study: int) -> Iterator[bytes]:
    found = connection.execute(
        select(EvaluationRow.number, EvaluationRow.batch_id, EvaluationRow.results).where(
            EvaluationRow.study_id == study
        ),
        execution_options={"yield_per": 5_000},
    )
    for row in found:
        yield f'{{"design":{row.number},"batch":{row.batch_id},"results":{row.results}}}\n'.encode()


def _provenance(connection: Connection, number: int) -> dict[str, Any]:
    (row,) = rows_of(connection, ProvenanceRow.__table__, ProvenanceRow.id == number, without=("id",))
    return row


def _record(package: Package, connection: Connection, artefacts: Artefacts, record: Record) -> dict[str, Any]:
    for digest in record.files.values():
        if f"records/{digest}" not in package.files:
            package.add(f"records/{digest}", [artefacts.read(connection, digest)])
    files = {name: f"records/{digest}" for name, digest in record.files.items()}
    return {"kind": record.kind, "digest": record.digest, "name": record.name, "data": record.data, "files": files}


def _cache(package: Package, connection: Connection, subject: str) -> None:
    cached = rows_of(connection, CacheRow.__table__, CacheRow.owner == subject, without=("content",))
    for entry in cached:
        content = connection.execute(select(CacheRow.content).where(CacheRow.key == entry["key"])).scalar_one()
        entry["file"] = package.add(f"cache/{entry['key']}", [bytes(content)[_CACHE_SEAL:]])
    package.json("cache.json", cached, "cache", len(cached))


def trail_lines(trail: Iterable[Path], subject: str) -> Iterator[bytes]:
    """The lines about ``subject`` of the files of an audit trail, the oldest first.

    Raises:
        StoreError: a file cannot be read.
    """
    for path in trail:
        try:
            with path.open("rb") as stream:
                for line in stream:
                    if subject.encode() in line and line.endswith(b"\n"):
                        yield line
        except OSError as error:
            raise StoreError(f"the audit trail {path} cannot be read: {error.strerror or error}") from error


def _folders(package: Package, folders: Iterable[Path]) -> None:
    count = 0
    for place, folder in enumerate(folders):
        for path in sorted(folder.rglob("*")):
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue  # a link or a socket: what a confined process has made may point anywhere
                inside = "/".join(_safe(part) for part in path.relative_to(folder).parts)
                package.add(f"folders/{place}/{count}-{inside}", [path.read_bytes()])
                count += 1
            except OSError:
                continue  # its process has removed it meanwhile
    package.rows["private folders"] = count


def _safe(name: str) -> str:
    """``name`` as part of a path that is harmless everywhere; the JSON beside it has the name itself."""
    return re.sub(r"[^0-9A-Za-z._-]", "_", name).lstrip(".")[:100] or "_"
