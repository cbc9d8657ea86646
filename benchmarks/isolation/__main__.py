"""`python -m benchmarks.isolation [--quick] [--rows shares,...] [--modes ...] [--json FILE]`: all rows, both modes."""

from __future__ import annotations

import argparse
import sys

from benchmarks.common import Row, describe_machine, table, write_json
from benchmarks.isolation import neighbours, rows, survival

ROWS = ("shares", "neighbours", "bursting", "accelerator", "host", "memory", "attach", "cost")
MODES = ("best", "rlimit and duty cycle")


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--modes", default=",".join(MODES), help="how limits are held")
    parser.add_argument("--json", help="write rows and machine to this file")
    options = parser.parse_args()
    length = 0.1 if options.quick else 1.0
    rounds = 1 if options.quick else 3
    done: list[Row] = []
    for mode in options.modes.split(","):
        for name in options.rows.split(","):
            print(f"{mode}: {name}", file=sys.stderr, flush=True)
            done += _run(name, mode, length, rounds)
            print(table(done), file=sys.stderr, flush=True)
    print(table(done))
    if options.json:
        write_json(options.json, done, describe_machine(["openvino"]))


def _run(name: str, mode: str, length: float, rounds: int) -> list[Row]:
    match name:
        case "shares":
            return rows.shares(mode, 30 * length)
        case "neighbours":
            return [neighbours.limit(12 * length, rounds), *neighbours.rows(mode, 12 * length, rounds)]
        case "bursting":
            return [rows.bursting(mode, 8 * length)]
        case "accelerator":
            return [survival.accelerator_killed(mode, max(60 * length, 10))]
        case "host":
            return [survival.host_killed(mode, max(30 * length, 10))]
        case "memory":
            return [survival.too_large(mode, max(15 * length, 5))]
        case "attach":
            return [rows.attach_time(mode, max(round(10 * length), 3))]
        case "cost":
            # Short turns and many: a pair of 8 s turns differed by 10% with nothing changed but the machine's mood.
            return [rows.limits_cost(mode, 3 * length, 4 * rounds)]
    raise SystemExit(f"--rows {name!r} is not one of {', '.join(ROWS)}")


if __name__ == "__main__":
    main()
