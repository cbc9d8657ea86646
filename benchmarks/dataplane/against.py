"""Whether a change made the data path slower: this checkout beside another one, by turns.

`python -m benchmarks.dataplane.against OTHER_CHECKOUT [--rounds N]`: the frame and 1 KB over TCP, a Unix socket and
shared memory. Each side runs its own driver, package and accelerator; the ratio is of medians, ours over the other's.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
from functools import partial
from pathlib import Path

from benchmarks.common import Bystanders, Ratio, Row, flat, interleave, milliseconds, table
from benchmarks.dataplane.contestant import ROOT, Contestant

MUST = 1.02
TRANSPORTS = ("tcp", "unix", "memory")
# Exchanges of a turn, which takes a twentieth of a second: the machine's moods are longer than that.
COUNTS = {"frame": 30, "small": 500}
_RESAMPLES = 2000


def rows(other: Path, rounds: int) -> list[Row]:
    """One row for each case and transport."""
    found = []
    with contextlib.ExitStack() as stack:
        for transport in TRANSPORTS:
            sides = {
                name: stack.enter_context(Contestant("ours", [transport], tree=tree))
                for name, tree in (("ours", ROOT), ("other", other))
            }
            for case, count in COUNTS.items():
                turns = {name: partial(side.turn, case, count) for name, side in sides.items()}
                taken = interleave(turns, rounds)
                found.append(_row(f"{case} over {transport}", taken["ours"], taken["other"]))
                print(table(found[-1:]), file=sys.stderr, flush=True)
    return found


def _row(measure: str, ours: list[list[float]], other: list[list[float]]) -> Row:
    ratio = Ratio.of(ours, other)
    low, high = interval(ours, other)
    measure = f"{measure}: median of {len(ours)} rounds' ratios {low:.3f}-{high:.3f}"
    spread = (ratio.lowest_round, ratio.highest_round)
    return Row(
        measure, milliseconds(flat(ours)), milliseconds(flat(other)), ratio.median, MUST, 1.0, spread=spread
    )


def interval(ours: list[list[float]], other: list[list[float]]) -> tuple[float, float]:
    """Where the median of the rounds' ratios lies, with 95% (bootstrap): a single round spreads far more."""
    ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(ours, other, strict=True)]
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    return medians[_RESAMPLES // 40], medians[-_RESAMPLES // 40]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    bystanders = Bystanders()
    found = rows(arguments.other.resolve(), arguments.rounds)
    print(table(found))
    print(f"other processes used {bystanders.share():.0%} of the cores meanwhile")
    return int(any(row.verdict == "MISSED" for row in found))


if __name__ == "__main__":
    sys.exit(main())
