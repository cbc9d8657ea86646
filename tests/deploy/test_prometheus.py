"""Alert rules and dashboard against Debian's Prometheus and a real host: what they name exists, and gives data."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.client.host_session import HostSession
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.host.support import predictor, wait_until
from tests.integration.tiny_model import write_doubling_graph

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_METRIC = re.compile(r"elastic_inference_host_[a-z0-9_]+")
# Only where there is TLS.
NOT_EVERYWHERE = {"elastic_inference_host_certificate_ends_seconds"}


def panels() -> list[dict[str, Any]]:
    return list(json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"])


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    """A host with an accelerator that answered requests and refused one."""
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        types = state_dir.parent / "types.toml"
        types.write_text('["small"]\nmemory = "256MiB"\ndevice_share = 0.1\n')
        host = start("--types", str(types))
        mine = HostSession(host.url, host.operator_token).attach("small", name="mine", lease_seconds=None)
        model = write_doubling_graph(state_dir.parent / "m.pb")
        with predictor(mine.endpoints[0], mine.token, model) as predict:
            predict({"x": [1.0]})
            yield host


def metrics(host: HostProcess) -> str:
    return str(host.session().request("GET", "/metrics"))


def test_every_metric_of_rules_and_dashboard_is_one_of_the_hosts(host: HostProcess) -> None:
    exported = set(_METRIC.findall(metrics(host))) | NOT_EVERYWHERE
    for text in ((DEPLOY / "prometheus" / "alerts.yml").read_text(), "\n".join(expressions())):
        named = set(_METRIC.findall(text))
        assert named
        assert named - exported == set()


def test_metrics_tell_outcomes_latency_parts_names_and_version(host: HostProcess) -> None:
    text = metrics(host)
    assert re.search(r'requests_total\{[^}]*outcome="success"\} [1-9]', text)
    for part in ("total", "queue", "service", "wire"):
        assert re.search(rf'latency_seconds\{{[^}}]*part="{part}",percentile="p99"\}} ', text)
    assert re.search(r'accelerator_info\{[^}]*device="cpu:0",name="mine",tenant=""\} 1.0', text)
    assert re.search(r'build_info\{limits="[^"]+",version="[^"]+"\} 1.0', text)
    assert "draining 0.0" in text


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool of Debian's package prometheus")
    done = subprocess.run(
        [program, *arguments],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_rules() -> None:
    promtool("check", "rules", "alerts.yml")


def test_each_rule_fires_when_it_should_and_else_not() -> None:
    promtool("test", "rules", "alerts_test.yml")
    names = re.findall(r"alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yml").read_text())
    tested = re.findall(r"alertname: (\w+)", (DEPLOY / "prometheus" / "alerts_test.yml").read_text())
    assert set(names) == set(tested)


@pytest.mark.timeout(240)
def test_a_real_prometheus_has_data_for_every_panel(host: HostProcess, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs Debian's package prometheus")
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    shutil.copy(host.state_dir / "operator.token", tmp_path)
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:8500", host.url.removeprefix("http://")).replace(": 15s", ": 1s")
    (tmp_path / "prometheus.yml").write_text(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        program, "--config.file=prometheus.yml", f"--web.listen-address={address}", "--storage.tsdb.path=data",
        "--log.level=error",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            for expression in expressions():
                wait_until(lambda e=expression: has_data(address, e), expression)  # type: ignore[misc]
        finally:
            process.terminate()


def has_data(address: str, expression: str) -> bool:
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/query?{query}", timeout=10) as answer:
            return bool(json.load(answer)["data"]["result"])
    except OSError:  # it does not listen yet
        return False


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
