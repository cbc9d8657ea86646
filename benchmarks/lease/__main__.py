"""`python -m benchmarks.lease [--quick] [--rows shares,...] [--json FILE]`: all rows of a device shared by lease."""

from __future__ import annotations

import argparse
import sys

from benchmarks.common import Bystanders, Row, describe_machine, table, write_json
from benchmarks.lease import rows, survival

ROWS = ("handover", "free", "others", "latency", "shares")


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--json", help="write rows and machine to this file")
    options = parser.parse_args()
    bystanders = Bystanders()
    done: list[Row] = []
    for name in options.rows.split(","):
        done += _run(name, options.quick)
        print(table(done), file=sys.stderr, flush=True)
        if options.json:  # as it goes, so that a row that breaks does not lose the others
            share = bystanders.share()
            write_json(options.json, done, describe_machine(), bystanders_share=share)
    print(table(done))
    print(f"Other processes used {bystanders.share():.0%} of the cores meanwhile.")


def _run(name: str, is_quick: bool) -> list[Row]:
    match name:
        case "handover":
            return survival.handover(1 if is_quick else 10)
        case "free":
            return survival.free_again(2 if is_quick else 20)
        case "others":
            return survival.others(1 if is_quick else 5)
        case "latency":
            return rows.latency(*(3, 1, 5) if is_quick else (10, 3, 100))
        case "shares":
            return rows.shares(*(3, 1) if is_quick else (12, 3))
    raise SystemExit(f"--rows {name!r} is not one of {', '.join(ROWS)}")


if __name__ == "__main__":
    main()
