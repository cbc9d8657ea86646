"""The latest requests of a model: percentiles are requests that occurred, of the last minute alone."""

from __future__ import annotations

from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.accelerator.recent import MAX_KEPT, WINDOW_SECONDS, Recent, latency


def timed(answered_at: float, total_seconds: float, queue_seconds: float, service_seconds: float) -> Timing:
    timing = Timing()
    timing.answered_at, timing.total_seconds = answered_at, total_seconds
    timing.queue_seconds, timing.service_seconds = queue_seconds, service_seconds
    return timing


def of(*requests: Timing) -> Recent:
    recent = Recent()
    recent.add(requests)
    return recent


def test_nothing_was_asked() -> None:
    assert latency([of()], 0.0) == {"num_requests": 0, "window_seconds": 60.0, "p50": None, "p99": None}


def test_the_parts_of_a_percentile_are_those_of_one_request() -> None:
    # The slowest waited long, the next slowest computed long: no mixture of both is anybody's latency.
    requests = [timed(1.0, 0.25 + n / 1000, 0.0, 0.25) for n in range(98)]
    found = latency([of(*requests, timed(1.0, 2.0, 0.25, 1.5), timed(1.0, 4.0, 3.5, 0.25))], 2.0)
    assert found["num_requests"] == 100
    assert found["p99"] == {
        "total_seconds": 2.0,
        "queue_seconds": 0.25,
        "service_seconds": 1.5,
        "wire_seconds": 0.25,
    }
    assert found["p50"]["total_seconds"] == 0.25 + 49 / 1000


def test_models_count_together_and_old_requests_not_at_all() -> None:
    old, young = timed(10.0, 9.0, 0.0, 9.0), timed(80.0, 1.0, 0.0, 1.0)
    found = latency([of(old), of(young)], 10.0 + WINDOW_SECONDS + 1)
    assert found["num_requests"] == 1
    assert found["p99"]["total_seconds"] == 1.0


def test_what_is_kept_is_bounded() -> None:
    recent = of(*(timed(float(n), 1.0, 0.0, 1.0) for n in range(MAX_KEPT + 5)))
    assert len(recent.since(0.0)) == MAX_KEPT
    assert recent.since(0.0)[0].answered_at == 5.0
