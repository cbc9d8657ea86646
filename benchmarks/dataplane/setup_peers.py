"""`python -m benchmarks.dataplane.setup_peers [NAME ...]`: make the peers' environments that are missing."""

from __future__ import annotations

import argparse

from benchmarks.dataplane.peers import PEERS


def main() -> None:
    """Make the environments of all peers, or of those named; what stands already is left alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; default: all")
    for name in parser.parse_args().names or PEERS:
        PEERS[name].install()
        print(f"{name}: {PEERS[name].home}")


if __name__ == "__main__":
    main()
