"""The pool on Ray: one actor that keeps the pool service, and one on each node that keeps a host.

Ray brings what it has: which nodes there are, where a process runs, and that a dead actor is started again. The
processes themselves are ours (see `supervision`); no tensor and no order goes through Ray.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Cython, which Ray gives no types
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from elastic_inference.errors import ConnectError, ElasticInferenceError, StartFailed
from elastic_inference.pool.config import PoolConfig
from elastic_inference.pool.host_folders import chosen_folder
from elastic_inference.pool.ray_view import RayView
from elastic_inference.pool.supervision import Supervisor
from elastic_inference.settings import with_variables

logger = logging.getLogger(__name__)

NAMESPACE = "elastic-inference"
POOL_ACTOR = "pool"
NUM_POOL_PROCESSES = 2  # one that serves, and one that waits for its turn with everything loaded
_NODES_SECONDS = 0.5
_VIEW_SECONDS = 1.0
_STOP_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_TELL_SECONDS = 60.0  # an actor's process starts meanwhile
# Ray sets these for an actor without GPUs and with one core; a host decides about its devices itself.
_OF_RAY = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def _environment() -> dict[str, str]:
    return {name: value for name, value in with_variables().items() if name not in _OF_RAY}


class PoolActor:
    """Keeps the pool service on its node, a HostActor on every node, and true what Ray believes of these."""

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
        token = self._folder / "operator.token"
        self._view = RayView(self._config.url, token, self._config.client_context())
        self._told = threading.Thread(target=self._tell_ray, name="ray view", daemon=True)
        self._told.start()

    def pids(self) -> dict[str, Any]:
        """Return the processes: this actor's, and those of the pool service."""
        return {"actor": os.getpid(), "processes": self._supervisor.pids()}

    def told(self) -> dict[str, Any]:
        """Return how the pool was started: its configuration as JSON, and the user it runs as."""
        return {"config": self._config.to_json(), "uid": os.geteuid()}

    def stop(self) -> None:
        """End all hosts and the pool service, in order."""
        self._is_stopped.set()
        self._nodes.join()
        self._told.join()
        try:
            self._view.clear()
        except Exception:  # the pool ends all the same
            logger.exception("Ray still holds what accelerators held")
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

    def _tell_ray(self) -> None:
        while not self._is_stopped.wait(_VIEW_SECONDS):
            try:
                self._view.look()
            except Exception:  # such as a control store that is being restarted
                logger.exception("what accelerators hold is not passed on to Ray")

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
                "host_state_dir": self._config.host_state_dir,
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
        value = json.loads(told)
        command = [sys.executable, "-m", "elastic_inference", "pool", "run-host"]
        with chosen_folder(Path(value["host_state_dir"]), value["node_id"]) as folder:
            line = json.dumps({**value, "state_dir": str(folder)})
            self._supervisor = Supervisor(folder, command, line, 1, folder / "host.log", _environment())

    def pids(self) -> dict[str, Any]:
        """Return the processes: this actor's, and the host's."""
        return {"actor": os.getpid(), "processes": self._supervisor.pids()}

    def stop(self) -> None:
        """End the host in order."""
        self._supervisor.stop(_STOP_SECONDS)


def connect(address: str) -> str:
    """Connect to a Ray cluster; gives its address as Ray has it.

    Raises:
        ConnectError: None answers there in `_CONNECT_SECONDS`.
    """
    _check_control_store(address)
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
    return str(ray.get_runtime_context().gcs_address)


def _check_control_store(address: str) -> None:
    """See that Ray's control store answers: `ray.init` alone tries for most of a minute, and cannot be told not to."""
    found: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(ray.exceptions.RpcError):
            GcsClient(address=address)
            found.append(True)

    thread = threading.Thread(target=ask, name="ask Ray", daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    if not found:
        raise ConnectError(f"no Ray control store answers at {address}, in {_CONNECT_SECONDS:.0f} s at most")


def start(config: PoolConfig) -> Any:
    """Start the pool on this node of the cluster; gives its actor, which may be another's of the same moment."""
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
    """Return the pool's actor; None where the cluster has no pool."""
    try:
        return ray.get_actor(POOL_ACTOR, namespace=NAMESPACE)
    except ValueError:
        return None


def told(actor: Any) -> tuple[PoolConfig, int]:
    """Return how a pool was started, and the user that it runs as.

    Raises:
        StartFailed: Its actor does not answer.
    """
    try:
        value = ray.get(actor.told.remote(), timeout=_TELL_SECONDS)
    except (ray.exceptions.RayError, AttributeError) as error:
        raise StartFailed(
            f"the actor of this Ray cluster's pool does not say how it was started: {error}"
        ) from error
    return PoolConfig.from_json(value["config"]), int(value["uid"])


def stop(actor: Any) -> None:
    """End the pool and its hosts in order."""
    try:
        ray.get(actor.stop.remote(), timeout=3 * _STOP_SECONDS)
    except ray.exceptions.RayError as error:
        raise ElasticInferenceError(f"the pool did not end in order: {error}") from error
    finally:
        ray.kill(actor)
