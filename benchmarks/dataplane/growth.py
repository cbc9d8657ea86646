"""The row on memory: how much client and accelerator grow over 2,000 frames."""

from __future__ import annotations

import sys

from benchmarks.common import Row
from benchmarks.dataplane.loopback import Effort, contestants

NUM_FRAMES = 2_000
_STEP = 50
_SETTLING = 200  # frames until buffers, pages and allocators have reached their size


def growth_rows(effort: Effort) -> list[Row]:
    """A row for TCP and one for shared memory."""
    rows = []
    with contestants(["tcp", "memory"]) as started:
        for name, contestant in started.items():
            num_steps = max(4, effort.count(NUM_FRAMES) // _STEP)
            contestant.turn("frame", _SETTLING)
            sizes = []
            for step in range(num_steps):
                contestant.turn("frame", _STEP)
                sizes.append(contestant.ask("info")["info"])
                if step % 10 == 0:
                    print(f"growth {name}: {step * _STEP} frames", file=sys.stderr)
            rows.append(_row(name, sizes))
    return rows


def _row(name: str, sizes: list[dict[str, int]]) -> Row:
    frames = [index * _STEP for index in range(len(sizes))]
    growth, texts = [], []
    for who in ("client", "accelerator"):
        series = [size[f"{who}_bytes"] for size in sizes]
        growth.append(slope(frames, series) * NUM_FRAMES / 2**20)
        texts.append(f"{who} {series[0] / 2**20:.1f} -> {series[-1] / 2**20:.1f} MiB")
    return Row(
        f"memory over {len(sizes) * _STEP:,} frames, {name}: growth per {NUM_FRAMES:,} frames in MiB (larger of both)",
        *texts,
        max(growth),
        1.0,
        0.1,
        detail={"sizes": sizes},
    )


def slope(xs: list[int], ys: list[int]) -> float:
    """The slope of the least-squares line through the points."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - mean_x) ** 2 for x in xs
    )
