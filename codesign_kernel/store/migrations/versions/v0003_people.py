"""People, their sessions, tokens, consents, jobs and files; studies and cached results may have an owner."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_OWNED = ("codesign_study", "codesign_cache")


def _text(name: str, length: int, *, key: bool = False, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), primary_key=key, nullable=False, unique=unique)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _owner(*, key: bool = False) -> sa.Column[str]:
    target = sa.ForeignKey("codesign_person.subject", ondelete="CASCADE")
    return sa.Column("owner", sa.String(32), target, primary_key=key, nullable=False)


def _job(*, key: bool = False, nullable: bool = False) -> sa.Column[str]:
    target = sa.ForeignKey("codesign_job.id", ondelete="CASCADE")
    return sa.Column("job_id", sa.String(32), target, primary_key=key, nullable=nullable)


def _people() -> None:
    op.create_table(
        "codesign_person",
        _text("subject", 32, key=True),
        _text("name", 200, unique=True),
        _text("role", 16),
        sa.Column("password", sa.Text),
        _text("provider", 32),
        sa.Column("disabled", sa.Boolean, nullable=False),
        _moment("created_at"),
        _moment("seen_at", nullable=True),
    )
    op.create_table(
        "codesign_login",
        _text("digest", 64, key=True),
        _owner(),
        _moment("created_at"),
        _moment("seen_at"),
        _moment("expires_at"),
    )
    op.create_index("ix_codesign_login_owner", "codesign_login", ["owner"])
    op.create_table(
        "codesign_token",
        _text("id", 16, key=True),
        _text("digest", 64, unique=True),
        _owner(),
        _text("label", 200),
        sa.Column("capabilities", sa.JSON, nullable=False),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("revoked_at", nullable=True),
        _moment("used_at", nullable=True),
    )
    op.create_index("ix_codesign_token_owner", "codesign_token", ["owner"])
    op.create_table(
        "codesign_consent",
        _owner(key=True),
        _text("purpose", 32, key=True),
        sa.Column("granted", sa.Boolean, nullable=False),
        _text("text_version", 32),
        _moment("at"),
    )


def _jobs() -> None:
    op.create_table(
        "codesign_job",
        _text("id", 32, key=True),
        _owner(),
        _text("kind", 32),
        _text("scope", 200),
        _text("state", 16),
        sa.Column("idempotency_key", sa.String(200)),
        _text("request_digest", 64),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("done", sa.Double, nullable=False),
        _text("message", 400),
        sa.Column("attempt", sa.Integer, nullable=False),
        _moment("created_at"),
        _moment("started_at", nullable=True),
        _moment("finished_at", nullable=True),
        _moment("expires_at", nullable=True),
        sa.UniqueConstraint("owner", "idempotency_key"),
    )
    op.create_index("codesign_job_owner_at", "codesign_job", ["owner", "created_at"])
    op.create_index("ix_codesign_job_state", "codesign_job", ["state"])
    op.create_index("ix_codesign_job_expires_at", "codesign_job", ["expires_at"])
    op.create_table(
        "codesign_job_event",
        _job(key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, nullable=False, autoincrement=False),
        _moment("at"),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_table(
        "codesign_belonging",
        _text("id", 32, key=True),
        _owner(),
        _job(nullable=True),
        _text("name", 200),
        _text("media_type", 100),
        sa.Column("size", sa.BigInteger, nullable=False),
        _text("digest", 64),
        sa.Column("content", sa.LargeBinary, nullable=False),
        _moment("created_at"),
        _moment("expires_at", nullable=True),
    )
    op.create_index("codesign_belonging_owner_at", "codesign_belonging", ["owner", "created_at"])
    op.create_index("ix_codesign_belonging_job_id", "codesign_belonging", ["job_id"])
    op.create_index("ix_codesign_belonging_expires_at", "codesign_belonging", ["expires_at"])


def upgrade() -> None:
    """From 0002."""
    for table in _OWNED:
        op.add_column(table, sa.Column("owner", sa.String(32)))
        op.create_index(f"ix_{table}_owner", table, ["owner"])
    _people()
    _jobs()


def downgrade() -> None:
    """To 0002."""
    for table in ("belonging", "job_event", "job", "consent", "token", "login", "person"):
        op.drop_table(f"codesign_{table}")
    for table in _OWNED:
        op.drop_index(f"ix_{table}_owner", table)
        op.drop_column(table, "owner")
