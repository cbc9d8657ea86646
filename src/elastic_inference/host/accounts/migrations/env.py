"""What Alembic runs for each upgrade: the steps, on the connection and in the transaction that `upgrade` opened."""

from __future__ import annotations

from alembic import context

from elastic_inference.host.accounts import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.revision.name,
    transactional_ddl=True,  # SQLite too: `upgrade` begins its transactions itself
    render_as_batch=True,
)
context.run_migrations()
