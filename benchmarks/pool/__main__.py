"""Run: python -m benchmarks.pool [--json benchmark-pool.json] [--sequences 200] [--first-seed 2000]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.common import Row, describe_machine, table, write_json
from benchmarks.pool.placement import Look, run_sequence
from benchmarks.pool.simulation import SERVICE, Day, one_by_one, run_day
from elastic_inference.percentiles import percentile
from elastic_inference.pool.simulation.attachment import Piece
from elastic_inference.pool.simulation.calls import Sampling, Serving, run_calls
from elastic_inference.pool.simulation.latencies import Latencies

# On seeds below 2000 the rule of packing was chosen.
FIRST_SEED = 2000
NUM_SEQUENCES = 200
ALL_CALLS = 10**9
SAMPLED_CALLS = 20_000_000  # of 66 million


def placement_rows(num_sequences: int, first_seed: int) -> list[Row]:
    """Devices in use : the fewest that could hold the same, as it is and after defragmentation."""
    looks: list[Look] = []
    for number in range(num_sequences):
        looks += run_sequence(first_seed + number)
        if number % 20 == 19:
            print(f"placement: {number + 1} of {num_sequences} sequences", flush=True)
    proved = [look for look in looks if look.optimum]
    ways = (
        ("come and go", [look.as_it_is for look in proved]),
        ("come and go, half idle and defragmented", [look.half for look in proved]),
        ("come and go, all idle and defragmented", [look.all for look in proved]),
    )
    rows = [_placement_row(name, used, proved, len(looks), num_sequences) for name, used in ways]
    staying = [
        look for number in range(num_sequences) for look in run_sequence(first_seed + number, stays=True)
    ]
    known = [look for look in staying if look.optimum]
    used = [look.as_it_is for look in known]
    return [_placement_row("come and stay", used, known, len(staying), num_sequences), *rows]


def _placement_row(name: str, used: Sequence[int], proved: Sequence[Look], num_looks: int, count: int) -> Row:
    fewest = [look.optimum or 0 for look in proved]
    ratios = [ours / least for ours, least in zip(used, fewest, strict=True)]
    return Row(
        f"placement, {count} sequences, devices in use, {name}",
        f"{sum(used)} ({percentile(ratios, 0.9):.2f} at p90, {max(ratios):.2f} worst)",
        f"{sum(fewest)}, proved for {len(proved)} of {num_looks}",
        sum(used) / sum(fewest),
        1.10,
        1.03,
        detail={"used": list(used), "optimum": fewest},
    )


def day_rows() -> list[Row]:
    """Time and memory of a large day, with calls that stand for others and with every call."""
    sampled, whole = run_day(SAMPLED_CALLS), run_day(ALL_CALLS)
    rows = []
    for name, day in (("20 million calls drawn", sampled), ("every call drawn", whole)):
        what = f"a day, 250 hosts, {_day_text(day)}, {name}"
        rows.append(
            Row(
                f"{what}: seconds",
                f"{day.seconds:.1f} s, {day.cpu_seconds:.1f} s of a core",
                "60 s",
                day.seconds,
                60.0,
                10.0,
            )
        )
        rows.append(
            Row(
                f"{what}: memory, GiB",
                f"{day.peak_bytes / 1024**2:.0f} MiB",
                "1 GiB",
                day.peak_bytes / 1024**3,
                1.0,
            )
        )
    for share in (0.5, 0.99):
        ours, theirs = (day.result.latencies.percentile(share) for day in (sampled, whole))
        rows.append(
            Row(
                f"p{share * 100:g} with 20 million calls : with every call",
                f"{ours * 1000:.1f} ms",
                f"{theirs * 1000:.1f} ms",
                ours / theirs,
            )
        )
    return rows


def _day_text(day: Day) -> str:
    peak = day.result.peak
    most = 0 if peak is None else peak.num_accelerators
    return (
        f"{most} accelerators at once, {day.num_attachments:,} attachments, {day.result.calls.num_offered / 1e6:.0f} "
        f"million calls, {day.result.course.num_moved} moved"
    )


def queue_rows() -> list[Row]:
    """Calls computed together and by windows, beside an event loop that takes them one by one."""
    rows = []
    for load in (0.3, 0.6, 0.9):
        seconds = 40_000.0
        exact = [latency for seed in range(3) for latency in one_by_one(load, seconds, seed)]
        for name, sampling in (("all", 1.0), ("a tenth", 0.1)):
            found = Latencies()
            for seed in range(3):
                piece, serving = Piece(0.0, seconds, load / SERVICE.mean_seconds), Serving(0.0, 1e9, SERVICE)
                run_calls([piece], [serving], np.random.default_rng(seed), Sampling(sampling), found)
            ours, theirs = found.percentile(0.99), percentile(exact, 0.99)
            rows.append(
                Row(
                    f"p99 of a queue busy {load:.0%}, {name} of the calls : one by one",
                    f"{ours * 1000:.1f} ms",
                    f"{theirs * 1000:.1f} ms",
                    ours / theirs,
                )
            )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default="benchmark-pool.json")
    parser.add_argument("--sequences", type=int, default=NUM_SEQUENCES)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    given = parser.parse_args()
    machine = describe_machine(["scipy"])
    rows = [*day_rows(), *placement_rows(given.sequences, given.first_seed), *queue_rows()]
    print(table(rows))
    write_json(given.json, rows, machine)


if __name__ == "__main__":
    main()
