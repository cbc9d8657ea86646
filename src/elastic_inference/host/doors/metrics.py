"""The host's own Prometheus text: what the host sees of accelerators from outside, read at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.scope import ALL, Scope
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors.callers import Caller
from elastic_inference.host.meter import Reading

_PREFIX = "elastic_inference_host_"
_LABELS = ("accelerator_id", "accelerator_type")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = exposition.CONTENT_TYPE_LATEST
# Of the histograms: fewer than an accelerator's own, because each is a series for each accelerator and part.
BOUNDS = (
    "0.0005",
    "0.001",
    "0.002",
    "0.005",
    "0.01",
    "0.02",
    "0.05",
    "0.1",
    "0.2",
    "0.5",
    "1",
    "2",
    "5",
    "10",
    "+Inf",
)
_PARTS = ("total", "queue", "service")
_TYPES = ("text/plain", "application/openmetrics-text")


class HostCollector(Collector):
    """Reads the meters when asked.

    Args:
        scope: Whose figures the caller may see; of all, the devices' too.
    """

    def __init__(self, host: ControlApi, scope: Scope = ALL) -> None:
        self._host = host
        self._service = host.service
        self._scope = scope

    def collect(self) -> Iterator[Metric]:
        """All metrics, prefixed `elastic_inference_host_`."""
        if self._scope.is_all:
            snapshot = self._service.board.fresh()
            readings = [(r, snapshot.readings[r.accelerator_id]) for r in snapshot.records]
            yield from self._of_devices(snapshot.records)
            yield from self._of_host()
        else:
            covers = self._scope.covers
            records = [r for r in self._service.list_all() if covers(r.accelerator_id, r.tenant)]
            found = self._service.meter.read_all(records)
            readings = [(record, found[record.accelerator_id]) for record in records]
        yield from _gauges(readings)
        yield from _counters(readings)
        yield from _of_requests(readings)
        yield _histograms(readings)
        yield _info(readings)

    def _of_devices(self, records: tuple[AcceleratorRecord, ...]) -> Iterator[Metric]:
        by_state = GaugeMetricFamily(f"{_PREFIX}accelerators", "Accelerators by state", labels=["state"])
        for state in State:
            by_state.add_metric([state.value], sum(record.state is state for record in records))
        share = GaugeMetricFamily(
            f"{_PREFIX}device_left_share", "Share of the device nobody holds", labels=["device"]
        )
        memory = GaugeMetricFamily(
            f"{_PREFIX}device_left_memory_bytes", "Memory nobody holds", labels=["device"]
        )
        capacity = self._service.capacity
        for device in capacity.devices:
            left_share, left_bytes = capacity.left(device)
            share.add_metric([device.name], left_share)
            memory.add_metric([device.name], left_bytes)
        yield from (by_state, share, memory)

    def _of_host(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            f"{_PREFIX}draining",
            "1 while it refuses new accelerators",
            value=float(self._service.is_draining),
        )
        build = GaugeMetricFamily(
            f"{_PREFIX}build_info", "Always 1; its version", labels=["version", "limits"]
        )
        build.add_metric([self._host.version, self._host.limits_name], 1)
        yield build
        (free_bytes, is_low), ends_at = self._host.disk_figures, self._host.certificates.ends_at
        if ends_at is not None:
            yield GaugeMetricFamily(
                f"{_PREFIX}certificate_ends_seconds", "When the certificate ends, since 1970", value=ends_at
            )
        yield GaugeMetricFamily(
            f"{_PREFIX}disk_free_bytes", "Free on the disk of the state directory", value=free_bytes
        )
        if self._host.num_users_left is not None:
            yield GaugeMetricFamily(
                f"{_PREFIX}users_left",
                "Accelerators that can still have a user of their own",
                value=self._host.num_users_left,
            )
        yield GaugeMetricFamily(
            f"{_PREFIX}disk_low",
            "1 while too little of it is free",
            value=float(is_low),
        )


def _gauges(readings: list[tuple[AcceleratorRecord, Reading]]) -> Iterator[Metric]:
    families: dict[str, tuple[str, Callable[[Reading], float | None]]] = {
        "accelerator_up": ("1 while its process answers", lambda r: float(r.is_healthy)),
        "memory_used_bytes": ("Memory of its group now", lambda r: r.memory_bytes),
        "memory_limit_bytes": ("Memory that it may use", lambda r: r.memory_limit_bytes),
        "utilisation_share": (
            "Device seconds used of those that its share gives, over the last seconds",
            lambda r: r.utilisation_share,
        ),
        "queue_length": ("Requests that wait for their turn", lambda r: _of_queue(r, "num_waiting")),
        "turn_seconds": ("For how long the running request runs", lambda r: _of_queue(r, "turn_seconds")),
    }
    for name, (text, value_of) in families.items():
        family = GaugeMetricFamily(_PREFIX + name, text, labels=_LABELS)
        for record, reading in readings:
            value = value_of(reading)
            if value is not None:
                family.add_metric([record.accelerator_id, record.kind.name], value)
        yield family


def _of_queue(reading: Reading, name: str) -> float | None:
    queue: Any = reading.statistics.get("queue")
    return None if queue is None else float(queue[name])


def _of_requests(readings: list[tuple[AcceleratorRecord, Reading]]) -> Iterator[Metric]:
    """Say what became of requests, and where the time of the last minute's went; models are not told apart here."""
    requests = CounterMetricFamily(
        f"{_PREFIX}requests", "Requests by outcome, of models loaded now", labels=[*_LABELS, "outcome"]
    )
    latency = GaugeMetricFamily(
        f"{_PREFIX}latency_seconds",
        "Of the request at this percentile of the last minute: its total, and its parts",
        labels=[*_LABELS, "percentile", "part"],
    )
    for record, reading in readings:
        statistics: Any = reading.statistics
        whose = [record.accelerator_id, record.kind.name]
        for outcome, count in _outcomes(statistics.get("models") or []).items():
            requests.add_metric([*whose, outcome], count)
        for name in ("p50", "p99"):
            parts = (statistics.get("latency") or {}).get(name) or {}
            for part, seconds in parts.items():
                latency.add_metric([*whose, name, part.removesuffix("_seconds")], seconds)
    yield from (requests, latency)


