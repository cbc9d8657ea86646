"""`python -m benchmarks.storm [--seconds 120] [--seed N] [--cpu-sharing lease] [--database sqlite] [--json FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import Bystanders, describe_machine, table, write_json
from benchmarks.storm.faults import KINDS
from benchmarks.storm.rows import Storm


def main() -> None:
    """Let a storm come and print what it showed; exit status 1 where a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the storm")
    parser.add_argument("--seed", type=int, default=1, help="of its chance")
    parser.add_argument("--timeout", type=float, default=30.0, help="deadline of each call, in seconds")
    parser.add_argument("--limits", default="best", help="see `ei host start`")
    parser.add_argument("--cpu-sharing", default="limits", help="see `ei host start`")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--faults", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--log", type=Path, help="keep the host's log in this file")
    parser.add_argument("--json", help="write rows and machine to this file")
    options = parser.parse_args()
    unknown = set(options.faults.split(",")) - set(KINDS)
    if unknown:
        raise SystemExit(f"--faults {', '.join(sorted(unknown))}: there are {', '.join(KINDS)}")
    storm = Storm(
        options.seconds,
        options.seed,
        options.timeout,
        options.limits,
        options.cpu_sharing,
        options.database == "postgresql",
        tuple(options.faults.split(",")),
        options.log,
    )
    bystanders = Bystanders()
    rows = storm.run(lambda text: print(text, file=sys.stderr, flush=True))
    print(table(rows))
    for row in rows:
        for name, value in row.detail.items():
            if row.verdict == "MISSED" or name == "refusals":
                print(f"{row.measure}: {name}: {value}", file=sys.stderr)
    if options.json:
        machine = describe_machine(["openvino", "sqlalchemy"])
        write_json(options.json, rows, machine, storm=vars(options), bystanders_share=bystanders.share())
    sys.exit(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    main()
