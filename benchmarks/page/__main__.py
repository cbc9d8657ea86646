"""`python -m benchmarks.page [--quick] [--rows cpu,heap,answers,calls] [--json FILE]`: what the host's page costs."""

from __future__ import annotations

import argparse
import sys

from benchmarks.common import Bystanders, Row, describe_machine, table, write_json
from benchmarks.page import calls, rows

ROWS = ("cpu", "heap", "answers", "calls")


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--accelerators", type=int, default=200, help="fake ones, for cpu and heap")
    parser.add_argument("--json", help="write rows and machine to this file")
    options = parser.parse_args()
    bystanders = Bystanders()
    done: list[Row] = []
    for name in options.rows.split(","):
        done += _run(name, options.accelerators, options.quick)
        print(table(done), file=sys.stderr, flush=True)
        if options.json:
            write_json(options.json, done, describe_machine(), bystanders_share=bystanders.share())
    print(table(done))
    print(f"Other processes used {bystanders.share():.0%} of the cores meanwhile.")


def _run(name: str, num_accelerators: int, is_quick: bool) -> list[Row]:
    match name:
        case "cpu":
            return rows.cpu(num_accelerators, 5 if is_quick else 30)
        case "heap":
            return rows.heap(num_accelerators, 1 if is_quick else 10)
        case "answers":
            return rows.answers(40 if is_quick else 600)
        case "calls":
            return calls.calls(2 if is_quick else 10, 1 if is_quick else 5)
    raise SystemExit(f"--rows {name!r} is not one of {', '.join(ROWS)}")


if __name__ == "__main__":
    main()
