"""Tenants, their tokens, who waits for capacity, what each model did; and whose accelerators and attached time are.

"" as a tenant: the operator's own, as all was before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    """Add the tables, and the column to what belongs to a tenant."""
    for name in ("accelerators", "intervals"):
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("tenant", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "model_hours",
        sa.Column("accelerator_id", sa.String(64), primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("inferences", sa.BigInteger, nullable=False),
        sa.Column("service_seconds", sa.Double, nullable=False),
    )
    op.create_table(
        "tenants",
        sa.Column("host_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("quota", sa.Text, nullable=False),
        sa.Column("budget", sa.Text),
        sa.Column("noted", sa.String(64), nullable=False),
    )
    op.create_table(
        "tenant_tokens",
        sa.Column("token_id", sa.String(32), primary_key=True),
        sa.Column("host_id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("label", sa.String(255), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
    )
    op.create_table(
        "waiters",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("ticket", sa.String(64), nullable=False, index=True),
        sa.Column("host_id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("accelerator_type", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("asked_at", sa.Double, nullable=False),
    )
