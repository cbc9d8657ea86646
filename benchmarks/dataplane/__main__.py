"""`python -m benchmarks.dataplane`: all rows of the data plane as a table, and as JSON.

Peers are measured where their environments stand; `python -m benchmarks.dataplane.setup_peers` makes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks.common import Bystanders, Row, describe_machine, table, write_json
from benchmarks.dataplane.gigabit import gigabit_rows
from benchmarks.dataplane.growth import growth_rows
from benchmarks.dataplane.loopback import Effort, loopback_rows
from benchmarks.dataplane.overhead import overhead_rows
from benchmarks.dataplane.peers import PEERS
from benchmarks.dataplane.pipeline import pipeline_rows


def _installed_peers() -> tuple[str, ...]:
    missing = [name for name, peer in PEERS.items() if not peer.is_installed()]
    if missing:
        print(
            f"without {', '.join(missing)}: run python -m benchmarks.dataplane.setup_peers", file=sys.stderr
        )
    return tuple(name for name in PEERS if name not in missing)


ROWS: dict[str, Callable[[Effort], list[Row]]] = {
    "loopback": loopback_rows,
    "link": gigabit_rows,
    "pipeline": pipeline_rows,
    "growth": growth_rows,
    "overhead": overhead_rows,
}


def main() -> int:
    """Measure, print, write; the exit status is 0 also where a row missed what it must show, unless --strict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default: all")
    parser.add_argument("--quick", action="store_true", help="few exchanges: whether it runs, not how fast")
    parser.add_argument("--rounds", type=int, help="turns of each contestant, 15 by default")
    parser.add_argument("--without-peers", action="store_true", help="ours and raw sockets alone")
    parser.add_argument("--strict", action="store_true", help="fail where a row misses what it must show")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    peers = () if arguments.without_peers else _installed_peers()
    full = Effort(rounds=arguments.rounds or Effort.rounds, peers=peers)
    effort = full.quick() if arguments.quick else full
    machine = describe_machine(("httptools",))
    bystanders = Bystanders()
    rows: list[Row] = []
    for name in arguments.rows:
        rows += ROWS[name](effort)
    machine["bystanders_cpu_share"] = round(bystanders.share(), 3)
    print(
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}"
    )
    print(
        f"commit {machine['commit']}{' with changes' if machine['has_uncommitted_changes'] else ''};", end=" "
    )
    print(f"other processes used {machine['bystanders_cpu_share']:.0%} of the cores meanwhile")
    print(table(rows))
    if arguments.json:
        write_json(arguments.json, rows, machine, effort={"rounds": effort.rounds, "share": effort.share})
    return int(arguments.strict and any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
