"""The tables. Their names begin with ``codesign_``, so that they can stand beside other tables of one database.

A change here needs a file in ``migrations/versions``; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

#: Where the number of the schema is kept: not Alembic's own name, which Optuna uses in its databases.
VERSION_TABLE = "codesign_version"


class UtcTime(TypeDecorator[datetime]):
    """A moment: UTC in the database, with its zone in Python; SQLite has no zones of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Towards the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables."""


def _digest(**options: Any) -> Mapped[str]:
    return mapped_column(String(64), **options)


class ProvenanceRow(Table):
    """Where a record, a study or a batch of evaluations comes from."""

    __tablename__ = "codesign_provenance"
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(32), unique=True)
    seed: Mapped[int | None] = mapped_column(BigInteger)
    wall_s: Mapped[float | None] = mapped_column(Double)
    versions: Mapped[Any] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class ArtefactRow(Table):
    """Bytes by their digest; without ``content`` they are in a file beside the database."""

    __tablename__ = "codesign_artefact"
    digest: Mapped[str] = _digest(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[bytes | None] = mapped_column(LargeBinary)


class RecordRow(Table):
    """A network, a profile, a design...: plain data; ``content`` is the digest of all that it says."""

    __tablename__ = "codesign_record"
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[str] = _digest(primary_key=True)
    content: Mapped[str] = _digest()
    name: Mapped[str] = mapped_column(String(200))
    data: Mapped[Any] = mapped_column(JSON)
    provenance_id: Mapped[int] = mapped_column(ForeignKey("codesign_provenance.id"))


class FileRow(Table):
    """A named artefact of a record."""

    __tablename__ = "codesign_file"
    __table_args__ = (
        ForeignKeyConstraint(
            ["kind", "digest"], ["codesign_record.kind", "codesign_record.digest"], ondelete="CASCADE"
        ),
    )
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[str] = _digest(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    artefact: Mapped[str] = mapped_column(String(64), ForeignKey("codesign_artefact.digest"))


class LinkRow(Table):
    """What a record was made from: a report's network, a bundle's design."""

    __tablename__ = "codesign_link"
    __table_args__ = (
        ForeignKeyConstraint(
            ["kind", "digest"], ["codesign_record.kind", "codesign_record.digest"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["to_kind", "to_digest"], ["codesign_record.kind", "codesign_record.digest"]),
    )
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[str] = _digest(primary_key=True)
    to_kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    to_digest: Mapped[str] = _digest(primary_key=True)


class StudyRow(Table):
    """An exploration of one space for one set of objectives."""

    __tablename__ = "codesign_study"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    space_digest: Mapped[str] = _digest()
    objectives: Mapped[Any] = mapped_column(JSON)
    data: Mapped[Any] = mapped_column(JSON)
    provenance_id: Mapped[int] = mapped_column(ForeignKey("codesign_provenance.id"))
    owner: Mapped[str | None] = mapped_column(String(32), index=True)


class StudyRecordRow(Table):
    """A record that a study is about."""

    __tablename__ = "codesign_study_record"
    __table_args__ = (ForeignKeyConstraint(["kind", "digest"], ["codesign_record.kind", "codesign_record.digest"]),)
    study_id: Mapped[int] = mapped_column(ForeignKey("codesign_study.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[str] = _digest(primary_key=True)


class BatchRow(Table):
    """Evaluations that were written together: their columns {name: type of NumPy, or text}."""

    __tablename__ = "codesign_batch"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("codesign_study.id", ondelete="CASCADE"))
    provenance_id: Mapped[int] = mapped_column(ForeignKey("codesign_provenance.id"), unique=True)
    columns: Mapped[Any] = mapped_column(JSON)


class EvaluationRow(Table):
    """One design's results: a JSON object, as text because thousands a second are written and read."""

    __tablename__ = "codesign_evaluation"
    __table_args__ = ({"sqlite_with_rowid": False},)
    study_id: Mapped[int] = mapped_column(ForeignKey("codesign_study.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    batch_id: Mapped[int] = mapped_column(ForeignKey("codesign_batch.id"))
    results: Mapped[str] = mapped_column(Text)


class StateRow(Table):
    """A sampler's state, opaque."""

    __tablename__ = "codesign_state"
    study_id: Mapped[int] = mapped_column(ForeignKey("codesign_study.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)


class CacheRow(Table):
    """A result by the digest of what it was computed from."""

    __tablename__ = "codesign_cache"
    __table_args__ = (Index("codesign_cache_written_at", "written_at"),)
    key: Mapped[str] = _digest(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    written_at: Mapped[datetime] = mapped_column(UtcTime)
    owner: Mapped[str | None] = mapped_column(String(32), index=True)


class PersonRow(Table):
    """Who may sign in. ``subject`` is a random name that says nothing; all that a person owns is filed under it."""

    __tablename__ = "codesign_person"
    subject: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password: Mapped[str | None] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(String(32))
    disabled: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    seen_at: Mapped[datetime | None] = mapped_column(UtcTime)


def _owner(**options: Any) -> Mapped[str]:
    return mapped_column(String(32), ForeignKey("codesign_person.subject", ondelete="CASCADE"), **options)


class LoginRow(Table):
    """A browser that is signed in: the digest of its cookie's secret."""

    __tablename__ = "codesign_login"
    digest: Mapped[str] = _digest(primary_key=True)
    owner: Mapped[str] = _owner(index=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    seen_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)


class TokenRow(Table):
    """An API token: the digest of its secret, and the capabilities that it carries."""

    __tablename__ = "codesign_token"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    digest: Mapped[str] = _digest(unique=True)
    owner: Mapped[str] = _owner(index=True)
    label: Mapped[str] = mapped_column(String(200))
    capabilities: Mapped[Any] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcTime)


class ConsentRow(Table):
    """What a person agreed to, or took back: one row a purpose."""

    __tablename__ = "codesign_consent"
    owner: Mapped[str] = _owner(primary_key=True)
    purpose: Mapped[str] = mapped_column(String(32), primary_key=True)
    granted: Mapped[bool] = mapped_column(Boolean)
    text_version: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(UtcTime)


class JobRow(Table):
    """Work that somebody asked for: what, how far, and what came of it. Request and result may be encrypted."""

    __tablename__ = "codesign_job"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("codesign_job_owner_at", "owner", "created_at"),
    )
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = _owner()
    kind: Mapped[str] = mapped_column(String(32))
    scope: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16), index=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    request_digest: Mapped[str] = _digest()
    request: Mapped[bytes] = mapped_column(LargeBinary)
    result: Mapped[bytes | None] = mapped_column(LargeBinary)
    error: Mapped[str] = mapped_column(Text)
    done: Mapped[float] = mapped_column(Double)
    message: Mapped[str] = mapped_column(String(400))
    attempt: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime, index=True)


class JobEventRow(Table):
    """One step of a job's progress, numbered from 1, so that a reader can go on where it was cut off."""

    __tablename__ = "codesign_job_event"
    job_id: Mapped[str] = mapped_column(String(32), ForeignKey("codesign_job.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcTime)
    data: Mapped[Any] = mapped_column(JSON)


class BelongingRow(Table):
    """A file that belongs to somebody: an upload, a result, a bundle. Never shared, not even with who has the same."""

    __tablename__ = "codesign_belonging"
    __table_args__ = (Index("codesign_belonging_owner_at", "owner", "created_at"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = _owner()
    job_id: Mapped[str | None] = mapped_column(
        String(32), ForeignKey("codesign_job.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(100))
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = _digest()
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime, index=True)
