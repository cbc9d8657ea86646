"""The rows on one machine: the frame, 1 KB, four in flight and TLS, beside raw sockets and beside the peers."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.common import Ratio, Row, Summary, flat, interleave, milliseconds
from benchmarks.dataplane.certificate import write_certificate
from benchmarks.dataplane.contestant import Contestant
from benchmarks.dataplane.payloads import FRAME
from benchmarks.dataplane.peers import PEERS

Samples = dict[str, dict[str, list[list[float]]]]  # case -> contestant -> rounds -> nanoseconds

# Exchanges of a turn: quick ones more, so that a turn takes each about as long.
COUNTS = {"frame": {"raw": 30, "tcp": 30, "unix": 30, "memory": 60, "raw-tls": 15, "tls": 15}, "small": {}}
OTHER_COUNT = {"frame": 6, "small": 200}
IN_FLIGHT_COUNT = 120


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        rounds: Turns of each contestant.
        share: Of the full number of exchanges in a turn.
        peers: The serving systems to measure beside us.
    """

    rounds: int = 15
    share: float = 1.0
    peers: tuple[str, ...] = ()

    def quick(self) -> Effort:
        """Two rounds of few exchanges: whether it runs, not how fast."""
        return replace(self, rounds=2, share=0.1)

    def count(self, full: int) -> int:
        """So many of `full` exchanges."""
        return max(2, round(full * self.share))


@contextlib.contextmanager
def contestants(names: list[str]) -> Iterator[dict[str, Contestant]]:
    """Start those contestants, all of them frozen; `raw-tls` and `tls` share a certificate."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        write_certificate(Path(folder))
        made = {
            "raw": lambda: Contestant("raw"),
            "raw-tls": lambda: Contestant("raw", ["--tls", folder]),
            "tls": lambda: Contestant("ours", ["tls", "--tls", folder]),
            **{kind: partial(Contestant, "ours", [kind]) for kind in ("tcp", "unix", "memory")},
            **{name: partial(Contestant, f"{name}_noop", python=peer.python) for name, peer in PEERS.items()},
        }
        yield {name: stack.enter_context(made[name]()) for name in names}


def take(started: Mapping[str, Contestant], cases: Mapping[str, list[str]], effort: Effort) -> Samples:
    """Let the contestants take turns at each case that they are named for.

    A name may end in `/CASE`, where the driver's own case differs: `tcp/map` is the contestant `tcp` with `map()`.
    """
    samples: Samples = {}
    for case, names in cases.items():
        turns: dict[str, Callable[[], list[float]]] = {}
        for name in names:
            full = IN_FLIGHT_COUNT
            if case in COUNTS:
                full = COUNTS[case].get(name, OTHER_COUNT[case])
            contestant, _, own_case = name.partition("/")
            turns[name] = partial(started[contestant].turn, own_case or case, effort.count(full))
        samples[case] = interleave(turns, effort.rounds, partial(_tell, case))
    return samples


def _tell(case: str, line: str) -> None:
    print(f"{case}: {line}", file=sys.stderr, flush=True)


def _row(
    measure: str, ours: list[list[float]], other: list[list[float]], must: float | None, aim: float | None
) -> Row:
    ratio = Ratio.of(ours, other)
    return Row(
        measure,
        milliseconds(flat(ours)),
        milliseconds(flat(other)),
        ratio.median,
        must,
        aim,
        spread=(ratio.lowest_round, ratio.highest_round),
        detail={"ours_ns": Summary.of(flat(ours)), "other_ns": Summary.of(flat(other))},
    )


def _peer_row(name: str, case: str, samples: Samples) -> Row:
    ours, theirs = samples[case]["tcp"], samples[case][name]
    ratio = Ratio.of(theirs, ours)
    is_frame = case == "frame"
    return Row(
        f"{'frame' if is_frame else '1 KB'}, how many times faster than {name} ({PEERS[name].note})",
        milliseconds(flat(ours)),
        milliseconds(flat(theirs)),
        ratio.median,
        1.0 if is_frame else None,
        5.0 if is_frame else None,
        is_upper=False,
        spread=(ratio.lowest_round, ratio.highest_round),
        detail={"ours_ns": Summary.of(flat(ours)), "other_ns": Summary.of(flat(theirs))},
    )


def _rate_row(measure: str, ours: list[list[float]], raw: list[list[float]]) -> Row:
    """Frames per second of ours over raw's; samples are nanoseconds a frame."""
    ratio = Ratio.of(raw, ours)
    rates = [Summary.of([1e9 / sample for sample in flat(rounds)]) for rounds in (ours, raw)]
    texts = [f"{rate.median:.0f} frames/s ({rate.p10:.0f}-{rate.p90:.0f})" for rate in rates]
    spread = (ratio.lowest_round, ratio.highest_round)
    return Row(measure, *texts, ratio.median, 0.7, 0.9, is_upper=False, spread=spread)


def loopback_rows(effort: Effort) -> list[Row]:
    """Frame, shared memory, 1 KB, in flight and TLS rows."""
    peers = effort.peers
    everyone = ["raw", "tcp", "unix", "memory", *peers]
    with contestants([*everyone, "raw-tls", "tls"]) as started:
        for name in ("tcp", "unix", "memory", "tls"):
            transport = started[name].info["transport"]
            assert ("memory" in transport) is (name == "memory"), (name, transport)
        cases = {
            "frame": [*everyone, "raw-tls", "tls"],
            "small": everyone,
            "in_flight": ["raw", "tcp", "tcp/map"],
        }
        samples = take(started, cases, effort)
    frame, small, many = samples["frame"], samples["small"], samples["in_flight"]
    rows = [
        _row(f"frame ({len(FRAME):,} bytes) over TCP : raw TCP", frame["tcp"], frame["raw"], 1.3, 1.05),
        _row("frame through shared memory : raw TCP", frame["memory"], frame["raw"], 0.6, 0.3),
        _row("frame over a Unix socket : raw TCP", frame["unix"], frame["raw"], None, None),
    ]
    if "mosec" in peers:
        rows.append(_row("1 KB over TCP : mosec", small["tcp"], small["mosec"], 0.6, 0.4))
    rows.append(_row("1 KB over TCP : raw TCP", small["tcp"], small["raw"], None, None))
    rows.append(_row("1 KB over a Unix socket : raw TCP", small["unix"], small["raw"], None, None))
    rows.append(_rate_row("4 in flight, 4 threads: frames/s : raw TCP's", many["tcp"], many["raw"]))
    rows.append(_rate_row("4 in flight, map(): frames/s : raw TCP's", many["tcp/map"], many["raw"]))
    rows += [_peer_row(name, case, samples) for case in ("frame", "small") for name in peers]
    rows.append(_row("frame over TLS : raw Python TLS socket", frame["tls"], frame["raw-tls"], 1.3, 1.1))
    return rows
