"""A tenant's calls while somebody looks on: p99 with the page open and the host scraped each second, and without."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tests.integration.tiny_model import write_doubling_graph

from benchmarks.common import ROOT, Row
from benchmarks.page.rows import Running, running
from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.percentiles import percentile

_TYPES = '["small"]\nmemory = "512MiB"\ndevice_share = 0.5\nmay_burst = true\n'
_NAMES = {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}}
_NUM_VALUES = 256  # 1 KB
_NO_LIMIT_HERE = 1e6  # requests a second: in force, and never reached
# Whoever looks on is a process of its own, as a browser and Prometheus are.
_ONLOOKER = """
import http.client, socket, sys, threading, time
address, token = sys.argv[1], sys.argv[2]
host, port = address.split(":")
stream = socket.create_connection((host, int(port)))
stream.sendall(f"GET /page/stream/events HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {token}\\r\\n\\r\\n".encode())
def read():
    while stream.recv(1 << 20):
        pass
threading.Thread(target=read, daemon=True).start()
while True:
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
    assert b"elastic_inference" in connection.getresponse().read()
    connection.close()
    print("scraped", flush=True)
    time.sleep(1)
"""


def calls(num_pairs: int, seconds: float) -> list[Row]:
    """Rounds of calls with and without onlookers in turn; then with and without a limit of requests a second."""
    with tempfile.TemporaryDirectory(prefix="ei-calls-") as folder, running(_command) as host:
        model = write_doubling_graph(Path(folder) / "doubling.pb")
        session = HostSession(host.url, host.token)
        tokens = {name: _tenant(session, name) for name in ("limited", "free")}
        with (
            _predictor(host, tokens["limited"], model) as limited,
            _predictor(host, tokens["free"], model) as free,
        ):
            looked_at = _in_turn(num_pairs, seconds, free, free, lambda: _onlookers(host))
            by_limit = _in_turn(num_pairs, seconds, free, limited, contextlib.nullcontext)
    return [
        *_rows("1 KB calls, the page open and scraped each second : without", looked_at, 0.99, 1.02, 1.0),
        *_rows("1 KB calls, with a limit of requests a second : without", by_limit, 0.5, 1.02, 1.0),
    ]


def _command(state_dir: Path) -> list[str]:
    types = state_dir.parent / "types.toml"
    types.write_text(_TYPES)
    return [
        sys.executable, "-m", "elastic_inference", "host", "start", "--state-dir", str(state_dir),
        "--listen", "127.0.0.1:0", "--ports", "18600-18700", "--types", str(types),
    ]  # fmt: skip


def _tenant(session: HostSession, name: str) -> str:
    quota = {"requests_per_second": _NO_LIMIT_HERE if name == "limited" else None}
    session.request("POST", "/v1/tenants", {"name": name, "quota": quota})
    return str(session.request("POST", f"/v1/tenants/{name}/tokens", {})["token"])


def _predictor(host: Running, token: str, model: Path) -> EIPredictor:
    place = Accelerator.attach("small", host=host.url, token=token)
    return EIPredictor(str(model), accelerator=place, use_shared_memory=False, **_NAMES)


@contextlib.contextmanager
def _onlookers(host: Running) -> Iterator[None]:
    command = [sys.executable, "-c", _ONLOOKER, host.url.removeprefix("http://"), host.token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "scraped\n":
            raise SystemExit("the onlooker could not scrape")
        try:
            yield
        finally:
            process.terminate()


Times = tuple[list[float], list[float]]
Around = Callable[[], contextlib.AbstractContextManager[None]]


def _in_turn(
    num_pairs: int, seconds: float, without: EIPredictor, changed: EIPredictor, around: Around
) -> list[Times]:
    """Return for each pair of rounds the times of its calls: without what is changed, and with it."""
    pairs = []
    for number in range(num_pairs):
        times: dict[bool, list[float]] = {}
        for is_changed in (False, True) if number % 2 == 0 else (True, False):
            with around() if is_changed else contextlib.nullcontext():
                times[is_changed] = _time(changed if is_changed else without, seconds)
        pairs.append((times[False], times[True]))
    return pairs


def _time(predict: EIPredictor, seconds: float) -> list[float]:
    feed = {"x": np.arange(_NUM_VALUES, dtype=np.int32)}
    for _ in range(50):
        predict(feed)
    times, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        predict(feed)
        times.append(time.perf_counter() - began)
    return times


def _rows(measure: str, pairs: list[Times], rank: float, must: float, aim: float) -> list[Row]:
    """One row: the median over pairs of the ratio of one percentile, its spread, and the figures themselves."""
    name = f"p{rank * 100:g}"
    ratios = sorted(percentile(after, rank) / percentile(before, rank) for before, after in pairs)
    before, after = (statistics.median(percentile(pair[i], rank) * 1e6 for pair in pairs) for i in (0, 1))
    ratio = statistics.median(ratios)
    num = sum(len(each) for pair in pairs for each in pair)
    said = f"{after:.0f} : {before:.0f} us, ratio {ratio:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    return [
        Row(f"{measure}, {name}, {len(pairs)} pairs of rounds, n {num}", said, "", ratio, must, aim),
    ]
