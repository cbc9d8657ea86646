"""Rows say whose they are, so that several hosts may share a database; "" for those of before (`StateStore.claim`)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Add the column to what belongs to one host."""
    for name in ("accelerators", "intervals"):
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("host_id", sa.String(64), nullable=False, server_default=""))
