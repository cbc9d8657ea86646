"""A drain moves one accelerator after another with a pause between, in which it can be called off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.pool.cluster import PATIENT, PoolCluster, running_pool
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def own() -> Iterator[PoolCluster]:
    with running_pool(2, times=f'{PATIENT}\ndrain_pause = "10min"') as pool:
        yield pool


def test_a_drain_that_is_called_off_between_two_moves_leaves_the_rest(own: PoolCluster) -> None:
    ids = [own.session.attach("tiny", lease_seconds=None).accelerator_id for _ in range(2)]
    try:
        host_id = own.holder(ids[0])["host_id"]
        assert own.holder(ids[1])["host_id"] == host_id  # packed
        _order(own, host_id, True)
        wait_until(lambda: len(_host(own, host_id)["accelerator_ids"]) == 1, "the first move")
        _order(own, host_id, False)
        left = _host(own, host_id)
        assert left["state"] == "ready"
        assert len(left["accelerator_ids"]) == 1
        _order(own, host_id, True)  # whose first move waits for no pause of the one before
        wait_until(lambda: not _host(own, host_id)["accelerator_ids"], "an empty host")
    finally:
        for each in ids:
            own.session.detach(each)


def _order(pool: PoolCluster, host_id: str, is_draining: bool) -> None:
    pool.session.request("POST", f"/v1/pool/hosts/{host_id}/drain", {"is_draining": is_draining})


def _host(pool: PoolCluster, host_id: str) -> dict[str, Any]:
    hosts: list[dict[str, Any]] = pool.session.request("GET", "/v1/pool/hosts")
    (found,) = [each for each in hosts if each["host_id"] == host_id]
    return found
