"""What the host's `/metrics` says of its accelerators: histograms, traces to look at, users left; all bounded."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample

from elastic_inference.client.connection import Address, Connection
from elastic_inference.host.doors.metrics import BOUNDS, CONTENT_TYPE, OPENMETRICS_TYPE, _buckets
from elastic_inference.protocol.endpoint import Endpoint
from tests.host.conftest import HostProcess
from tests.host.support import predictor
from tests.otlp import running_collector

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
NUM_CALLS = 7


def scrape(host: HostProcess, accept: str = "") -> tuple[str, str]:
    """Its text and type."""
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {host.operator_token}", **({"Accept": accept} if accept else {})}
    connection.request("GET", "/metrics", headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return text, answer.headers["Content-Type"]


def samples(text: str, name: str, is_open: bool = False) -> list[Sample]:
    return [s for f in (parse_open if is_open else parse)(text) for s in f.samples if s.name == name]


def test_histograms_count_every_request_and_name_a_trace(
    start_host: Callable[..., HostProcess], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        host = start_host("--pass-on", "OTEL_*")
        attached = host.session().attach("cpu.quarter", lease_seconds=None)
        with predictor(attached.endpoints[0], attached.token, model) as predict:
            for number in range(NUM_CALLS):
                predict({"x": np.array([number], np.int32)})
            name = predict._model.name  # type: ignore[attr-defined]  # its name on the accelerator
            connection = Connection(Address(Endpoint.parse(attached.endpoints[0]), attached.token), 10.0)
            body = b'{"inputs":[{"name":"x","datatype":"INT32","shape":[1],"data":[1]}]}'
            headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
            connection.call("POST", f"/v2/models/{name}/infer", body, headers)
            connection.close()
            text, kind = scrape(host, "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
            plain, plain_kind = scrape(host)
        assert host.end() == 0
    assert (kind, plain_kind) == (OPENMETRICS_TYPE, CONTENT_TYPE)
    buckets = samples(text, "elastic_inference_host_request_seconds_bucket", is_open=True)
    for part in ("total", "queue", "service"):
        mine = [s for s in buckets if s.labels["part"] == part]
        assert [float(s.labels["le"]) for s in mine] == [float(bound) for bound in BOUNDS]
        values = [s.value for s in mine]
        assert values == sorted(values)
        assert values[-1] >= NUM_CALLS + 1  # a warm-up counts too
    traces = {s.exemplar.labels["trace_id"] for s in buckets if s.exemplar is not None}
    assert TRACE_ID in traces
    assert {s.labels["part"] for s in buckets if s.exemplar is not None} == {"total"}
    assert "trace_id" not in plain
    counts = samples(plain, "elastic_inference_host_request_seconds_count")
    assert {s.labels["accelerator_id"] for s in counts} == {attached.accelerator_id}
    successes = [
        s.value
        for s in samples(plain, "elastic_inference_host_requests_total")
        if s.labels["outcome"] == "success"
    ]
    assert [s.value for s in counts if s.labels["part"] == "total"] == successes


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, so that accelerators have users of their own")
def test_users_left_go_down_with_each_accelerator(start_host: Callable[..., HostProcess]) -> None:
    host = start_host("--spares", "0")

    def num_left() -> float:
        (sample,) = samples(scrape(host)[0], "elastic_inference_host_users_left")
        return sample.value

    before = num_left()
    attached = host.session().attach("cpu.quarter", lease_seconds=None)
    assert num_left() == before - 1
    host.session().detach(attached.accelerator_id)
    assert "elastic_inference_host_request_seconds_bucket" not in scrape(host)[0].replace("# TYPE", "")


def test_counts_go_to_the_next_bound_and_the_latest_exemplar_stays() -> None:
    histogram = {
        "counts": {"1e-05": 2, "0.0005": 1, "0.001": 3, "20": 4, "+Inf": 5},
        "sum": 1.0,
        "exemplars": {
            "1e-05": ["a" * 32, 1e-05, 100.0],
            "0.0005": ["b" * 32, 0.0004, 99.0],
            "+Inf": ["c" * 32, 70.0, 1.0],
        },
    }
    found = _buckets(histogram)
    assert [bucket[0] for bucket in found] == list(BOUNDS)
    assert [bucket[1] for bucket in found] == [3] + [6] * 13 + [15]
    exemplars = {bucket[0]: bucket[2] for bucket in found if len(bucket) == 3}
    assert {bound: each.labels["trace_id"][0] for bound, each in exemplars.items()} == {
        "0.0005": "a",
        "+Inf": "c",
    }
    assert exemplars["+Inf"].value == 70.0
