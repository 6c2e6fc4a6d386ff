"""Records, artefacts, studies and their evaluations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _record_key(prefix: str = "", ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [f"{prefix}kind", f"{prefix}digest"], ["codesign_record.kind", "codesign_record.digest"], ondelete=ondelete
    )


def _text(name: str, length: int, *constraints: sa.ForeignKey, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), *constraints, primary_key=key, nullable=False)


def _study(*, key: bool) -> sa.Column[int]:
    target = sa.ForeignKey("codesign_study.id", ondelete="CASCADE")
    return sa.Column("study_id", sa.Integer, target, primary_key=key, nullable=False, autoincrement=False)


def _provenance(*, unique: bool = False) -> sa.Column[int]:
    target = sa.ForeignKey("codesign_provenance.id")
    return sa.Column("provenance_id", sa.Integer, target, nullable=False, unique=unique)


def _records() -> None:
    op.create_table(
        "codesign_provenance",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token", sa.String(32), nullable=False, unique=True),
        sa.Column("seed", sa.BigInteger),
        sa.Column("wall_s", sa.Double),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "codesign_artefact",
        _text("digest", 64, key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary),
    )
    op.create_table(
        "codesign_record",
        _text("kind", 32, key=True),
        _text("digest", 64, key=True),
        _text("content", 64),
        _text("name", 200),
        sa.Column("data", sa.JSON, nullable=False),
        _provenance(),
    )
    op.create_table(
        "codesign_file",
        _text("kind", 32, key=True),
        _text("digest", 64, key=True),
        _text("name", 200, key=True),
        _text("artefact", 64, sa.ForeignKey("codesign_artefact.digest")),
        _record_key(ondelete="CASCADE"),
    )
    op.create_table(
        "codesign_link",
        _text("kind", 32, key=True),
        _text("digest", 64, key=True),
        _text("to_kind", 32, key=True),
        _text("to_digest", 64, key=True),
        _record_key(ondelete="CASCADE"),
        _record_key("to_"),
    )


def _studies() -> None:
    op.create_table(
        "codesign_study",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        _text("space_digest", 64),
        sa.Column("objectives", sa.JSON, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        _provenance(),
    )
    op.create_table(
        "codesign_study_record",
        _study(key=True),
        _text("kind", 32, key=True),
        _text("digest", 64, key=True),
        _record_key(),
    )
    op.create_table(
        "codesign_batch",
        sa.Column("id", sa.Integer, primary_key=True),
        _study(key=False),
        _provenance(unique=True),
        sa.Column("columns", sa.JSON, nullable=False),
    )
    op.create_table(
        "codesign_evaluation",
        _study(key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("batch_id", sa.Integer, sa.ForeignKey("codesign_batch.id"), nullable=False),
        sa.Column("results", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "codesign_state",
        _study(key=True),
        _text("name", 200, key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )


def upgrade() -> None:
    """From an empty database."""
    _records()
    _studies()


def downgrade() -> None:
    """To an empty database."""
    for name in ("state", "evaluation", "batch", "study_record", "study", "link", "file", "record", "artefact"):
        op.drop_table(f"codesign_{name}")
    op.drop_table("codesign_provenance")
