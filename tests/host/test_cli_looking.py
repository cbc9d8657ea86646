"""`ei top`, `ei logs` and `ei host stop` against a real host."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from elastic_inference.cli import main
from elastic_inference.client.host_session import Attachment, HostSession
from tests.host.conftest import RUN_EI, HostProcess
from tests.host.support import predictor, wait_until
from tests.host.tenants import take_in

Run = Callable[..., str]
_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def host(start_host: Callable[..., HostProcess]) -> HostProcess:
    return start_host()


@pytest.fixture
def environment(host: HostProcess) -> dict[str, str]:
    return {"EI_HOST": host.url, "EI_STATE_DIR": str(host.state_dir)}


@pytest.fixture
def run(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run_one(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run_one


@pytest.fixture
def used(host: HostProcess, model: Path) -> Attachment:
    """An accelerator that answered a request, which the board has seen."""
    session = host.session()
    attached = session.attach("cpu.quarter", name="mine", lease_seconds=None)
    with predictor(attached.endpoints[0], attached.token, model) as predict:
        predict({"x": [1.0]})

    def is_seen() -> bool:
        rows = session.request("GET", "/v1/board")["accelerators"]
        return bool(rows and rows[0]["models"] and rows[0]["p99"])

    wait_until(is_seen, "the board to see it")
    return attached


def test_top_in_text_and_in_json(run: Run, used: Attachment) -> None:
    text = run("top")
    assert re.search(r"^cpu:0 +share 25% granted", text, re.MULTILINE)
    row = next(line for line in text.splitlines() if line.startswith("mine"))
    assert re.search(r"- +cpu.quarter +ready +cpu:0", row)
    assert "openvino fp32" in row
    assert re.search(r"attached +mine  cpu.quarter on cpu:0", text)
    assert "TENANT  ACCELERATORS" not in text
    board = json.loads(run("top", "--json"))
    assert board["accelerators"][0]["accelerator_id"] == used.accelerator_id


def test_top_shows_tenants_with_their_limits(run: Run, host: HostProcess) -> None:
    quota = {"max_accelerators": 3, "requests_per_second": 20, "max_share": 0.5}
    vision = take_in(host.session(), "vision", quota=quota, budget={"usd_per_month": "7"})
    HostSession(host.url, vision).attach("cpu.quarter", name="mine", lease_seconds=None)

    def lines() -> list[list[str]]:
        return [re.split(r"  +", line.strip()) for line in run("top").splitlines()]

    def is_seen() -> bool:
        return any(line[:4] == ["vision", "1 of 3", "0", "25 of 50"] for line in lines())

    wait_until(is_seen, "the board to see it")
    (tenant,) = [line for line in lines() if line[0] == "vision"]
    assert [tenant[5], tenant[7]] == ["0 of 20", "enough"]
    assert re.fullmatch(r"\d\.\d{4,} of 7", tenant[6])
    assert any(line[:3] == ["mine", "vision", "cpu.quarter"] for line in lines())


@pytest.mark.usefixtures("used")
def test_top_at_a_terminal_is_shown_anew_until_ctrl_c(environment: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", RUN_EI, "top"]
    options = {"stdin": theirs, "stdout": theirs, "stderr": subprocess.PIPE, "start_new_session": True}
    terminal = {"TERM": "xterm", "COLUMNS": "250", "LINES": "40"}
    with subprocess.Popen(command, env={**os.environ, **environment, **terminal}, **options) as process:  # type: ignore[call-overload]
        os.close(theirs)
        seen = ""

        def shows_twice() -> bool:
            nonlocal seen
            seen += _STYLES.sub("", os.read(ours, 65536).decode(errors="replace"))
            return len(re.findall(r"as of \d\d:\d\d:\d\d", seen)) >= 2

        wait_until(shows_twice, "two looks")
        assert "cpu.quarter" in seen
        process.send_signal(signal.SIGINT)
        # Whoever does not read what it writes at its end keeps it from ending.
        threading.Thread(target=_read_all, args=(ours,), daemon=True).start()
        assert process.wait(60) == 130


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except OSError:  # a terminal whose other end is closed
        os.close(fd)


def test_logs_and_those_that_follow(
    run: Run, used: Attachment, host: HostProcess, environment: dict[str, str]
) -> None:
    text = run("logs", "mine")
    assert all(json.loads(line)["time"] for line in text.splitlines())
    assert json.loads(run("logs", "mine", "--json"))["text"] == text
    assert len(run("logs", "mine", "--tail", "300")) <= 300
    assert "no accelerator" in run("logs", "nobody", code=6)
    command = [sys.executable, "-c", RUN_EI, "logs", "-f", used.accelerator_id]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["time"]
        host.session().detach(used.accelerator_id, drain_seconds=0)
        _, said = process.communicate(timeout=60)
    assert said == "the accelerator is detached\n"
    assert process.returncode == 0


def test_stop_waits_for_the_end_and_needs_the_operators_token(
    run: Run, used: Attachment, host: HostProcess
) -> None:
    assert "operator" in run("host", "stop", "--token", used.token, code=4)
    assert HostSession(host.url, used.token).heartbeat(used.accelerator_id) is None
    assert run("host", "stop") == "the host has ended; its accelerators end with it\n"
    assert host.process.wait(0) == 0


def test_stop_may_leave_accelerators_running(
    run: Run, used: Attachment, model: Path, start_host: Callable[..., HostProcess]
) -> None:
    assert "run on" in run("host", "stop", "--keep-running")
    with predictor(used.endpoints[0], used.token, model) as predict:
        assert predict({"x": [2.0]})["y"].tolist() == [4.0]
        again = start_host()
        wait_until(
            lambda: again.session().request("GET", "/v1/accelerators")[0]["state"] == "ready", "adoption"
        )