def _histograms(readings: list[tuple[AcceleratorRecord, Reading]]) -> Metric:
    """Say how long requests took, with a trace to look at for each bucket where traces are on."""
    family = HistogramMetricFamily(
        f"{_PREFIX}request_seconds",
        "Successful requests of models loaded now: the whole, waiting for the turn, computation",
        labels=[*_LABELS, "part"],
    )
    for record, reading in readings:
        histograms: Any = reading.statistics.get("histograms") or {}
        for part in _PARTS:
            if part in histograms:
                labels = [record.accelerator_id, record.kind.name, part]
                family.add_metric(labels, _buckets(histograms[part]), sum_value=histograms[part]["sum"])
    return family


def _buckets(histogram: dict[str, Any]) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Give counts to the next bound of ours and add them up; of the exemplars of a bucket the latest stays."""
    found: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    counts = {float(bound): count for bound, count in histogram["counts"].items()}
    exemplars = {float(bound): exemplar for bound, exemplar in histogram["exemplars"].items()}
    below = float("-inf")
    total = 0
    for text in BOUNDS:
        bound = float(text)
        total += sum(count for each, count in counts.items() if below < each <= bound)
        latest = max(
            (e for each, e in exemplars.items() if below < each <= bound), key=lambda e: e[2], default=None
        )
        if latest is None:
            found.append((text, total))
        else:
            found.append((text, total, Exemplar({"trace_id": latest[0]}, latest[1], latest[2])))
        below = bound
    return found


def _outcomes(models: list[dict[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for model in models:
        total.update(model["num_by_outcome"])
    return total


def _info(readings: list[tuple[AcceleratorRecord, Reading]]) -> Metric:
    """Names, which change no other metric's labels."""
    info = GaugeMetricFamily(
        f"{_PREFIX}accelerator_info",
        "Always 1; its name, device and tenant",
        labels=[*_LABELS, "name", "device", "tenant"],
    )
    for record, _ in readings:
        info.add_metric(
            [record.accelerator_id, record.kind.name, record.name, record.device, record.tenant], 1
        )
    return info


def _counters(readings: list[tuple[AcceleratorRecord, Reading]]) -> Iterator[Metric]:
    families: dict[str, tuple[str, Callable[[AcceleratorRecord, Reading], float]]] = {
        "device_seconds": (
            "CPU seconds of its processes divided by the cores of the device",
            lambda _, r: r.sample.device_seconds,
        ),
        "throttled_seconds": (
            "Seconds for which it was held back",
            lambda _, r: r.sample.throttled_seconds,
        ),
        "oom_kills": ("Processes killed for memory", lambda _, r: r.num_oom_kills),
        "restarts": ("How often its process died", lambda record, _: record.num_restarts),
    }
    for name, (text, value_of) in families.items():
        family = CounterMetricFamily(_PREFIX + name, text, labels=_LABELS)
        for record, reading in readings:
            family.add_metric([record.accelerator_id, record.kind.name], value_of(record, reading))
        yield family


def add_metrics(app: FastAPI, host: ControlApi, caller: Any) -> None:
    """Add `GET /metrics`.

    Args:
        caller: The dependency that gives the Caller of a request; see `callers`.
    """

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {kind: {"schema": {"type": "string"}} for kind in _TYPES}}},
        tags=["host"],
    )
    def host_metrics(request: Request, who: Caller = caller) -> Response:
        """Prometheus text, or OpenMetrics where that is asked for; a tenant sees its own accelerators only."""
        is_open = _TYPES[1] in request.headers.get("Accept", "")
        text = render(host, who.scope, is_open)
        return Response(text, headers={"Content-Type": OPENMETRICS_TYPE if is_open else CONTENT_TYPE})


def render(host: ControlApi, scope: Scope = ALL, is_open: bool = False) -> bytes:
    """Return the text that `GET /metrics` answers; `is_open`: as OpenMetrics, which alone has exemplars."""
    registry = CollectorRegistry()
    registry.register(HostCollector(host, scope))
    if is_open:
        return bytes(exposition.generate_latest(registry))  # type: ignore[no-untyped-call]
    return generate_latest(registry)
