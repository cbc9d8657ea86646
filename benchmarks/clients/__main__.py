"""`python -m benchmarks.clients [--quick] [--rounds N] [--json FILE]`: perf_analyzer against us and against Triton.

Both run on this machine with a model that computes nothing, and are measured by turns. `benchmarks.clients.environment`
installs them.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Callable

from benchmarks.clients import environment
from benchmarks.clients.perf_analyzer import FRAME_BYTES, Case, Measured, run
from benchmarks.clients.servers import Served, ours, triton
from benchmarks.common import Bystanders, Row, describe_machine, table, write_json

COMPARED = [
    (case, aim)
    for protocol, aim in (("http", 0.4), ("grpc", 0.6))
    for case, aim in (
        (Case(protocol, FRAME_BYTES), aim),
        (Case(protocol, FRAME_BYTES, is_shared=True), 0.3),
        (Case(protocol, 1024), 0.6),
        (Case(protocol, 1024, concurrency=8), 0.6),
    )
]
BATCHES = [Case(protocol, 1024, n, batch_size=4) for protocol in ("http", "grpc") for n in range(1, 9)]
MUST = 1.0


def compared_rows(sides: list[Served], rounds: int, window_ms: int) -> list[Row]:
    """Measure each case at all sides by turns; one row a case."""
    rows = []
    for case, aim in COMPARED:
        taken: dict[str, list[Measured]] = {side.name: [] for side in sides}
        for index in range(rounds):
            for side in sides if index % 2 == 0 else reversed(sides):
                taken[side.name].append(run(case, side, window_ms))
        rows += _rows_of(case, aim, taken)
        print(table(rows[-1:]), file=sys.stderr, flush=True)
    return rows


def _rows_of(case: Case, aim: float, taken: dict[str, list[Measured]]) -> list[Row]:
    rows = [_row(f"{case}: p50", aim, taken, lambda one: one.p50_seconds, _milliseconds)]
    if case.concurrency > 1:
        seconds = _row(
            f"{case}: seconds a request (requests/s)",
            aim,
            taken,
            lambda one: 1 / one.inferences_per_second,
            lambda value: f"{1 / value:,.0f}/s",
        )
        rows.append(seconds)
    return rows


def _row(
    measure: str,
    aim: float,
    taken: dict[str, list[Measured]],
    value_of: Callable[[Measured], float],
    text_of: Callable[[float], str],
) -> Row:
    values = {name: [value_of(one) for one in rounds] for name, rounds in taken.items()}
    texts = {name: text_of(statistics.median(each)) for name, each in values.items()}
    if "triton" not in values:
        return Row(measure, texts["ours"], "", None)
    ratios = [a / b for a, b in zip(values["ours"], values["triton"], strict=True)]
    spread = (min(ratios), max(ratios))
    ratio = statistics.median(values["ours"]) / statistics.median(values["triton"])
    return Row(measure, texts["ours"], texts["triton"], ratio, MUST, aim, spread=spread)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def batch_rows(side: Served, window_ms: int) -> list[Row]:
    """Requests of several rows, more and more at once: whether all are answered."""
    rows = []
    for case in BATCHES:
        found = run(case, side, window_ms)
        text = f"{_milliseconds(found.p50_seconds)}, {found.inferences_per_second:,.0f} rows/s"
        rows.append(Row(f"{case}: p50", text, "", None))
    return rows


def main() -> int:
    """Measure and print; fails where a request did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round: whether it runs, not how fast")
    parser.add_argument("--without-triton", action="store_true", help="ours alone")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    environment.install()
    rounds, window_ms = (1, 200) if arguments.quick else (arguments.rounds, 700)
    machine = describe_machine()
    bystanders = Bystanders()
    with contextlib.ExitStack() as stack:
        starters = [ours] if arguments.without_triton else [ours, triton]
        sides = [stack.enter_context(start()) for start in starters]
        rows = compared_rows(sides, rounds, window_ms) + batch_rows(sides[0], window_ms // 2)
    print(table(rows, headings=("perf_analyzer 2.51", "ours", "Triton 2.51", *_HEADINGS)))
    print(f"{machine['cpu']}, commit {machine['commit']};", end=" ")
    print(f"processes that are not the benchmark's used {bystanders.share():.0%} of the cores meanwhile")
    if arguments.json:
        write_json(arguments.json, rows, machine, rounds=rounds)
    return 0


_HEADINGS = ("ratio", "must", "aim", "verdict")

if __name__ == "__main__":
    sys.exit(main())
