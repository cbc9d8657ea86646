"""Spans reach a real OTLP collector, continue the caller's trace, and are off unless asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.accelerator.tracing import make_tracer
from elastic_inference.client.connection import Address, Connection
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.testing import start_accelerator, write_model
from tests.otlp import Collector, running_collector

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as server:
        yield server


def test_request_becomes_three_spans_of_the_callers_trace(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    model = write_model(
        tmp_path / "m.testing", inputs={"x": ("float32", (2,))}, outputs={"x": ("float32", (2,))}
    )
    with start_accelerator() as accelerator:
        with EIPredictor(model, address=accelerator.address, token=accelerator.token) as predictor:
            predictor({"x": np.zeros(2, np.float32)})
            name = predictor._model.name  # type: ignore[attr-defined]  # its name on the accelerator
        connection = Connection(Address(Endpoint.parse(accelerator.address), accelerator.token), 10.0)
        body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,2]}]}'
        headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
        connection.call("POST", f"/v2/models/{name}/infer", body, headers)
        connection.close()
    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE_ID]
    assert sorted(span.name for span in spans) == ["infer", "queue", "service"]
    whole = next(span for span in spans if span.name == "infer")
    assert whole.parent_span_id.hex() == "b7ad6b7169203331"
    assert all(span.parent_span_id == whole.span_id for span in spans if span is not whole)
    assert len(collector.spans) == 6


def test_nothing_is_traced_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    assert make_tracer("eia-0") is None
