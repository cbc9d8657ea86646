"""OpenTelemetry spans of the control API, sent to a real collector's port."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator

import pytest

from tests.host.conftest import HostProcess
from tests.host.support import wait_until
from tests.otlp import Collector, running_collector

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as server:
        yield server


def test_a_request_is_a_span_of_its_callers_trace(
    start_host: Callable[..., HostProcess], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    host = start_host()
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "Authorization": "Bearer wrong"}
    connection.request("GET", "/v1/accelerators/eia-0", headers=headers)
    assert connection.getresponse().status == 401
    connection.close()
    assert host.end() == 0
    wait_until(lambda: bool(collector.spans), "the last spans")
    (span,) = [s for s in collector.spans if s.trace_id.hex() == TRACE_ID]
    assert span.name == "GET /v1/accelerators/{accelerator_id}"
    values = {a.key: a.value for a in span.attributes}
    assert values["http.response.status_code"].int_value == 401
