"""The pool on Ray: one actor that keeps the pool service, and one on each node that keeps a host.

Ray brings what it has: which nodes there are, where a process runs, and that a dead actor is started again. The
processes themselves are ours (see `supervision`); no tensor and no order goes through Ray.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from elastic_inference.errors import ConnectError, ElasticInferenceError
from elastic_inference.pool.config import PoolConfig
from elastic_inference.pool.supervision import Supervisor
from elastic_inference.settings import with_variables

logger = logging.getLogger(__name__)

NAMESPACE = "elastic-inference"
POOL_ACTOR = "pool"
NUM_POOL_PROCESSES = 2  # one that serves, and one that waits for its turn with everything loaded
_NODES_SECONDS = 0.5
_STOP_SECONDS = 30.0
# Ray sets these for an actor without GPUs and with one core; a host decides about its devices itself.
_OF_RAY = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def _environment() -> dict[str, str]:
    return {name: value for name, value in with_variables().items() if name not in _OF_RAY}


class PoolActor:
    """Keeps the pool service on its node, and a HostActor on every node of the cluster."""

    def __init__(self, config: str) -> None:
        self._config = PoolConfig.from_json(config)
        self._folder = Path(self._config.state_dir)
        command = [sys.executable, "-m", "elastic_inference.pool"]
        log = self._folder / "pool.log"
        self._supervisor = Supervisor(self._folder, command, config, NUM_POOL_PROCESSES, log, _environment())
        self._hosts: dict[str, Any] = {}
        self._is_stopped = threading.Event()
        self._nodes = threading.Thread(target=self._follow_nodes, name="nodes", daemon=True)
        self._nodes.start()

    def pids(self) -> dict[str, Any]:
        """Return the processes: this actor's, and those of the pool service."""
        return {"actor": os.getpid(), "processes": self._supervisor.pids()}

    def stop(self) -> None:
        """End all hosts and the pool service, in order."""
        self._is_stopped.set()
        self._nodes.join()
        stops = [actor.stop.remote() for actor in self._hosts.values()]
        ray.wait(stops, num_returns=len(stops), timeout=_STOP_SECONDS) if stops else None
        for actor in self._hosts.values():
            ray.kill(actor)
        self._supervisor.stop(_STOP_SECONDS)

    def _follow_nodes(self) -> None:
        while not self._is_stopped.wait(_NODES_SECONDS):
            try:
                self._look()
            except Exception:  # such as a control store that is being restarted
                logger.exception("nodes are not known")

    def _look(self) -> None:
        token = self._folder / "join.token"
        if not token.exists():
            return  # no pool service has served yet
        alive = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        for node_id in self._hosts.keys() - alive.keys():
            del self._hosts[node_id]
        for node_id in alive.keys() - self._hosts.keys():
            told = {
                "pool_url": self._config.url,
                "join_token": token.read_text().strip(),
                "node_id": node_id,
                "address": alive[node_id],
                "state_dir": str(Path(self._config.host_state_dir) / node_id[:12]),
                "options": dict(self._config.host_options),
                "tls": None if self._config.tls is None else vars(self._config.tls),
            }
            self._hosts[node_id] = (
                ray.remote(HostActor)
                .options(
                    name=f"host-{node_id}",
                    namespace=NAMESPACE,
                    lifetime="detached",
                    max_restarts=-1,
                    num_cpus=0,
                    get_if_exists=True,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
                )
                .remote(json.dumps(told))
            )


class HostActor:
    """Keeps `ei host`'s own code running on its node."""

    def __init__(self, told: str) -> None:
        folder = Path(json.loads(told)["state_dir"])
        command = [sys.executable, "-m", "elastic_inference", "pool", "run-host"]
        folder.mkdir(parents=True, exist_ok=True)
        self._supervisor = Supervisor(folder, command, told, 1, folder / "host.log", _environment())

    def pids(self) -> dict[str, Any]:
        """Return the processes: this actor's, and the host's."""
        return {"actor": os.getpid(), "processes": self._supervisor.pids()}

    def stop(self) -> None:
        """End the host in order."""
        self._supervisor.stop(_STOP_SECONDS)


def connect(address: str) -> None:
    """Connect to a Ray cluster.

    Raises:
        ConnectError: None answers there.
    """
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConnectError(
            f"no Ray cluster answers at {address!r}: {error}; start one with `ray start --head`"
        ) from error


def start(config: PoolConfig) -> Any:
    """Start the pool on this node of the cluster; gives its actor. One that runs already stays as it is."""
    here = ray.get_runtime_context().get_node_id()
    return (
        ray.remote(PoolActor)
        .options(
            name=POOL_ACTOR,
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            get_if_exists=True,
            max_concurrency=2,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        .remote(config.to_json())
    )


def find() -> Any:
    """Return the pool's actor; ConnectError where the cluster has no pool."""
    try:
        return ray.get_actor(POOL_ACTOR, namespace=NAMESPACE)
    except ValueError as error:
        raise ConnectError("this Ray cluster runs no pool; start one with `ei pool start`") from error


def stop(actor: Any) -> None:
    """End the pool and its hosts in order."""
    try:
        ray.get(actor.stop.remote(), timeout=3 * _STOP_SECONDS)
    except ray.exceptions.RayError as error:
        raise ElasticInferenceError(f"the pool did not end in order: {error}") from error
    finally:
        ray.kill(actor)
