"""The store: one database, what lies beside it, and the cache in front of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from codesign_kernel.errors import InvalidInputError, StoreError
from codesign_kernel.store import archive, migrate, unpack
from codesign_kernel.store.artefacts import Artefacts
from codesign_kernel.store.breaker import Breaker
from codesign_kernel.store.cache import Cache
from codesign_kernel.store.database import Database, address
from codesign_kernel.store.digests import checked_digest, sha256
from codesign_kernel.store.provenance import Provenance, read_provenance
from codesign_kernel.store.records import Key, Record, checked_key, content_digest, insert_record, read_record
from codesign_kernel.store.schema import EvaluationRow, ProvenanceRow, RecordRow, StudyRow
from codesign_kernel.store.studies import insert_study, study_named
from codesign_kernel.store.study import Study
from codesign_kernel.store.tiers import DatabaseTier, MemoryTier, RedisTier, Tier

if TYPE_CHECKING:
    import pandas as pd

MEMORY_BYTES = 256 << 20
WEEK_S = 7 * 24 * 3600.0


class Store:
    """Keeps networks, profiles, designs, studies with their evaluations, RTL, reports, artefacts and cached results.

    Threads and processes may use one store at once. It is a context manager.

    Args:
        url: a path or ``sqlite:///path``, or ``postgresql://user@host/database``; without, ``store.db`` in
            ``$CODESIGN_DATA_DIR``, else in ``codesign`` of the user's data folder.
        redis_url: of the cache's second tier; ``$CODESIGN_REDIS_URL`` without; there is none if that is not set either.
        memory_bytes: of the cache's first tier.
        redis_ttl_s: seconds for which Redis keeps a value.
        patience_s: how long writing waits for a lost database to come back.

    Raises:
        SchemaError: the database was written by a newer release. An older one is brought up to date.
        StoreUnavailableError: it cannot be reached.
        StoreError: it is no database, or cannot be written.
        InvalidInputError: the URL names no store.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        redis_url: str | None = None,
        memory_bytes: int = MEMORY_BYTES,
        redis_ttl_s: float = WEEK_S,
        patience_s: float = 30.0,
    ) -> None:
        redis_url = redis_url or os.environ.get("CODESIGN_REDIS_URL")
        self._redis = RedisTier(redis_url, redis_ttl_s) if redis_url else None
        self._database = Database(address(url), patience_s)
        try:
            #: the version of the database's schema
            self.schema = migrate.upgrade(self._database)
        except BaseException:
            self._database.close()
            raise
        self._artefacts = Artefacts(self._database)
        self._kept = DatabaseTier(self._database)
        tiers: list[Tier] = [MemoryTier(memory_bytes), self._kept]
        if self._redis is not None:
            tiers.insert(1, self._redis)
        #: results by the digest of what they were computed from
        self.cache = Cache(tiers, Breaker)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._database.close()
        if self._redis is not None:
            self._redis.close()

    def __repr__(self) -> str:
        return f"Store({self._database.place!r})"

    def keep(
        self,
        kind: str,
        data: object,
        *,
        name: str = "",
        files: Mapping[str, bytes] | None = None,
        links: Iterable[Key] = (),
        digest: str | None = None,
        seed: int | None = None,
        wall_s: float | None = None,
    ) -> str:
        """Keep a record, all of it or nothing; to keep it twice is to keep it once.

        Args:
            kind: of ``KINDS``: network, profile, workload, design, rtl, report or run.
            data: plain data.
            name: for readers.
            files: {name: bytes}: an ``IntegerNetwork``'s archive, generated text...
            links: (kind, digest) of the records that it was made from.
            digest: under which it is found, such as ``Design.digest``; without, that of its content.
            seed: of the random numbers it was made with.
            wall_s: seconds that it took.

        Returns:
            The digest.

        Raises:
            InvalidInputError: the data is not plain, a link leads nowhere, or the digest has other content here.
            StoreFullError: the disk is full.
            StoreError: the database refused.
        """
        files = dict(files or {})
        links = tuple(sorted({checked_key(link) for link in links}))
        for given, content in files.items():
            if not isinstance(content, bytes):
                raise InvalidInputError(f"a file is bytes, but {given!r} is {type(content).__name__}; encode it")
        digests = {given: sha256(content) for given, content in files.items()}
        found_under = content_digest(kind, data, digests, links) if digest is None else digest
        record = Record(kind, found_under, name, data, digests, links, Provenance(seed, wall_s))

        def write() -> None:
            with self._database.write() as connection:
                for content in files.values():
                    self._artefacts.insert(connection, content)
                insert_record(self._database, connection, record)

        self._database.patiently(write)
        return found_under

    def record(self, kind: str, digest: str) -> Record:
        """The record of that kind and digest.

        Raises:
            InvalidInputError: there is none.
        """
        with self._database.read(snapshot=True) as connection:
            found = read_record(connection, (kind, digest))
        if found is None:
            raise InvalidInputError(f"the store {self._database.place} has no {kind} {digest}; keep it first")
        return found

    def has(self, kind: str, digest: str) -> bool:
        """Whether there is such a record."""
        with self._database.read(snapshot=True) as connection:
            return read_record(connection, (kind, digest)) is not None

    def records(self, kind: str | None = None) -> pd.DataFrame:
        """One row a record, the newest first: kind, digest, name, created_at, seed, wall_s."""
        origin = (ProvenanceRow.created_at, ProvenanceRow.seed, ProvenanceRow.wall_s)
        wanted = (
            select(RecordRow.kind, RecordRow.digest, RecordRow.name, *origin)
            .join(ProvenanceRow, ProvenanceRow.id == RecordRow.provenance_id)
            .order_by(ProvenanceRow.created_at.desc(), ProvenanceRow.id.desc())
        )
        return self._table(wanted if kind is None else wanted.where(RecordRow.kind == kind))

    def put(self, content: bytes) -> str:
        """Keep bytes; their SHA-256, by which :meth:`get` finds them.

        Raises:
            StoreFullError: the disk is full.
            StoreError: the database refused.
        """

        def write() -> str:
            with self._database.write() as connection:
                return self._artefacts.insert(connection, content)

        return self._database.patiently(write)

    def get(self, digest: str) -> bytes:
        """The bytes of a digest, checked against it.

        Raises:
            InvalidInputError: there are none.
            StoreError: they are damaged.
        """
        with self._database.read() as connection:
            return self._artefacts.read(connection, checked_digest(digest, "an artefact's digest"))

    def study(
        self,
        name: str,
        space_digest: str,
        objectives: Sequence[str] | Mapping[str, Any],
        *,
        data: object = None,
        seed: int | None = None,
        owner: str | None = None,
    ) -> Study:
        """The study of that name, made if it is not there.

        Args:
            name: of your choice.
            space_digest: SHA-256 of the space, by which design numbers are compared; ``digest_of`` makes one.
            objectives: names, or {name: direction}: plain data.
            data: what else is to be kept of it; of the call that makes it.
            seed: likewise.
            owner: the subject of the person whose it is: nobody else finds it, and another may have one of that name.

        Raises:
            InvalidInputError: it is there, and of another space or of other objectives.
        """
        checked_digest(space_digest, "a space's digest")
        sought = dict(objectives) if isinstance(objectives, Mapping) else [*objectives]

        def make() -> Study:
            with self._database.write() as connection:
                insert_study(self._database, connection, name, space_digest, sought, data, Provenance(seed), owner)
                return study_named(self._database, connection, name, owner)

        return self._database.patiently(make)

    def open_study(self, name: str, *, owner: str | None = None) -> Study:
        """The study of that name, and of that owner.

        Raises:
            InvalidInputError: there is none.
        """
        with self._database.read() as connection:
            return study_named(self._database, connection, name, owner)

    def studies(self, *, owner: str | None = None) -> pd.DataFrame:
        """One row a study, the newest first: name, space_digest, evaluations, created_at, seed.

        Those of ``owner``; without, those that belong to nobody.
        """
        own = len(owner) + 2 if owner is not None else 1  # the name begins after the owner's, counted from 1
        count = (
            select(EvaluationRow.study_id, func.count().label("evaluations"))
            .group_by(EvaluationRow.study_id)
            .subquery()
        )
        return self._table(
            select(
                func.substr(StudyRow.name, own).label("name"),
                StudyRow.space_digest,
                func.coalesce(count.c.evaluations, 0).label("evaluations"),
                ProvenanceRow.created_at,
                ProvenanceRow.seed,
            )
            .join(ProvenanceRow, ProvenanceRow.id == StudyRow.provenance_id)
            .outerjoin(count, count.c.study_id == StudyRow.id)
            .where(StudyRow.owner.is_not_distinct_from(owner))
            .order_by(ProvenanceRow.created_at.desc(), StudyRow.id.desc())
        )

    def export_file(self, path: str | os.PathLike[str], study: str | None = None) -> Path:
        """Write one study with the records that it is about, or everything without ``study``, into one file.

        What belongs to somebody is not in it: :meth:`Privacy.export` hands that to its owner.

        Raises:
            InvalidInputError: there is no such study.
            OutputError: the file cannot be written.
        """
        with self._database.read(snapshot=True) as connection:
            return archive.export(self._database, self._artefacts, connection, Path(path), self.schema, study)

    def import_file(
        self,
        path: str | os.PathLike[str],
        *,
        names: Mapping[str, str] | None = None,
        states: bool = False,
        limit_bytes: int = unpack.LIMIT_BYTES,
    ) -> dict[str, int]:
        """Read what :meth:`export_file` wrote: all of it or nothing; a second time changes nothing.

        Every digest is checked first. Nothing in the file is executed.

        Args:
            path: the file.
            names: {study in the file: its name here}; its own without.
            states: whether to take the samplers' states too. Their reader may unpickle them: only from those you trust.
            limit_bytes: what the file may hold unpacked.

        Returns:
            {"records", "evaluations": how many were new; "studies", "artefacts": how many the file holds}.

        Raises:
            ArchiveError: the file is no export, was changed, or holds too much.
            InvalidInputError: a study of that name is here, of another space.
        """
        contents = unpack.open_archive(Path(path), limit_bytes)
        with contents, self._database.write() as connection:
            return unpack.insert(self._database, self._artefacts, connection, contents, names or {}, states=states)

    def trim_cache(self, limit_bytes: int) -> int:
        """Leave the newest ``limit_bytes`` of cached results in the database; how many were forgotten."""
        return self._kept.trim(limit_bytes)

    def health(self) -> dict[str, Any]:
        """{"database": {place, schema, reachable, detail}, "cache": {tier: see :meth:`Cache.health`}}."""
        try:
            with self._database.read() as connection:
                migrate.version(connection)
            detail = ""
        except StoreError as error:
            detail = str(error)
        told = {"place": self._database.place, "schema": self.schema, "reachable": not detail, "detail": detail}
        return {"database": told, "cache": self.cache.health()}

    def provenance(self, study: str) -> Provenance:
        """Where a study comes from.

        Raises:
            InvalidInputError: there is no such study.
        """
        with self._database.read() as connection:
            number = connection.execute(
                select(StudyRow.provenance_id).where(StudyRow.name == study, StudyRow.owner.is_(None))
            ).scalar_one_or_none()
            if number is None:
                raise InvalidInputError(f"the store {self._database.place} has no study {study!r:.60}; see studies()")
            return read_provenance(connection, number)

    def _table(self, wanted: Any) -> pd.DataFrame:
        import pandas as pd

        with self._database.read() as connection:
            return _frame(connection, wanted, pd)


def _frame(connection: Connection, wanted: Any, pd: Any) -> pd.DataFrame:
    found = connection.execute(wanted)
    return pd.DataFrame([tuple(row) for row in found], columns=[*found.keys()])
