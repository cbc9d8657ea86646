"""The tables of a host's database as they are now. How an older database comes to them stands in `migrations`."""

from __future__ import annotations

import sqlalchemy as sa

# The last of `migrations/versions`: a test holds both equal. Written here too, so that a start that finds the database
# up to date need not load Alembic.
REVISION = "0004"
FIRST_REVISION = "0001"

metadata = sa.MetaData()
# Alembic's own table, under a name that no other program in the same database uses.
revision = sa.Table(
    "elastic_inference_schema",
    metadata,
    sa.Column("version_num", sa.String(32), primary_key=True),
)
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
accelerators = sa.Table(
    "accelerators",
    metadata,
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
    sa.Column("host_id", sa.String(64), nullable=False, server_default=""),
    sa.Column("tenant", sa.String(64), nullable=False, server_default=""),
)
intervals = sa.Table(
    "intervals",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("accelerator_id", sa.String(64), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("accelerator_type", sa.String(64), nullable=False),
    sa.Column("usd_per_hour", sa.String(40)),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("host_id", sa.String(64), nullable=False, server_default=""),
    sa.Column("tenant", sa.String(64), nullable=False, server_default=""),
)
usage_hours = sa.Table(
    "usage_hours",
    metadata,
    sa.Column("accelerator_id", sa.String(64), primary_key=True),
    sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("inferences", sa.BigInteger, nullable=False),
    sa.Column("device_seconds", sa.Double, nullable=False),
    sa.Column("throttled_seconds", sa.Double, nullable=False),
)
model_hours = sa.Table(
    "model_hours",
    metadata,
    sa.Column("accelerator_id", sa.String(64), primary_key=True),
    sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("model", sa.String(255), primary_key=True),
    sa.Column("inferences", sa.BigInteger, nullable=False),
    sa.Column("service_seconds", sa.Double, nullable=False),
)
tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("host_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("quota", sa.Text, nullable=False),
    sa.Column("budget", sa.Text),
    sa.Column("noted", sa.String(64), nullable=False),
)
tenant_tokens = sa.Table(
    "tenant_tokens",
    metadata,
    sa.Column("token_id", sa.String(32), primary_key=True),
    sa.Column("host_id", sa.String(64), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("label", sa.String(255), nullable=False),
    sa.Column("token_sha256", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
)
waiters = sa.Table(
    "waiters",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("ticket", sa.String(64), nullable=False, index=True),
    sa.Column("host_id", sa.String(64), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("accelerator_type", sa.String(64), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("asked_at", sa.Double, nullable=False),
)
tags = sa.Table(
    "tags",
    metadata,
    sa.Column("accelerator_id", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("value", sa.String(256), nullable=False),
)
