"""What tenants of a shared device get: shares, the device's lost time, the latency of a light one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from benchmarks.common import Row
from benchmarks.isolation.tenants import closing
from benchmarks.lease.tenants import Tenant, saturating, sharing
from elastic_inference.percentiles import percentile

ASKED = ([0.1, 0.9], [0.25, 0.75], [0.3, 0.7], [0.5, 0.5], [0.2, 0.3, 0.5])
ALIKE = (0.025, 0.025, 0.025)
UNLIKE = (0.002, 0.1, 0.025)
PIECE_SECONDS = 0.002
LOAD_SHARE = 0.4  # of what the light tenant's share could serve

# What requests take and how they can be cut, by a name.
SATURATED = {
    "whole-alike": (ALIKE, None),
    "whole-unlike": (UNLIKE, None),
    "pieces-alike": (ALIKE, PIECE_SECONDS),
    "pieces-unlike": (UNLIKE, PIECE_SECONDS),
}


def _beside(
    share: float, request_seconds: float, *, may_burst: bool = False, pieces: float | None = PIECE_SECONDS
) -> tuple[Tenant, Tenant]:
    return Tenant(share, request_seconds, pieces), Tenant(1 - share, 0.025, pieces, may_burst)


# A light tenant, its neighbour, and whether a limit is set to what it gets.
LIGHT = {
    "tenth": (*_beside(0.1, 0.025), True),
    "quarter": (*_beside(0.25, 0.025), True),
    "half": (*_beside(0.5, 0.025), True),
    "half-burst": (*_beside(0.5, 0.025, may_burst=True), True),
    "short": (*_beside(0.25, 0.005), False),
    "uncut": (*_beside(0.5, 0.025, pieces=None), False),
}


def shares(lengths: Sequence[float], pieces: float | None, seconds: float, rounds: int) -> list[Row]:
    """Everybody saturates the device: what each got of it by the device's own clock, and what leases lost of it.

    One accelerator that has the device to itself, without a lease, leaves it unused between its requests too; what is
    lost to leases is what is unused beyond that.

    Args:
        lengths: Device seconds of a request, by tenant.
        pieces: As `Tenant.piece_seconds`.
    """
    rows, unused, lost = [], [], []
    alone = {length: _alone(length, pieces, seconds) for length in set(lengths)}
    for asked in ASKED:
        tenants = [Tenant(s, r, pieces) for s, r in zip(asked, lengths, strict=False)]
        runs = [_saturate(tenants, seconds) for _ in range(rounds)]
        rows.append(_share_row(asked, tenants, runs, seconds))
        could = sum(one.share * alone[one.request_seconds] for one in tenants)
        unused.append(100 * (1 - statistics.median(run["busy"] for run in runs)))
        lost.append(unused[-1] - 100 * (1 - could))
    return [*rows, _lost_row(_what(tenants), unused, lost)]


def _alone(request_seconds: float, piece_seconds: float | None, seconds: float) -> float:
    """The part of the time in which one accelerator without a lease uses the device."""
    with (
        sharing([Tenant(1.0, request_seconds, piece_seconds)], by_lease=False) as running,
        saturating(*running),
    ):
        before, start = running[0].used(), time.monotonic()
        time.sleep(seconds)
        return (running[0].used()[0] - before[0]) / (time.monotonic() - start)


def _saturate(tenants: Sequence[Tenant], seconds: float) -> dict[str, Any]:
    with sharing(tenants) as running, saturating(*running):
        before, start = [one.used() for one in running], time.monotonic()
        time.sleep(seconds)
        after, passed = [one.used() for one in running], time.monotonic() - start
    used = [b[0] - a[0] for a, b in zip(before, after, strict=True)]
    switching = sum(b[1] - a[1] for a, b in zip(before, after, strict=True))
    total = sum(used)
    return {
        "got": [one / total for one in used],
        "busy": total / passed,
        "switching": switching / passed,
    }


def _what(tenants: Sequence[Tenant]) -> str:
    lengths = ":".join(f"{one.request_seconds * 1e3:g}" for one in tenants)
    pieces = tenants[0].piece_seconds
    return f"requests of {lengths} ms, {'whole' if pieces is None else f'pieces of {pieces * 1e3:g} ms'}"


def _share_row(
    asked: Sequence[float], tenants: Sequence[Tenant], runs: list[dict[str, Any]], seconds: float
) -> Row:
    off = [max(abs(g - a) * 100 for g, a in zip(run["got"], asked, strict=True)) for run in runs]
    got = [statistics.median(run["got"][i] for run in runs) for i in range(len(asked))]
    return Row(
        f"asked {_percents(asked)}, {_what(tenants)}: points off",
        _percents(got, 2),
        f"{len(runs)} times {seconds:g} s",
        statistics.median(off),
        1,
        0.5,
        spread=(min(off), max(off)),
        detail={"runs": runs},
    )


def _lost_row(what: str, unused: Sequence[float], lost: Sequence[float]) -> Row:
    """Percent of the time, by what was asked."""
    return Row(
        f"the five above, {what.rpartition(', ')[2]}: percent of the device lost to leases (worst)",
        f"median {statistics.median(lost):.2f}, unused in all {statistics.median(unused):.2f}",
        "one accelerator without a lease",
        max(lost),
        2,
        1,
        spread=(min(lost), max(lost)),
        detail={"unused": list(unused), "lost": list(lost)},
    )


def _percents(shares: Sequence[float], digits: int = 0) -> str:
    return ":".join(f"{share * 100:.{digits}f}" for share in shares)


def latency(pair: tuple[Tenant, Tenant, bool], seconds: float, rounds: int, num_requests: int) -> list[Row]:
    """A tenant at 40% of its share: its p99 beside one that saturates the rest, over its p99 alone.

    Args:
        pair: One of LIGHT.
        num_requests: In a round at least, for which it lasts longer than `seconds` where that must be: a p99 of less
            than a hundred is the slowest of all.
    """
    light, other, is_judged = pair
    lasting = max(seconds, num_requests * light.request_seconds / (LOAD_SHARE * light.share))
    return [_latency_row(light, other, lasting, rounds, is_judged)]


def _latency_row(light: Tenant, other: Tenant, seconds: float, rounds: int, is_judged: bool) -> Row:
    rate = LOAD_SHARE * light.share / light.request_seconds
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    failed = 0
    with (
        sharing([light, other]) as (tenant, neighbour),
        closing(tenant.load(threads=8, rate=rate, is_remote=True)) as client,
    ):
        client.run(2)
        for _ in range(rounds):
            for runs, meanwhile in ((alone, nullcontext()), (beside, saturating(neighbour))):
                with meanwhile:
                    result = client.run(seconds)
                runs.append([sample * 1e3 for sample in result["latencies_seconds"]])
                failed += result["num_failed"] + result["num_wrong"]
    ratios = [percentile(b, 0.99) / percentile(a, 0.99) for a, b in zip(alone, beside, strict=True)]
    p99 = [percentile([x for run in runs for x in run], 0.99) for runs in (alone, beside)]
    p50 = [percentile([x for run in runs for x in run], 0.5) for runs in (alone, beside)]
    burst = ", which may burst" if other.may_burst else ""
    pieces = "whole" if light.piece_seconds is None else f"pieces of {PIECE_SECONDS * 1e3:g} ms"
    return Row(
        f"p99 at {rate:.3g}/s of {light.request_seconds * 1e3:g} ms with {light.share:.0%}, neighbour saturates "
        f"{other.share:.0%}{burst} with 25 ms, {pieces}",
        f"{p99[1]:.1f} ms, p50 {p50[1]:.1f} ms, {failed} failed",
        f"alone {p99[0]:.1f} ms, p50 {p50[0]:.1f} ms",
        float("inf") if failed else p99[1] / p99[0],
        1.5 if is_judged else None,
        1.2 if is_judged else None,
        spread=(min(ratios), max(ratios)),
        detail={"num_requests": sum(map(len, beside)), "rounds": rounds, "seconds": seconds},
    )
