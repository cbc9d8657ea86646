"""The tables with which hosts began; a database of that time had its version in a row of `meta`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "accelerators",
        sa.Column("accelerator_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False, index=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("uid", sa.Integer),
        sa.Column("process", sa.Text),
        sa.Column("endpoints", sa.Text, nullable=False),
        sa.Column("port", sa.Integer),
        sa.Column("num_restarts", sa.Integer, nullable=False),
        sa.Column("last_exit", sa.Text, nullable=False),
        sa.Column("lease_seconds", sa.Double),
        sa.Column("sample", sa.Text, nullable=False),
    )
    op.create_table(
        "intervals",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("accelerator_id", sa.String(64), nullable=False, index=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("accelerator_type", sa.String(64), nullable=False),
        sa.Column("usd_per_hour", sa.String(40)),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
    )
    op.create_table(
        "usage_hours",
        sa.Column("accelerator_id", sa.String(64), primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("inferences", sa.BigInteger, nullable=False),
        sa.Column("device_seconds", sa.Double, nullable=False),
        sa.Column("throttled_seconds", sa.Double, nullable=False),
    )
    op.create_table(
        "tags",
        sa.Column("accelerator_id", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("value", sa.String(256), nullable=False),
    )
    op.execute("INSERT INTO meta (key, value) VALUES ('schema_version', '1')")
