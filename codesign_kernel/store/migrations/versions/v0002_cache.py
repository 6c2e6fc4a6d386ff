"""Results by the digest of what they were computed from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From 0001."""
    op.create_table(
        "codesign_cache",
        sa.Column("key", sa.String(64), primary_key=True, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("codesign_cache_written_at", "codesign_cache", ["written_at"])


def downgrade() -> None:
    """To 0001."""
    op.drop_table("codesign_cache")
