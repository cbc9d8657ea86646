"""Real parts for the tests of the host."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """An empty PostgreSQL database from EI_TEST_POSTGRESQL, such as postgresql+psycopg://user@host/name."""
    url = os.environ.get("EI_TEST_POSTGRESQL")
    if not url:
        pytest.skip("needs a PostgreSQL server: set EI_TEST_POSTGRESQL to the URL of a database for tests")
    import sqlalchemy as sa

    from elastic_inference.host import state

    engine = sa.create_engine(url)
    yield url
    state._metadata.drop_all(engine)
    engine.dispose()
