"""`python -m benchmarks.engines [--quick] [--modules batching,...] [--json FILE]`: engines behind an accelerator."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.common import Bystanders, Row, describe_machine, table, write_json

MODULES = ("batching", "compute", "loading")  # each has rows(is_quick)


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--modules", default=",".join(MODULES), help=f"of {', '.join(MODULES)}")
    parser.add_argument("--json", help="write rows and machine to this file")
    options = parser.parse_args()
    names = options.modules.split(",")
    if unknown := sorted(set(names) - set(MODULES)):
        parser.error(f"--modules {unknown[0]!r} is not one of {', '.join(MODULES)}")
    bystanders = Bystanders()
    found: list[Row] = []
    for name in names:
        found += importlib.import_module(f"benchmarks.engines.{name}").rows(options.quick)
        print(table(found), file=sys.stderr, flush=True)
        if options.json:  # as it goes, so that a module that breaks does not lose the others
            write_json(
                options.json, found, describe_machine(["openvino"]), bystanders_share=bystanders.share()
            )
    print(table(found))
    print(f"Other processes used {bystanders.share():.0%} of the cores meanwhile.")


if __name__ == "__main__":
    main()
