"""Run: python -m benchmarks.pool.real [--json benchmark-pool-real.json]. Real Ray nodes, deaths; one machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tests.integration.tiny_model import write_doubling_graph
from tests.pool.cluster import PoolCluster, RayNode, free_port
from tests.pool.load import Client

from benchmarks.common import Row, describe_machine, table, write_json
from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.percentiles import percentile

NUM_NODES, NUM_ACCELERATORS, NUM_CLIENTS = 3, 6, 8
KILL_EVERY_SECONDS, KILL_SECONDS = 15.0, 120.0
POOL_KILL_EVERY_SECONDS, POOL_KILL_SECONDS = 10.0, 60.0
NUM_ATTACHES = 10
NUM_CALLS = 400
NUM_PAIRS = 8  # of accelerators whose calls are compared: two of one host differ by several percent
NUM_DRAINS = 5
_MEBIBYTE = 1 << 20


@contextlib.contextmanager
def clients_of(pool: PoolCluster, model: Path) -> Iterator[list[Client]]:
    """Eight clients on six accelerators, each called without a pause longer than 5 ms."""
    clients: list[Client] = []
    attached = [pool.session.attach("tiny", lease_seconds=None) for _ in range(NUM_ACCELERATORS)]
    try:
        for number in range(NUM_CLIENTS):
            mine = attached[number % NUM_ACCELERATORS]
            accelerator = Accelerator.of_id(mine.accelerator_id, host=pool.url, token=mine.token)
            clients.append(Client(pool, model, accelerator=accelerator))
        for client in clients:
            client.wait_for_answers(50)
        yield clients
    finally:
        for client in clients:
            client.close()
        for each in attached:
            pool.session.detach(each.accelerator_id)


def count(clients: list[Client]) -> tuple[int, int, int]:
    """Right answers, wrong answers, failed calls."""
    return (
        sum(client.num_right for client in clients),
        sum(client.num_wrong for client in clients),
        sum(len(client.errors) for client in clients),
    )


def kill_nodes(pool: PoolCluster, model: Path) -> list[Row]:
    """Kill a node every 15 s for two minutes, and start another in its place."""
    gaps: list[float] = []
    # Ray ends with its head node, so that one is not killed; drained, it does not collect what the others lose either.
    (head,) = [host for host in pool.hosts() if pool.node_of(host) is pool.nodes[0]]
    pool.ei("pool", "drain", head["host_id"], "--host", pool.url, "--token", pool.token)
    with clients_of(pool, model) as clients:
        end = time.monotonic() + KILL_SECONDS
        number = 0
        while time.monotonic() < end:
            began = time.monotonic()
            number += 1
            node, held = fullest(pool)
            node.kill()
            killed = node.killed_at
            pool.nodes.remove(node)
            pool.add_node()
            time.sleep(max(0.0, KILL_EVERY_SECONDS - (time.monotonic() - began)))
            for client in clients:
                if client.accelerator_id in held:
                    gaps.append(_first_after(client, killed) - killed)
            print(f"killed {number} nodes, {len(held)} accelerators of the last came back", flush=True)
        for client in clients:
            client.wait_for_answers()
        num_right, num_wrong, num_failed = count(clients)
    lost = num_wrong + num_failed
    what = f"{NUM_NODES} nodes and the head, {NUM_ACCELERATORS} accelerators, {NUM_CLIENTS} clients, {number} deaths"
    return [
        Row(f"{what}: lost or wrong answers of {num_right + lost:,}", str(lost), "0", float(lost), 0.0),
        Row(
            f"from a node's death to the first answer from elsewhere, s ({len(gaps)} clients)",
            f"{percentile(gaps, 0.5):.1f} at p50, {max(gaps):.1f} worst",
            "",
            max(gaps),
            5.0,
            2.0,
            detail={"seconds": gaps},
        ),
    ]


def fullest(pool: PoolCluster) -> tuple[RayNode, set[str]]:
    """Return the node whose host has most accelerators, and which; not Ray's head, with which Ray would end."""
    found = [(pool.node_of(host), set(host["accelerator_ids"])) for host in pool.hosts()]
    return max((each for each in found if each[0] is not pool.nodes[0]), key=lambda each: len(each[1]))


