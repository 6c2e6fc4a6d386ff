"""Files that belong to somebody: uploads, results, bundles. Sealed, never shared, found through their owner only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select

from codesign_kernel.store.jobs import _kept, now, place_of
from codesign_kernel.store.schema import BelongingRow
from codesign_kernel.store.store import Store

_LIGHT = (
    BelongingRow.id, BelongingRow.owner, BelongingRow.job_id, BelongingRow.name, BelongingRow.media_type,
    BelongingRow.size, BelongingRow.digest, BelongingRow.created_at, BelongingRow.expires_at,
)  # fmt: skip


@dataclass(frozen=True)
class Belonging:
    """A file without its content; ``size`` and ``digest`` (sha256) are those of what was sealed."""

    id: str
    owner: str
    job_id: str | None
    name: str
    media_type: str
    size: int
    digest: str
    created_at: datetime
    expires_at: datetime | None


class BelongingTable:
    """All SQL for belongings."""

    def __init__(self, store: Store) -> None:
        self._database = store._database

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one; ``content`` is sealed already."""
        with self._database.write() as connection:
            connection.execute(insert(BelongingRow).values(dict(row)))

    def get(self, owner: str, name: str) -> Belonging | None:
        """The owner's, where it has not expired."""
        wanted = select(*_LIGHT).where(_mine(owner, name))
        with self._database.read() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else Belonging(*row)

    def newest(self, owner: str, name: str) -> Belonging | None:
        """The owner's newest that is called ``name``."""
        called = and_(BelongingRow.owner == owner, BelongingRow.name == name, _kept(BelongingRow.expires_at))
        wanted = select(*_LIGHT).where(called).order_by(BelongingRow.created_at.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else Belonging(*row)

    def content(self, owner: str, name: str) -> bytes | None:
        """What was written, sealed."""
        with self._database.read() as connection:
            found = connection.execute(select(BelongingRow.content).where(_mine(owner, name))).scalar_one_or_none()
        return found

    def page(self, owner: str, limit: int, after: str | None = None, *, job: str | None = None) -> list[Belonging]:
        """The owner's, the newest first, behind the place ``after``.

        Raises:
            InvalidInputError: ``after`` is no place.
        """
        wanted = select(*_LIGHT).where(BelongingRow.owner == owner, _kept(BelongingRow.expires_at))
        if job is not None:
            wanted = wanted.where(BelongingRow.job_id == job)
        if after is not None:
            at, name = place_of(after)
            same = and_(BelongingRow.created_at == at, BelongingRow.id < name)
            wanted = wanted.where(or_(BelongingRow.created_at < at, same))
        wanted = wanted.order_by(BelongingRow.created_at.desc(), BelongingRow.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [Belonging(*row) for row in connection.execute(wanted)]

    def bytes_of(self, owner: str) -> int:
        """Bytes that the owner keeps."""
        wanted = select(func.coalesce(func.sum(BelongingRow.size), 0)).where(BelongingRow.owner == owner)
        with self._database.read() as connection:
            return int(connection.execute(wanted).scalar_one())

    def kept(self, owner: str, media_type: str) -> int:
        """How many files of that type the owner keeps that no job made."""
        mine = (BelongingRow.owner == owner, BelongingRow.job_id.is_(None), BelongingRow.media_type == media_type)
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(BelongingRow).where(*mine)).scalar_one())

    def forget(self, owner: str, name: str) -> bool:
        """Delete one; whether there was one."""
        with self._database.write() as connection:
            return connection.execute(delete(BelongingRow).where(_mine(owner, name))).rowcount == 1

    def forget_expired(self, at: datetime | None = None) -> int:
        """Delete what has expired; how many."""
        with self._database.write() as connection:
            gone = BelongingRow.expires_at <= (at or now())
            return int(connection.execute(delete(BelongingRow).where(gone)).rowcount)


def _mine(owner: str, name: str) -> Any:
    return and_(BelongingRow.id == name, BelongingRow.owner == owner, _kept(BelongingRow.expires_at))
