"""The rows: the host's CPU by how many look on, a browser's heap, answers beside listeners and one that hangs."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import ROOT, Row
from elastic_inference.client.host_session import HostSession
from elastic_inference.percentiles import percentile

_SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_GARBAGE_ROUNDS = 3


@dataclass(frozen=True)
class Running:
    """A host in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    token: str

    def cpu_seconds(self) -> float:
        """Of the host's process alone, without its children."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextlib.contextmanager
def running(command: Callable[[Path], list[str]]) -> Iterator[Running]:
    """Start a host in a state directory of its own; its first line ends with its URL."""
    parent = Path(tempfile.mkdtemp(prefix="ei-page-"))
    parent.chmod(0o755)
    state_dir = parent / "state"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with open(parent / "log", "w") as log:
        process = subprocess.Popen(
            command(state_dir), stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=ROOT
        )
    try:
        assert process.stdout is not None
        url = next((word for word in process.stdout.readline().split() if word.startswith("http")), "")
        if not url:
            raise SystemExit(f"the host did not start: {(parent / 'log').read_text()[-2000:]}")
        yield Running(process, url, (state_dir / "operator.token").read_text().strip())
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(parent, ignore_errors=True)


def crowded(num: int) -> contextlib.AbstractContextManager[Running]:
    """Start a host with fake accelerators."""
    return running(lambda path: [sys.executable, "-m", "benchmarks.page.crowded_host", str(path), str(num)])


@contextlib.contextmanager
def listeners(host: Running, num: int) -> Iterator[list[int]]:
    """Open streams of the page and read them as fast as they come; gives a list whose one entry is bytes received."""
    received, is_over = [0], threading.Event()
    address = host.url.removeprefix("http://").rsplit(":", 1)

    def read(sock: socket.socket) -> None:
        while not is_over.is_set():
            data = sock.recv(1 << 20)
            if not data:
                return
            received[0] += len(data)

    socks = []
    for _ in range(num):
        sock = socket.create_connection((address[0], int(address[1])))
        head = f"GET /page/stream/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {host.token}\r\n\r\n"
        sock.sendall(head.encode())
        socks.append(sock)
    threads = [threading.Thread(target=read, args=(sock,), daemon=True) for sock in socks]
    for thread in threads:
        thread.start()
    try:
        yield received
    finally:
        is_over.set()
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread, sock in zip(threads, socks, strict=True):
            thread.join()
            sock.close()


def _row(
    measure: str, figure: str, ratio: float | None = None, must: float | None = None, aim: float | None = None
) -> Row:
    return Row(measure, figure, "", ratio, must, aim)


def cpu(num_accelerators: int, seconds: float) -> list[Row]:
    """The host's CPU seconds a second, of one core: nobody looks on, one browser, 50."""
    cores = psutil.cpu_count() or 1
    shares: dict[int, float] = {}
    sent = {}
    with crowded(num_accelerators) as host:
        time.sleep(5)
        for num in (0, 1, 50):
            with listeners(host, num) as received:
                time.sleep(3)
                before, bytes_before, at = host.cpu_seconds(), received[0], time.monotonic()
                time.sleep(seconds)
                spent = time.monotonic() - at
                shares[num] = (host.cpu_seconds() - before) / spent
                sent[num] = (received[0] - bytes_before) / spent
    rows = [
        _row(
            f"host with {num_accelerators} accelerators (fake), {num} listeners: CPU of the machine's {cores} cores",
            f"{shares[num] / cores:.1%} ({shares[num]:.3f} of a core), {sent[num] / 1024:.0f} KiB/s sent",
        )
        for num in shares
    ]
    for num in (1, 50):
        added = (shares[num] - shares[0]) / cores
        must, aim = (0.05, 0.02) if num == 1 else (None, None)
        rows.append(_row(f"added by {num} listeners", f"{added:.2%}", ratio=added, must=must, aim=aim))
    return rows


