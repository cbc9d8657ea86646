"""Ray knows what accelerators hold, and its own autoscaler starts a node for an attach that waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from elastic_inference.client.host_session import Attachment
from tests.pool.cluster import OBJECT_STORE_BYTES, PoolCluster, running_pool
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)
# Of Ray's provider of nodes on this machine, which starts real ones and needs no cloud.
AUTOSCALING = {
    "cluster_name": "test",
    "max_workers": 1,
    "idle_timeout_minutes": 60,
    "upscaling_speed": 1.0,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "auth": {},
    "docker": {},
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 1, "object_store_memory": OBJECT_STORE_BYTES},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 1,
        },
    },
}


@pytest.fixture
def scaling() -> Iterator[PoolCluster]:
    """A pool of one node, whose cluster may have one more."""
    with running_pool(1, autoscaling=AUTOSCALING) as pool:
        yield pool


def test_ray_sees_what_is_held_and_starts_a_node_for_who_waits(scaling: PoolCluster) -> None:
    import ray
    from ray.experimental.internal_kv import _internal_kv_get

    def left() -> float:
        return float(ray.available_resources().get("CPU", 0.0))

    def asked() -> list[dict[str, Any]]:
        return list(json.loads(_internal_kv_get(b"autoscaler_resource_request") or b"[]"))

    ray.init(address=scaling.ray, namespace="test", log_to_driver=False)
    try:
        assert left() == 1.0
        tenth = scaling.session.attach("small", lease_seconds=None)
        wait_until(lambda: left() == pytest.approx(0.9), "Ray to know of a tenth")
        scaling.session.detach(tenth.accelerator_id, drain_seconds=0)
        scaling.session.attach("all", lease_seconds=None)
        wait_until(lambda: left() == 0.0, "Ray to know of all")
        served: list[Attachment] = []

        def wait() -> None:
            served.append(scaling.session.attach("all", wait_seconds=300.0, lease_seconds=None))

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        wait_until(lambda: asked() != [], "the autoscaler to be asked")
        waiter.join(300)
        assert len(served) == 1
        assert len(scaling.hosts()) == 2
        wait_until(lambda: asked() == [], "what was asked for to be withdrawn")
        wait_until(lambda: left() == 0.0, "Ray to know of the new node's")
        for each in scaling.session.request("GET", "/v1/accelerators"):
            scaling.session.detach(each["accelerator_id"], drain_seconds=0)
        wait_until(lambda: left() == 2.0, "all to be given back")
    finally:
        ray.shutdown()
