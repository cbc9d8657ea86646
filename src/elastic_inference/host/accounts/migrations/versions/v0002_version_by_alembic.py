"""From here on Alembic's table says which schema it is.

Programs of before look at the row in `meta` alone, and refuse any other value than 1: it stays, with 2.
"""

from __future__ import annotations

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Let programs of before refuse this database."""
    op.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
