"""`python -m benchmarks.lease [--quick] [--rows shares,...] [--json FILE]`: all rows of a device shared by lease.

A row's name without its end names all that begin so: `--rows shares-whole` is `shares-whole-alike,shares-whole-unlike`.
None takes more than seven minutes, so that a run can be spread over the hours in which a machine is quiet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from benchmarks.common import Bystanders, Row, describe_machine, table, write_json
from benchmarks.lease import rows, survival


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--rows", default="", help=f"all, or of {', '.join(_rows(True))}")
    parser.add_argument("--json", help="write rows and machine to this file")
    options = parser.parse_args()
    bystanders = Bystanders()
    done: list[Row] = []
    for run in _chosen(_rows(options.quick), options.rows.split(",")):
        done += run()
        print(table(done), file=sys.stderr, flush=True)
        if options.json:  # as it goes, so that a row that breaks does not lose the others
            share = bystanders.share()
            write_json(options.json, done, describe_machine(), bystanders_share=share)
    print(table(done))
    print(f"Other processes used {bystanders.share():.0%} of the cores meanwhile.")


Run = Callable[[], list[Row]]


def _rows(is_quick: bool) -> dict[str, Run]:
    """Every row by its name, in the order of a whole run: what is short comes first."""
    measured = (3, 1) if is_quick else (12, 3)
    timed = (3, 1, 5) if is_quick else (10, 3, 100)
    return {
        "handover": lambda: survival.handover(1 if is_quick else 10),
        "free": lambda: survival.free_again(2 if is_quick else 20),
        "others": lambda: survival.others(1 if is_quick else 5),
        **{f"latency-{name}": lambda each=each: rows.latency(each, *timed) for name, each in rows.LIGHT.items()},
        **{
            f"shares-{name}": lambda each=each: rows.shares(*each, *measured)
            for name, each in rows.SATURATED.items()
        },
    }  # fmt: skip


def _chosen(every: Mapping[str, Run], wanted: list[str]) -> list[Run]:
    chosen = []
    for name in wanted:
        beginning = f"{name}-" if name else ""
        found = [every[name]] if name in every else [r for k, r in every.items() if k.startswith(beginning)]
        if not found:
            raise SystemExit(f"--rows {name!r} is none of {', '.join(every)}, nor how one begins")
        chosen += found
    return chosen


if __name__ == "__main__":
    main()