def _first_after(client: Client, moment: float) -> float:
    for _ in range(600):
        found = next((at for at, _ in list(client.seconds) if at > moment + 0.05), None)
        if found is not None:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no answer for 30 s: {client.errors}")


def drain(pool: PoolCluster, model: Path) -> list[Row]:
    """Drain the host that has most accelerators, several times, and see what that does to all calls."""
    drains: list[dict[str, Any]] = []
    with clients_of(pool, model) as clients:
        for _ in range(NUM_DRAINS):
            time.sleep(8.0)
            drains.append(_drain_once(pool, clients))
            seconds_of = [drains[-1][name] for name in ("p99_before", "p99_during")]
            print(f"drained {drains[-1]['num']}: p99 before and during {seconds_of} s", flush=True)
        _, num_wrong, num_failed = count(clients)
    failed = float(num_wrong + num_failed)
    during = [s for each in drains for s in each["during"]]
    num, seconds = [each["num"] for each in drains], [each["seconds"] for each in drains]
    ratios = sorted(each["p99_during"] / each["p99_before"] for each in drains)
    return [
        Row(
            f"{NUM_DRAINS} drains of a host with {min(num)} to {max(num)} accelerators in "
            f"{min(seconds):.1f} to {max(seconds):.1f} s: failed calls",
            str(int(failed)), "0", failed, 0.0,
        ),
        Row(
            f"p99 of calls during a drain : before, ms, medians (longest {max(during) * 1e3:.0f}; "
            f"ratio of each drain {ratios[0]:.2f} to {ratios[-1]:.2f})",
            f"{percentile([each['p99_during'] for each in drains], 0.5) * 1e3:.1f}",
            f"{percentile([each['p99_before'] for each in drains], 0.5) * 1e3:.1f}",
            percentile(ratios, 0.5), 2.0, 1.3, detail={"ratios": ratios},
        ),
    ]  # fmt: skip


def _drain_once(pool: PoolCluster, clients: list[Client]) -> dict[str, Any]:
    """Over the control API: a command's own start would take the cores."""
    began = time.monotonic()
    host = max(pool.hosts(), key=lambda each: len(each["accelerator_ids"]))
    before = [s for client in clients for at, s in client.seconds if began - 5 < at < began]
    order_drain(pool, host["host_id"], True)
    while any(each["accelerator_ids"] for each in pool.hosts("draining")):
        time.sleep(0.1)
    ended = time.monotonic()
    for client in clients:
        client.wait_for_answers(50)
    order_drain(pool, host["host_id"], False)
    during = [s for client in clients for at, s in client.seconds if began <= at < ended]
    return {
        "num": len(host["accelerator_ids"]), "seconds": ended - began, "during": during,
        "p99_before": percentile(before, 0.99), "p99_during": percentile(during, 0.99),
    }  # fmt: skip


def upgrade(pool: PoolCluster, model: Path) -> list[Row]:
    """Upgrade hosts, and the pool service before them, to the version that runs: all of them are started again."""
    with clients_of(pool, model) as clients:
        time.sleep(8.0)
        fullest_first = sorted(pool.hosts(), key=lambda each: -len(each["accelerator_ids"]))
        names = [host["host_id"] for host in fullest_first[:NUM_NODES]]
        began = time.monotonic()
        before = [s for client in clients for at, s in client.seconds if began - 5 < at < began]
        access = ["--host", pool.url, "--token", pool.token]
        told = json.loads(pool.ei("pool", "upgrade", *names, "--json", *access))
        ended = time.monotonic()
        for client in clients:
            client.wait_for_answers(50)
        during = [s for client in clients for at, s in client.seconds if began <= at < ended]
        num_right, num_wrong, num_failed = count(clients)
    seconds = [host["seconds"] for host in told["hosts"]]
    num_moved = sum(host["num_moved"] for host in told["hosts"])
    p99_before, p99 = percentile(before, 0.99), percentile(during, 0.99)
    failed = num_wrong + num_failed
    return [
        Row(
            f"rolling upgrade of {len(seconds)} hosts, {num_moved} accelerators moved: failed calls of {num_right:,}",
            str(failed), "0", float(failed), 0.0,
        ),
        Row(
            f"p99 of calls during the upgrade : before, ms (longest {max(during) * 1e3:.0f})",
            f"{p99 * 1e3:.1f}", f"{p99_before * 1e3:.1f}", p99 / p99_before, 2.0, 1.3,
        ),
        Row(
            "a host's upgrade, s",
            f"{percentile(seconds, 0.5):.1f} at p50, {max(seconds):.1f} worst; {ended - began:.1f} for all",
            "", percentile(seconds, 0.5), detail={"seconds": seconds},
        ),
    ]  # fmt: skip


