"""How a database of an older version comes to the schema of this one: Alembic's environment and its steps."""
