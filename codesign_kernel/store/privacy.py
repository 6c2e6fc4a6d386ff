"""Rights of people over what is kept about them: consent, export, erasure; and the end that everything has.

The table of what is kept is ``DATA``; see ``kept``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Protocol

from sqlalchemy import delete, or_, select, update

from codesign_kernel.errors import InvalidInputError, StoreError
from codesign_kernel.store import erasure
from codesign_kernel.store.consent import NO_SALE, PURPOSES, Consent
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.digests import checked_owner
from codesign_kernel.store.kept import DATA, WITHOUT_CONSENT_DAYS, retention, table_text
from codesign_kernel.store.people import checked_text
from codesign_kernel.store.personal import Package, write_export
from codesign_kernel.store.schema import (
    BelongingRow,
    CacheRow,
    ConsentRow,
    JobRow,
    LoginRow,
    PersonRow,
    ProvenanceRow,
    StudyRow,
    TokenRow,
)
from codesign_kernel.store.store import Store
from codesign_kernel.store.tombstones import Tombstones

__all__ = ["DATA", "NO_SALE", "PURPOSES", "Privacy", "Trail", "table_text"]

#: Bytes of an export that are held in memory; a larger one goes through a temporary file.
_SPOOL = 16 << 20
_WAITING = ("queued", "running")


class Trail(Protocol):
    """The audit trail, as far as it is needed here."""

    path: Path

    def write(self, event: str, who: str = "", **data: Any) -> int:
        """Add a line."""

    def forget(self, before: datetime) -> int:
        """Remove the files that ended before that time; how many lines those had."""


class Privacy:
    """Consent, export, erasure and retention for the people of one store. Threads may share it.

    Args:
        store: where their rows are.
        vault: opens what was sealed.
        audit: is told what was done; ``None`` where there is none.
        folders: in which private folders of people lie: those whose name has the subject in it.
        retention_days: {kind of ``DATA``: days}, over the table's own.
        tombstones: the file with the list of the erased; ``erased.jsonl`` beside the keys without.

    Attributes:
        before_erase: called with the subject before anything of theirs goes: they stop what runs for them, and come
            back when it has ended.
        folders_of: called with a subject: further folders that are theirs.
    """

    def __init__(
        self,
        store: Store,
        vault: Vault,
        audit: Trail | None = None,
        folders: Sequence[Path] = (),
        *,
        retention_days: Mapping[str, float] | None = None,
        tombstones: Path | None = None,
    ) -> None:
        self._store, self._database, self._vault, self._audit = store, store._database, vault, audit
        self._folders = tuple(Path(folder) for folder in folders)
        self.days = retention(retention_days)
        self.consents = Consent(self._database)
        self.tombstones = Tombstones(tombstones or vault.path.with_name("erased.jsonl"))
        self.before_erase: list[Callable[[str], None]] = []
        self.folders_of: list[Callable[[str], Iterable[Path]]] = []

    def consent(self, subject: str, purpose: str) -> bool:
        """Whether ``subject`` has agreed to ``purpose`` (of ``PURPOSES``); no, until they say yes.

        Raises:
            InvalidInputError: there is no such purpose.
        """
        return self.consents.given(subject, purpose)

    def set_consent(self, subject: str, purpose: str, granted: bool) -> None:
        """Write down what ``subject`` answered.

        Raises:
            InvalidInputError: there is no such purpose.
            StoreError: there is no such person.
        """
        self.consents.set(subject, purpose, granted)
        self.tell("consent_changed", subject, purpose=purpose, granted=bool(granted))

    def export(self, subject: str) -> bytes:
        """All that is kept about ``subject``, as a zip.

        Raises:
            InvalidInputError: there is no such person.
            StoreError: something of it cannot be read.
        """
        with tempfile.SpooledTemporaryFile(_SPOOL) as stream:
            self.export_to(subject, stream)
            stream.seek(0)
            return stream.read()

    def export_to(self, subject: str, stream: IO[bytes]) -> dict[str, int]:
        """:meth:`export` into ``stream``; {kind: rows}."""
        self._known(subject)
        package = Package(stream)
        with self._database.read(snapshot=True) as connection:
            write_export(
                package, connection, self._store._artefacts, self._vault, subject, self._trail(), self._private(subject)
            )
        self.tell("exported", subject, rows=package.rows)
        return dict(package.rows)

    def erase(self, subject: str) -> dict[str, int]:
        """Erase ``subject`` and all that is theirs; how many of each kind went. To repeat it is to finish it.

        The audit trail keeps the subject, which leads to nobody then; the list of the erased keeps it too.

        Raises:
            InvalidInputError: there is no such person, and never was.
            StoreError: something could not be erased; the erasure is on the list, and :meth:`retain` goes on with it.
        """
        guest = self._known(subject, erased=True) == "guest"
        if not guest:  # a guest is not brought back by a backup for longer than retention takes
            self.tombstones.begin(subject)
        ways_in = erasure.lock_out(self._database, subject)
        for stop in self.before_erase:
            stop(subject)
        caches = self._store.cache.erase(subject)
        folders = self._remove_folders(subject)
        with self._database.write() as connection:
            counts = erasure.delete_person(connection, subject)
        counts["cache"] += sum(caches.values())
        counts |= {name: counts[name] + number for name, number in ways_in.items()}
        counts |= {"folders": folders, "files": erasure.sweep_files(self._database, self._store._artefacts)}
        erasure.scrub(self._database, whole=not guest)
        if not guest:
            self.tombstones.end(subject)
        self.tell("erased", subject, **counts)
        return counts

    def rename(self, subject: str, name: str) -> None:
        """Put a person's name right.

        Raises:
            InvalidInputError: there is no such person, the name is none, or somebody has it.
        """
        self._known(subject)
        name = checked_text("a person's name", name)
        with self._database.write() as connection:
            other = select(PersonRow.subject).where(PersonRow.name == name, PersonRow.subject != subject)
            if connection.execute(other).first() is not None:
                raise InvalidInputError(f"there is a person called {name!r:.60} already; choose another name")
            connection.execute(update(PersonRow).where(PersonRow.subject == subject).values(name=name))
        self.tell("person_changed", subject, what="name")

    def retain(self, now: datetime | None = None) -> dict[str, int]:
        """Erase what has reached its end, finish erasures that were cut off; how many of each kind went.

        Call it once a day.

        Raises:
            StoreError: the database refused.
        """
        now = now or datetime.now(UTC)
        counts = {"erasures": 0}
        for subject, done in self.tombstones.all().items():
            if not done:
                self.erase(subject)
                counts["erasures"] += 1
        counts["guests"] = len(guests := self._old_guests(now))
        for subject in guests:
            self.erase(subject)
        for name, number in self._retain_rows(now).items():
            counts[name] = counts.get(name, 0) + number
        counts["files"] = erasure.sweep_files(self._database, self._store._artefacts)
        if any(counts.values()):
            erasure.scrub(self._database, whole=False)
        limit = self.days["audit trail"]
        if self._audit is not None and limit is not None:
            counts["audit trail"] = self._audit.forget(now - timedelta(days=limit))
        self.tell("retention", "", **counts)
        return counts

    def subject_of(self, name: str) -> str:
        """The subject of a person by name, or the subject itself.

        Raises:
            InvalidInputError: there is no such person.
        """
        with self._database.read() as connection:
            by_name = connection.execute(select(PersonRow.subject).where(PersonRow.name == name)).scalar_one_or_none()
        if by_name is not None:
            return by_name
        self._known(name, erased=True)
        return name

    def _known(self, subject: str, *, erased: bool = False) -> str:
        """The identity provider of a person; empty for one who was erased."""
        checked_owner(subject)
        with self._database.read() as connection:
            wanted = select(PersonRow.provider).where(PersonRow.subject == subject)
            found = connection.execute(wanted).scalar_one_or_none()
        if found is None and not (erased and subject in self.tombstones.all()):
            raise InvalidInputError(f"there is no person with the subject {subject!r:.40}; see `codesign user list`")
        return found or ""

    def _old_guests(self, now: datetime) -> list[str]:
        limit = self.days["guests"]
        if limit is None:
            return []
        since = now - timedelta(days=limit)
        seen = or_(PersonRow.seen_at < since, PersonRow.seen_at.is_(None))
        wanted = select(PersonRow.subject).where(PersonRow.provider == "guest", PersonRow.created_at < since, seen)
        with self._database.read() as connection:
            return list(connection.execute(wanted).scalars())

    def _retain_rows(self, now: datetime) -> dict[str, int]:
        def before(kind: str) -> datetime:
            limit = self.days[kind]
            return now - timedelta(days=36_500 if limit is None else limit)

        day_ago = now - timedelta(days=WITHOUT_CONSENT_DAYS)
        agreed = select(ConsentRow.owner).where(ConsentRow.purpose == "storage", ConsentRow.granted)
        people = select(PersonRow.subject)
        made = select(ProvenanceRow.created_at).where(ProvenanceRow.id == StudyRow.provenance_id).scalar_subquery()
        over = {
            name: or_(
                table.expires_at <= now,
                table.created_at < before(name),
                (table.created_at < day_ago) & table.owner.not_in(agreed),
            )
            for name, table in (("belongings", BelongingRow), ("jobs", JobRow))
        }
        rules: tuple[tuple[str, Any, Any], ...] = (
            ("sessions", LoginRow, LoginRow.expires_at < before("sessions")),
            ("tokens", TokenRow, or_(TokenRow.expires_at < before("tokens"), TokenRow.revoked_at < before("tokens"))),
            ("belongings", BelongingRow, over["belongings"]),
            ("jobs", JobRow, over["jobs"] & JobRow.state.not_in(_WAITING)),
            ("cache", CacheRow, or_(CacheRow.written_at < before("cache"), CacheRow.owner.not_in(people))
             & CacheRow.owner.is_not(None)),
        )  # fmt: skip
        old_studies = StudyRow.owner.is_not(None) & or_(
            made < before("studies"),
            (made < day_ago) & StudyRow.owner.not_in(agreed),
            StudyRow.owner.not_in(people),
        )
        with self._database.write() as connection:
            counts = {name: int(connection.execute(delete(table).where(rule)).rowcount) for name, table, rule in rules}
            return counts | erasure.delete_studies(connection, old_studies)

    def _trail(self) -> list[Path]:
        """The files of the audit trail, the oldest first."""
        if self._audit is None:
            return []
        path = self._audit.path
        numbered = [one for one in path.parent.glob(f"{path.name}.*") if one.suffix[1:].isdigit()]
        return [*sorted(numbered, key=lambda one: int(one.suffix[1:])), *([path] if path.exists() else [])]

    def _private(self, subject: str) -> list[Path]:
        """The folders of ``subject`` that are there."""
        named = [one for root in self._folders if root.is_dir() for one in root.iterdir() if subject in one.name]
        told = [Path(one) for ask in self.folders_of for one in ask(subject)]
        return [one for one in dict.fromkeys([*named, *told]) if one.is_dir() and not one.is_symlink()]

    def _remove_folders(self, subject: str) -> int:
        found = self._private(subject)
        for folder in found:
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                continue  # its process has ended, and taken it along
            except OSError as error:
                raise StoreError(
                    f"{folder} cannot be removed: {error.strerror or error}; remove it, then repeat"
                ) from error
        return len(found)

    def tell(self, event: str, who: str, **data: Any) -> None:
        """Write a line into the audit trail, where there is one."""
        if self._audit is not None:
            self._audit.write(event, who, **data)
