"""Reading an exported file: a stranger's, so that nothing in it is believed before it is checked, or ever executed.

Only names that the manifest lists are read, none becomes a path on this machine, sizes are bounded before anything is
unpacked, and every digest is compared before the first row is written.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from codesign_kernel.errors import ArchiveError, InvalidInputError
from codesign_kernel.store import rows
from codesign_kernel.store.archive import FORMAT, MANIFEST
from codesign_kernel.store.artefacts import Artefacts
from codesign_kernel.store.database import Database
from codesign_kernel.store.digests import checked_digest
from codesign_kernel.store.parquet import bounded_frame
from codesign_kernel.store.provenance import Provenance
from codesign_kernel.store.records import Record, checked_key, insert_record, read_record
from codesign_kernel.store.studies import insert_study, study_named
from codesign_kernel.store.study import attach, insert_batch, insert_state

if TYPE_CHECKING:
    import pandas as pd

#: What a file may hold unpacked, in all.
LIMIT_BYTES = 8 << 30
_MANIFEST_BYTES = 256 << 20
_ENTRIES = 1_000_000
_PATH = re.compile(r"artefacts/[0-9a-f]{64}|studies/\d{1,9}/(evaluations\.parquet|states/\d{1,9})")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_PIECE = 1 << 20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError)

Kind = TypeVar("Kind")


class Contents:
    """The file, opened and checked: its manifest, and what it holds by path."""

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path, self._zip = path, opened
        self.manifest: dict[str, Any] = {}
        self.files: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> Contents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def check(self, limit_bytes: int) -> None:
        """Read the manifest, and compare every digest.

        Raises:
            ArchiveError: something is not as it says.
        """
        entries = self._zip.infolist()
        names = {entry.filename for entry in entries}
        if len(names) != len(entries) or len(names) > _ENTRIES or MANIFEST not in names:
            raise self.wrong(f"it needs one {MANIFEST} and at most {_ENTRIES:,} files with different names")
        odd = [
            e for e in entries if e.flag_bits & 1 or e.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        ]
        if odd:
            raise self.wrong("a file in it is encrypted, or packed in a way that is not used")
        size = sum(entry.file_size for entry in entries)
        if size > limit_bytes:
            raise self.wrong(f"it holds {size:,} bytes unpacked, and the limit is {limit_bytes:,}; raise limit_bytes")
        try:
            manifest = json.loads(self._bytes(MANIFEST, min(_MANIFEST_BYTES, limit_bytes)))
        except (ValueError, RecursionError) as error:
            raise self.wrong(f"its {MANIFEST} is no JSON") from error
        self.manifest = self.typed(manifest, dict, MANIFEST)
        if self.manifest.get("format") != FORMAT:
            raise self.wrong(f"its format is {self.manifest.get('format')!r:.60}, not {FORMAT!r}")
        self._check_files(names - {MANIFEST})

    def _check_files(self, names: set[str]) -> None:
        listed = self.typed(self.manifest.get("files"), dict, "files")
        if set(listed) != names:
            raise self.wrong("it holds other files than its manifest lists")
        for path, entry in listed.items():
            if not _PATH.fullmatch(path):
                raise self.wrong(f"no file in it may be called {path!r:.80}")
            digest, size = self.typed(entry, dict, path).get("sha256"), entry.get("bytes")
            if not isinstance(digest, str) or type(size) is not int or size < 0:
                raise self.wrong(f"{path} has no digest and size")
            if path.startswith("artefacts/") and path.removeprefix("artefacts/") != digest:
                raise self.wrong(f"{path} is not what its name says")
            if self._digest(path, size) != digest:
                raise self.wrong(f"{path} was changed: its digest is another")
            self.files[path] = digest, size

    def read(self, path: Any) -> bytes:
        """The bytes of a listed file, compared with its digest again: the file may be changed meanwhile."""
        if not isinstance(path, str) or path not in self.files:
            raise self.wrong(f"its manifest speaks of {path!r:.80}, which it does not list")
        digest, size = self.files[path]
        content = self._bytes(path, size)
        if hashlib.sha256(content).hexdigest() != digest:
            raise self.wrong(f"{path} was changed: its digest is another")
        return content

    def typed(self, value: Any, kind: type[Kind], what: str) -> Kind:
        """``value``, which is of that type."""
        if not isinstance(value, kind):
            raise self.wrong(f"{what} in its manifest is {type(value).__name__}, not {kind.__name__}")
        return value

    def wrong(self, why: str) -> ArchiveError:
        """The error that says why the file is not taken."""
        return ArchiveError(f"{self.path} is not an export of a store: {why}; nothing was imported; export it again")

    def _digest(self, path: str, size: int) -> str:
        digest, seen = hashlib.sha256(), 0
        with self._broken(path), self._zip.open(path) as stream:
            while piece := stream.read(_PIECE):
                seen += len(piece)
                if seen > size:
                    raise self.wrong(f"{path} is larger than it says")
                digest.update(piece)
        return digest.hexdigest()

    def _bytes(self, path: str, limit: int) -> bytes:
        with self._broken(path), self._zip.open(path) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise self.wrong(f"{path} is larger than the {limit:,} bytes it may have")
        return content

    @contextmanager
    def _broken(self, path: str) -> Iterator[None]:
        try:
            yield
        except (*_BROKEN, OSError) as error:
            raise self.wrong(f"{path} cannot be unpacked ({error})") from error


def open_archive(path: Path, limit_bytes: int) -> Contents:
    """The file, opened and checked.

    Raises:
        ArchiveError: it is no export, was changed, or holds more than ``limit_bytes``.
    """
    try:
        contents = Contents(path, zipfile.ZipFile(path))
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be read: {error.strerror or error}; name a file that export_file wrote"
        ) from error
    except _BROKEN as error:
        raise ArchiveError(
            f"{path} is not an export of a store: {error}; name a file that export_file wrote"
        ) from error
    try:
        contents.check(limit_bytes)
    except ArchiveError:
        contents.__exit__(None, None, None)
        raise
    return contents


def insert(
    database: Database,
    artefacts: Artefacts,
    connection: Connection,
    contents: Contents,
    names: Mapping[str, str],
    *,
    states: bool,
) -> dict[str, int]:
    """Write what the file holds, within a transaction; see :meth:`Store.import_file`."""
    told = {"records": 0, "studies": 0, "evaluations": 0, "artefacts": 0}
    for path in contents.files:
        if path.startswith("artefacts/"):
            artefacts.insert(connection, contents.read(path))
            told["artefacts"] += 1
    for entry in contents.typed(contents.manifest.get("records"), list, "records"):
        told["records"] += insert_record(database, connection, _record(contents, entry))
    studies = contents.typed(contents.manifest.get("studies"), list, "studies")
    absent = set(names) - {entry.get("name") for entry in studies if isinstance(entry, dict)}
    if absent:
        raise InvalidInputError(
            f"{contents.path} has no study {min(absent)!r:.60}; names is {{study in the file: name here}}"
        )
    for entry in studies:
        told["evaluations"] += _study(
            database, connection, contents, contents.typed(entry, dict, "a study"), names, states
        )
        told["studies"] += 1
    return told


def _study(
    database: Database,
    connection: Connection,
    contents: Contents,
    entry: dict[str, Any],
    names: Mapping[str, str],
    states: bool,
) -> int:
    """Write one study; how many of its evaluations were new."""
    name = contents.typed(entry.get("name"), str, "a study's name")
    name = names.get(name, name)
    origin = _provenance(contents, entry.get("provenance"))
    space = checked_digest(entry.get("space_digest"), "a space's digest")
    insert_study(database, connection, name, space, entry.get("objectives"), entry.get("data"), origin)
    number = study_named(database, connection, name).number
    for key in contents.typed(entry.get("records"), list, "a study's records"):
        if read_record(connection, checked_key(key)) is None:
            raise contents.wrong(f"the study {name!r:.60} is about a {key[0]} that is not in it")
        attach(database, connection, number, checked_key(key))
    if states:
        for state, path in contents.typed(entry.get("states"), dict, "states").items():
            insert_state(database, connection, number, state, contents.read(path))
    if entry.get("evaluations") is None:
        return 0
    batches = contents.typed(entry.get("batches"), dict, "batches")
    frame = bounded_frame(contents.read(entry["evaluations"]), contents.wrong)
    return sum(_batches(database, connection, contents, number, frame, batches))


def _batches(
    database: Database,
    connection: Connection,
    contents: Contents,
    study: int,
    frame: pd.DataFrame,
    batches: Mapping[str, Any],
) -> Iterator[int]:
    for batch, part in frame.groupby("_batch", sort=True):
        if str(batch) not in batches:
            raise contents.wrong(f"it has evaluations of batch {batch}, which its manifest does not list")
        entry = contents.typed(batches[str(batch)], dict, "a batch")
        types = contents.typed(entry.get("columns"), dict, "columns")
        if not set(types) <= set(part.columns) - {"_batch"} or not set(types.values()) <= {*rows.TYPES, rows.TEXT}:
            raise contents.wrong(f"the columns of batch {batch} are not those of its table")
        numbers = {name: kind for name, kind in types.items() if kind != rows.TEXT}
        try:
            part = part[[*types]].astype(numbers)
        except (ValueError, TypeError) as error:
            raise contents.wrong(f"the columns of batch {batch} are of other types than it says") from error
        yield insert_batch(
            database, connection, study, _provenance(contents, entry.get("provenance")), *rows.encode(part)
        )


def _record(contents: Contents, entry: Any) -> Record:
    kind, digest = checked_key((contents.typed(entry, dict, "a record").get("kind"), entry.get("digest")))
    files = contents.typed(entry.get("files"), dict, "a record's files")
    for artefact in files.values():
        if f"artefacts/{artefact}" not in contents.files:
            raise contents.wrong(f"the {kind} {digest} has a file that is not in it")
    links = tuple(sorted(checked_key(link) for link in contents.typed(entry.get("links"), list, "a record's links")))
    name = contents.typed(entry.get("name"), str, "a record's name")
    return Record(kind, digest, name, entry.get("data"), files, links, _provenance(contents, entry.get("provenance")))


def _provenance(contents: Contents, entry: Any) -> Provenance:
    told = contents.typed(entry, dict, "provenance")
    seed, wall_s, token = told.get("seed"), told.get("wall_s"), told.get("token")
    packages = contents.typed(told.get("versions"), dict, "versions")
    sound = (
        (seed is None or type(seed) is int)
        and (wall_s is None or type(wall_s) in (int, float))
        and (isinstance(token, str) and _TOKEN.fullmatch(token))
        and all(isinstance(release, str) for release in packages.values())
    )
    try:
        made = datetime.fromisoformat(contents.typed(told.get("created_at"), str, "created_at"))
    except ValueError as error:
        raise contents.wrong("a created_at in it is no time") from error
    if not sound:
        raise contents.wrong("a provenance in it is not a seed, a time, packages and a token")
    return Provenance(seed, wall_s, packages, made, str(token))
