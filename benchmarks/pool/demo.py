"""Run: python -m benchmarks.pool.demo. A pool on Ray on this machine, a node of which dies under a client's calls."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil
from tests.integration.tiny_model import write_doubling_graph
from tests.pool.cluster import PoolCluster
from tests.pool.load import Client

_began = time.monotonic()


def say(text: str) -> None:
    """Print a line with the time since the start."""
    print(f"{time.monotonic() - _began:6.1f} s  {text}", flush=True)


def main() -> None:
    """Show it."""
    with tempfile.TemporaryDirectory(prefix="eip-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        model = write_doubling_graph(Path(folder) / "doubling.pb")
        say("starting three Ray nodes and a pool on them, as `ray start` and `ei pool start` do")
        pool = PoolCluster(Path(folder) / "pool", 3, times="", spares=2)
        try:
            show(pool, model)
        finally:
            say("stopping the pool and Ray")
            pool.close()


def show(pool: PoolCluster, model: Path) -> None:
    """Attach, kill, drain."""
    for host in pool.hosts():
        say(f"host {host['host_id']} offers {host['devices'][0]['model']} at {host['url']}")
    say(f"a client attaches: Accelerator.attach('tiny', host='{pool.url}')")
    client = Client(pool, model)
    try:
        client.wait_for_answers()
        holder = pool.holder(client.accelerator_id)
        say(
            f"{client.accelerator_id[:12]} serves on host {holder['host_id']}; {client.num_right} right answers"
        )
        if pool.node_of(holder) is pool.nodes[0]:
            say("that is Ray's head, without which there is no cluster, so the host is drained first")
            drain(pool, client, holder["host_id"])
            holder = pool.holder(client.accelerator_id)
        node = pool.node_of(holder)
        num = len(node.tree())
        say(f"kill -9 to the {num} processes of that node, as if its machine lost power")
        node.kill()
        killed = node.killed_at
        client.wait_for_answers(1)
        again = next(at for at, _ in client.seconds if at > killed + 0.1)
        now = pool.holder(client.accelerator_id)
        say(f"the next answer came {again - killed:.1f} s after the death, from host {now['host_id']}")
        client.wait_for_answers(200)
        say(f"{client.num_right} right answers, {client.num_wrong} wrong, {len(client.errors)} failed calls")
        pool.nodes.remove(node)
        say("the pool service itself is killed")
        before = client.num_right
        psutil.Process(pool.pool_pid()).kill()
        client.wait_for_answers(200)
        say(f"{client.num_right - before} answers meanwhile: calls do not pass through it")
        say(f"{client.num_right} right answers, {client.num_wrong} wrong, {len(client.errors)} failed calls")
    finally:
        client.close()


def drain(pool: PoolCluster, client: Client, host_id: str) -> None:
    """Empty a host and let it take accelerators again."""
    access = ("--host", pool.url, "--token", pool.token)
    say(pool.ei("pool", "drain", host_id, *access).strip())
    client.wait_for_answers()
    pool.ei("pool", "drain", host_id, "--off", *access)


if __name__ == "__main__":
    main()
