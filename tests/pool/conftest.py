"""One pool of three Ray nodes for all tests that only use it, and the model that they call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny_model import write_doubling_graph
from tests.pool.cluster import PoolCluster, running_pool


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that doubles what it gets."""
    return write_doubling_graph(tmp_path_factory.mktemp("model") / "doubling.pb")


@pytest.fixture(scope="session")
def cluster() -> Iterator[PoolCluster]:
    """A pool of three nodes; a test that takes something away puts it back."""
    with running_pool(3) as pool:
        yield pool