def heap(num_accelerators: int, minutes: int) -> list[Row]:
    """A browser's heap after collecting garbage, minute by minute, and its first paint."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        return [_row("browser", "not measured: there is no chromium")]
    with crowded(num_accelerators) as host, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=_SWITCHES)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(host.url)
        page.fill("#token", host.token)
        page.click("button")
        page.wait_for_selector("#accelerators tbody tr")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        rows_at = page.evaluate("performance.now()")
        session = page.context.new_cdp_session(page)
        time.sleep(20)
        sizes = [_heap_bytes(session)]
        for _ in range(minutes):
            time.sleep(60)
            sizes.append(_heap_bytes(session))
        nodes = page.evaluate("document.querySelectorAll('*').length")
        browser.close()
    growth = sizes[-1] / sizes[0]
    said = ", ".join(f"{size / (1 << 20):.2f}" for size in sizes)
    return [
        _row(
            f"first paint, and rows of {num_accelerators} accelerators shown",
            f"{paint:.0f} ms, {rows_at:.0f} ms",
        ),
        _row(f"heap after 20 s and then each minute, MiB; {nodes} elements", said),
        _row(f"heap after {minutes} min : after 20 s", f"{growth:.3f}", ratio=growth, must=1.1, aim=1.02),
    ]


def _heap_bytes(session: Any) -> float:
    for _ in range(_GARBAGE_ROUNDS):
        session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["JSHeapUsedSize"])


def answers(rounds: int, num_listeners: int = 50) -> list[Row]:
    """p99 of health, heartbeats and attach on a real host, alone and beside listeners and an accelerator that hangs."""

    def command(state_dir: Path) -> list[str]:
        return [
            sys.executable, "-m", "elastic_inference", "host", "start", "--state-dir", str(state_dir),
            "--listen", "127.0.0.1:0", "--ports", "18600-18700", "--types", str(state_dir.parent / "types.toml"),
            "--spares", "4",
        ]  # fmt: skip

    def with_types(state_dir: Path) -> list[str]:
        text = '["small"]\nmemory = "256MiB"\ndevice_share = 0.05\n'
        (state_dir.parent / "types.toml").write_text(text)
        return command(state_dir)

    with running(with_types) as host:
        session = HostSession(host.url, host.token)
        kept, hung = (session.attach("small", lease_seconds=None) for _ in range(2))
        alone = _time(host, session, kept.accelerator_id, rounds)
        pid = next(
            child.pid
            for child in psutil.Process(host.process.pid).children()
            if hung.accelerator_id in _socket_names(child)
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            with listeners(host, num_listeners):
                time.sleep(5)
                beside = _time(host, session, kept.accelerator_id, rounds)
        finally:
            os.kill(pid, signal.SIGCONT)
    rows = []
    for name in alone:
        one, many = (percentile(times[name], 0.99) * 1000 for times in (alone, beside))
        middle = percentile(beside[name], 0.5) * 1000
        rows.append(
            _row(
                f"{name}, {num_listeners} listeners, one hung: p50, p99 (p99 alone) ms, n {len(beside[name])}",
                f"{middle:.1f}, {many:.1f} ({one:.1f})",
                ratio=many / 1000,
                must=0.2,
                aim=0.05,
            )
        )
    return rows


def _socket_names(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(str(each.laddr) for each in process.net_connections("unix"))
    return ""


def _time(host: Running, session: HostSession, accelerator_id: str, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"health": [], "heartbeat": [], "attach": []}
    for number in range(rounds):
        times["health"].append(_seconds(lambda: _request(host, "GET", "/v1/health")))
        path = f"/v1/accelerators/{accelerator_id}/heartbeat"
        times["heartbeat"].append(_seconds(lambda path=path: _request(host, "POST", path)))  # type: ignore[misc]
        if number % 20 == 0:
            began = time.monotonic()
            attached = session.attach("small", lease_seconds=None)
            times["attach"].append(time.monotonic() - began)
            session.detach(attached.accelerator_id, drain_seconds=0)
        time.sleep(0.02)
    return times


def _request(host: Running, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Authorization": f"Bearer {host.token}"})
        assert connection.getresponse().status == 200


def _seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
