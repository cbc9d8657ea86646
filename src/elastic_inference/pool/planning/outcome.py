"""What a simulation came to, in plain figures for a reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from elastic_inference.percentiles import percentile
from elastic_inference.pool.planning.auto import Target
from elastic_inference.pool.simulation.simulate import SimulationResult


@dataclass(frozen=True)
class Outcome:
    """One simulated time of a pool. Times in seconds; None where there is none.

    Attributes:
        num_refused: Attaches without room.
        num_calls, num_drawn: Calls; of these, those that were computed one by one.
        target_latency_seconds: At the percentile that the target is about.
        late_share: Of the calls, beyond the target.
        num_unanswered: Calls that nobody served because their accelerator never found a place again.
        num_over_target: Attachments of which too many calls are late.
        held_share: Of all devices, over time.
        busy_share: Of what was held, in which calls were computed.
        peak_accelerators, peak_hosts: Most at once.
        num_moved: Accelerators that lost their host.
        longest_out_seconds, median_out_seconds: In which these did not serve.
        most_waiting: Of these, how many had no place at once.
    """

    num_hosts: int
    num_attachments: int
    num_refused: int
    num_calls: float
    num_drawn: int
    p50_seconds: float | None
    target_latency_seconds: float | None
    largest_seconds: float | None
    late_share: float
    num_unanswered: float
    num_over_target: int
    held_share: float
    busy_share: float
    peak_accelerators: int
    peak_hosts: int
    num_moved: int
    median_out_seconds: float | None
    longest_out_seconds: float | None
    most_waiting: int
    by_type: dict[str, dict[str, Any]]


def outcome_of(result: SimulationResult, target: Target) -> Outcome:
    """Put a simulation into figures."""
    calls, latencies, outages = result.calls, result.latencies, result.outages
    has_calls = latencies.count > 0
    served = sum(
        serving.end - serving.start for stay in result.course.stays.values() for serving in stay.servings
    )
    return Outcome(
        num_hosts=result.num_hosts,
        num_attachments=len(result.course.stays),
        num_refused=result.course.num_refused,
        num_calls=calls.num_offered,
        num_drawn=calls.num_drawn,
        p50_seconds=latencies.percentile(0.5) if has_calls else None,
        target_latency_seconds=latencies.percentile(target.percentile) if has_calls else None,
        largest_seconds=latencies.largest if has_calls else None,
        late_share=calls.num_late / calls.num_offered if calls.num_offered else 0.0,
        num_unanswered=calls.num_unanswered,
        num_over_target=len(result.over_target),
        held_share=result.held_share,
        busy_share=calls.busy_seconds / served if served else 0.0,
        peak_accelerators=max((use.num_accelerators for use in result.uses), default=0),
        peak_hosts=max((use.used_hosts for use in result.uses), default=0),
        num_moved=result.course.num_moved,
        median_out_seconds=percentile(outages, 0.5) if outages else None,
        longest_out_seconds=outages[-1] if outages else None,
        most_waiting=len(result.course.waited),
        by_type={
            name: {
                "num_attachments": each.num_attachments,
                "num_calls": each.calls.num_offered,
                "p50_seconds": each.latencies.percentile(0.5),
                "target_latency_seconds": each.latencies.percentile(target.percentile),
                "num_over_target": each.num_over_target,
            }
            for name, each in result.by_type.items()
        },
    )
