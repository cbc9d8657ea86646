"""OpenTelemetry spans of the control API, sent to a real collector's port."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.host.conftest import HostProcess
from tests.host.support import wait_until

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class Collector(http.server.ThreadingHTTPServer):
    """Takes what an OTLP exporter posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # the name is the library's
        assert isinstance(self.server, Collector)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_is_a_span_of_its_callers_trace(
    start_host: Callable[..., HostProcess], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel")
    trace = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    host = start_host()
    import http.client

    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "Authorization": "Bearer wrong"}
    connection.request("GET", "/v1/accelerators/eia-0", headers=headers)
    assert connection.getresponse().status == 401
    connection.close()
    assert host.end() == 0
    wait_until(lambda: bool(collector.bodies), "the last spans")
    spans = [
        span
        for body in collector.bodies
        for resource in trace.ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    (span,) = [s for s in spans if s.trace_id.hex() == TRACE_ID]
    assert span.name == "GET /v1/accelerators/{accelerator_id}"
    values = {a.key: a.value for a in span.attributes}
    assert values["http.response.status_code"].int_value == 401
