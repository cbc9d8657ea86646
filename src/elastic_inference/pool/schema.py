"""The tables that a pool has beside those of a host (`host.accounts.schema`), in the same database."""

from __future__ import annotations

import sqlalchemy as sa

REVISION = "0001"

metadata = sa.MetaData()
# Alembic's own table for these; that of the host's tables has another name.
revision = sa.Table(
    "elastic_inference_pool_schema",
    metadata,
    sa.Column("version_num", sa.String(32), primary_key=True),
)
hosts = sa.Table(
    "pool_hosts",
    metadata,
    sa.Column("host_id", sa.String(64), primary_key=True),
    sa.Column("node_id", sa.String(64), nullable=False),
    sa.Column("url", sa.String(255), nullable=False),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("offer", sa.Text, nullable=False),
)
placements = sa.Table(
    "pool_placements",
    metadata,
    sa.Column("accelerator_id", sa.String(64), primary_key=True),
    sa.Column("host_id", sa.String(64)),
    sa.Column("host_epoch", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("limits", sa.Text, nullable=False),
)
