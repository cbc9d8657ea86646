"""What an accelerator has done, as Prometheus text, read from the statistics at each scrape."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from elastic_inference.accelerator.model_statistics import Histogram
from elastic_inference.accelerator.model_table import ModelTable
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.engines.guarded import GuardedModel


class AcceleratorCollector(Collector):
    """Reads queue and table when asked, so that a request pays for a few additions only."""

    def __init__(self, queue: RequestQueue, models: ModelTable, memory_limit_bytes: int | None) -> None:
        self._queue = queue
        self._models = models
        self._memory_limit_bytes = memory_limit_bytes
        self._process = psutil.Process()

    def collect(self) -> Iterator[Metric]:
        """All metrics of this accelerator, prefixed `elastic_inference_`."""
        yield from self._of_queue()
        yield from self._of_lease()
        yield from self._of_process()
        yield from self._of_models()

    def _of_queue(self) -> Iterator[Metric]:
        now = self._queue.statistics()
        yield _gauge("queue_length", "Requests that wait for their turn", now.num_waiting)
        yield _gauge("running_requests", "Requests that have their turn", now.num_running)
        yield _counter("executions", "Turns that used the device", now.num_executions)
        yield _counter("device_seconds", "Seconds in which a request had its turn", now.device_seconds)
        yield _counter(
            "throttled_seconds",
            "Seconds of rest, or of waiting for the device",
            now.throttled_seconds,
        )
        yield _counter("refused_requests", "Requests refused because the queue was full", now.num_refused)
        yield _counter("expired_requests", "Requests whose deadline passed in the queue", now.num_expired)

    def _of_lease(self) -> Iterator[Metric]:
        now = self._queue.lease_statistics()
        if now is None:
            return
        yield _gauge("lease_share", "Share of the device that the lease holds", now.weight)
        yield _gauge(
            "lease_credit_seconds", "Device seconds behind the share; below 0: ahead", now.level_seconds
        )
        yield _counter("lease_device_seconds", "Seconds in which the device was leased", now.device_seconds)
        yield _counter("lease_wait_seconds", "Seconds of waiting for the device", now.wait_seconds)
        yield _counter("leases", "Leases of the device", now.num_leases)
        yield _counter("lease_cuts", "Requests interrupted for another accelerator", now.num_cuts)
        yield _counter("lost_leases", "Leases that the host took back", now.num_lost)

    def _of_process(self) -> Iterator[Metric]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield _gauge("up", "1 while the accelerator serves", 1)
        yield _gauge("memory_used_bytes", "Resident memory of the process", self._process.memory_info().rss)
        if self._memory_limit_bytes is not None:
            yield _gauge("memory_limit_bytes", "Memory that the process may use", self._memory_limit_bytes)
        yield _counter("cpu_seconds", "CPU seconds of the process", usage.ru_utime + usage.ru_stime)

    def _of_models(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "elastic_inference_requests", "Requests by model and outcome", labels=["model", "outcome"]
        )
        proofs = GaugeMetricFamily(
            "elastic_inference_model_proof",
            "1 for what comparing a model with its reference came to",
            labels=["model", "verdict"],
        )
        fallbacks = CounterMetricFamily(
            "elastic_inference_reference_calls", "Calls that the reference answered", labels=["model"]
        )
        rows = CounterMetricFamily(
            "elastic_inference_rows", "Rows of successful requests, along axis 0", labels=["model"]
        )
        rows_run = _histogram_family("execution_rows", "Rows that ran together, successful runs")
        queue = _histogram_family("queue_seconds", "Waiting for the turn, successful requests")
        service = _histogram_family("service_seconds", "Computation, successful requests")
        for entry in (*self._models.entries(), *self._models.others.entries()):
            with entry.accounts() as done:
                for outcome, count in done.num_by_outcome.items():
                    requests.add_metric([entry.key, outcome], count)
                if entry.proof.proof is not None:
                    proofs.add_metric([entry.key, entry.proof.proof.verdict.value], 1)
                if isinstance(entry.model, GuardedModel):
                    fallbacks.add_metric([entry.key], entry.model.num_reference_calls)
                rows.add_metric([entry.key], done.num_rows)
                _add_histogram(rows_run, entry.key, done.rows_run)
                _add_histogram(queue, entry.key, done.queue)
                _add_histogram(service, entry.key, done.service)
        yield from (requests, proofs, fallbacks, rows, rows_run, queue, service)


def render(collector: AcceleratorCollector) -> bytes:
    """Return the text that `GET /metrics` answers."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"elastic_inference_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"elastic_inference_{name}", text, value=value)


def _histogram_family(name: str, text: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"elastic_inference_{name}", text, labels=["model"])


def _add_histogram(family: HistogramMetricFamily, model: str, histogram: Histogram) -> None:
    total = 0
    buckets = []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric([model], buckets, sum_value=histogram.total)