def order_drain(pool: PoolCluster, host_id: str, is_draining: bool) -> None:
    """Let a host drain, or take accelerators again."""
    pool.session.request("POST", f"/v1/pool/hosts/{host_id}/drain", {"is_draining": is_draining})


def kill_service(pool: PoolCluster, model: Path) -> list[Row]:
    """Kill the pool service every 10 s for a minute, while attaches go on."""
    num_attached = num_retried = num_lost = num_kills = 0
    with clients_of(pool, model) as clients:
        end = time.monotonic() + POOL_KILL_SECONDS
        next_kill = time.monotonic()
        while time.monotonic() < end:
            if time.monotonic() >= next_kill:
                next_kill += POOL_KILL_EVERY_SECONDS
                num_kills += kill_pool(pool)
            for attempt in range(2):
                try:
                    mine = pool.session.attach("tiny", lease_seconds=30.0)
                    with contextlib.suppress(ElasticInferenceError):
                        pool.session.detach(mine.accelerator_id)
                    num_attached += 1
                    break
                except ElasticInferenceError:
                    num_retried += attempt == 0
                    num_lost += attempt == 1
                    time.sleep(1.0)
        num_right, num_wrong, num_failed = count(clients)
        for error in [error for client in clients for error in client.errors]:
            print(f"failed: {error!r}", flush=True)
    failed = num_wrong + num_failed
    return [
        Row(
            f"pool service killed {num_kills} times: failed calls of {num_right:,}", str(failed), "0",
            float(failed), 0.0,
        ),
        Row(
            f"attaches that fail beyond a retry, of {num_attached} ({num_retried} retried)", str(num_lost), "0",
            float(num_lost), 0.0,
        ),
    ]  # fmt: skip


def kill_pool(pool: PoolCluster) -> int:
    """Kill it; 0 where none answers now."""
    with contextlib.suppress(ElasticInferenceError):
        psutil.Process(pool.pool_pid()).kill()
        return 1
    return 0


def beside_a_host(pool: PoolCluster, model: Path) -> list[Row]:
    """Attach and call through the pool, and at a host of it, by turns."""
    with a_host(pool.folder) as at_host:
        return compare(pool.session, at_host, model)


