"""OpenTelemetry spans of inference requests, where `telemetry` says that they are asked for.

A request that carries W3C's `traceparent` header continues that trace. Spans are made after the answer is known, from
the times that are taken anyway, so a process without tracing pays for one comparison a request.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from elastic_inference.settings import asks_for_traces
from elastic_inference.telemetry import tracer_provider

log = logging.getLogger(__name__)
_NANOSECONDS = 1_000_000_000


class Tracer:
    """Makes three spans of each request: the whole, its queue wait, its service time."""

    def __init__(self, accelerator_id: str) -> None:
        attributes = {"service.name": "elastic-inference", "service.instance.id": accelerator_id}
        self._provider = tracer_provider(attributes)
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = self._provider.get_tracer("elastic_inference.accelerator")
        self._propagator = TraceContextTextMapPropagator()

    def record(
        self,
        trace_parent: bytes,
        model: str,
        outcome: str,
        queue_seconds: float,
        service_seconds: float,
    ) -> str | None:
        """Add the spans of a request that ended just now.

        Args:
            trace_parent: W3C's header, or empty.

        Returns:
            The trace's id (hex); None where the trace is not sampled, so that nobody could find it.
        """
        end = time.time_ns()
        started = end - int(service_seconds * _NANOSECONDS)
        entered = started - int(queue_seconds * _NANOSECONDS)
        carrier = {"traceparent": trace_parent.decode("latin-1")}
        context = self._propagator.extract(carrier)
        attributes = {"elastic_inference.model": model, "elastic_inference.outcome": outcome}
        whole = self._tracer.start_span("infer", context, attributes=attributes, start_time=entered)
        inner = self._inner_context(whole)
        for name, begin, until in (("queue", entered, started), ("service", started, end)):
            self._tracer.start_span(name, inner, start_time=begin).end(until)
        whole.end(end)
        found = whole.get_span_context()
        return f"{found.trace_id:032x}" if found.trace_flags.sampled else None

    @staticmethod
    def _inner_context(span: Any) -> Any:
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(span)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def make_tracer(accelerator_id: str) -> Tracer | None:
    """Return a tracer where the environment asks for one, else None; EngineNotAvailable where it cannot be made."""
    return Tracer(accelerator_id) if asks_for_traces() else None