@contextlib.contextmanager
def a_host(folder: Path) -> Iterator[HostSession]:
    """A host of no pool, with the same types."""
    state = folder / "h"
    address = f"127.0.0.1:{free_port()}"
    command = [
        sys.executable, "-m", "elastic_inference", "host", "start", "--listen", address, "--state-dir", str(state),
        "--types", str(folder / "types.toml"), "--uids", "63400-63499", "--ports", "22000-22999", "--spares", "3",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready
            yield HostSession(f"http://{address}", (state / "operator.token").read_text().strip())
        finally:
            process.terminate()


def compare(at_pool: HostSession, at_host: HostSession, model: Path) -> list[Row]:
    """Attach and call by turns."""
    attaches: dict[str, list[float]] = {"pool": [], "host": []}
    for _ in range(NUM_ATTACHES):
        for name, session in (("pool", at_pool), ("host", at_host)):
            time.sleep(1.5)  # for the spares
            began = time.monotonic()
            mine = session.attach("tiny", lease_seconds=None)
            attaches[name].append(time.monotonic() - began)
            session.detach(mine.accelerator_id)
    calls: dict[str, list[float]] = {"pool": [], "host": []}  # the median of each accelerator
    for _ in range(NUM_PAIRS):
        for name, seconds in _call_by_turns(at_pool, at_host, model).items():
            calls[name].append(percentile(seconds[NUM_CALLS // 10 :], 0.5))
    attach = [percentile(attaches[name], 0.5) for name in ("pool", "host")]
    call = [percentile(calls[name], 0.5) for name in ("pool", "host")]
    spread = " and ".join(f"{min(each) * 1e6:.0f} to {max(each) * 1e6:.0f}" for each in calls.values())
    return [
        Row("attach through the pool : at the host, ms", f"{attach[0] * 1e3:.0f}", f"{attach[1] * 1e3:.0f}",
            attach[0] / attach[1], 1.5, 1.1, detail=attaches),
        Row(f"a call through a pool's accelerator : a host's, us (medians of {NUM_PAIRS} of each: {spread})",
            f"{call[0] * 1e6:.0f}", f"{call[1] * 1e6:.0f}", call[0] / call[1], 1.02, 1.0, detail=calls),
    ]  # fmt: skip


def _call_by_turns(at_pool: HostSession, at_host: HostSession, model: Path) -> dict[str, list[float]]:
    calls: dict[str, list[float]] = {"pool": [], "host": []}
    mine = at_pool.attach("tiny", lease_seconds=None)
    other = at_host.attach("tiny", lease_seconds=None)
    try:
        with _predictor(model, at_pool.url, mine) as pooled, _predictor(model, at_host.url, other) as single:
            for _ in range(NUM_CALLS):
                calls["pool"].append(_time(lambda: pooled({"x": np.float32([1, 2])})))
                calls["host"].append(_time(lambda: single({"x": np.float32([1, 2])})))
    finally:
        at_pool.detach(mine.accelerator_id)
        at_host.detach(other.accelerator_id)
    return calls


def _predictor(model: Path, url: str, attached: Any) -> EIPredictor:
    return EIPredictor(
        str(model),
        input_names={"x": "x:0"},
        output_names={"y": "y:0"},
        accelerator=Accelerator.of_id(attached.accelerator_id, host=url, token=attached.token),
    )


def _time(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def overhead(pool: PoolCluster) -> list[Row]:
    """What Ray's own processes take, and what ours beside them."""
    rows = []
    for name, node in (("the head", pool.nodes[0]), ("a node", pool.nodes[1])):
        rays: list[float] = []
        ours: list[float] = []
        for process in node.tree():
            with contextlib.suppress(psutil.Error):
                is_ours = any("elastic_inference" in part for part in process.cmdline())
                (ours if is_ours else rays).append(process.memory_full_info().pss / _MEBIBYTE)
        rows.append(
            Row(
                f"Ray's processes on {name}, MiB (PSS), and the pool's beside them",
                f"{len(rays)} processes, {sum(rays):.0f}",
                f"{len(ours)} processes, {sum(ours):.0f}",
                sum(rays),
            )
        )
    return rows


MEASURES = (beside_a_host, drain, upgrade, kill_service, kill_nodes)


def main() -> None:
    """Measure, print and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default="benchmark-pool-real.json")
    parser.add_argument("--only", choices=[each.__name__ for each in MEASURES], help="One of them alone.")
    given = parser.parse_args()
    path, measures = given.json, [each for each in MEASURES if given.only in (None, each.__name__)]
    with tempfile.TemporaryDirectory(prefix="eip-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        model = write_doubling_graph(Path(folder) / "doubling.pb")
        pool = PoolCluster(Path(folder) / "pool", NUM_NODES + 1, times='placement = "spread"', spares=3)
        rows: list[Row] = []
        try:
            rows += overhead(pool)
            for measure in measures:
                rows += measure(pool, model)
                print(table(rows), flush=True)
        finally:
            pool.close()
            write_json(path, rows, describe_machine(["ray"]))


if __name__ == "__main__":
    main()
