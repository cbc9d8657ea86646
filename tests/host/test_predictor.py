"""EIPredictor that attaches at a host by itself, and what it leaves when it goes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import AcceleratorNotFound, CapacityExceeded, InvalidInput, PermissionDenied
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.host.support import wait_until
from tests.waiting import read_line

NAMES = {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}}


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        yield start()


@pytest.fixture
def operator(host: HostProcess) -> Iterator[HostSession]:
    session = host.session()
    yield session
    for accelerator in session.request("GET", "/v1/accelerators"):
        session.detach(accelerator["accelerator_id"], drain_seconds=0)


def attached_ids(session: HostSession) -> list[str]:
    return [a["accelerator_id"] for a in session.request("GET", "/v1/accelerators")]


def test_a_predictor_attaches_and_detaches_by_itself(operator: HostSession, model: Path) -> None:
    with EIPredictor(
        model, **NAMES, host=operator.url, token=operator.token, accelerator_type="cpu.quarter"
    ) as predict:
        assert predict({"x": np.array([4], np.int32)})["y"].tolist() == [8]
        assert attached_ids(operator) == [predict.report.accelerator_id]
        assert predict.report.accelerator_type == "cpu.quarter"
        (shown,) = operator.request("GET", "/v1/accelerators")
        assert 0 < shown["lease_left_seconds"] <= shown["lease_seconds"]
    assert attached_ids(operator) == []


def test_an_attached_accelerator_is_found_by_its_name_and_by_the_beginning_of_its_id(
    operator: HostSession, model: Path
) -> None:
    attached = operator.attach("cpu.quarter", name="mybox", lease_seconds=None)
    for wanted in ("mybox", attached.accelerator_id[:10], attached.accelerator_id):
        place = Accelerator.of_id(wanted, host=operator.url, token=attached.token)
        with EIPredictor(model, **NAMES, accelerator=place) as predict:
            assert predict.report.accelerator_id == attached.accelerator_id
            assert predict({"x": np.array([4], np.int32)})["y"].tolist() == [8]
    for wanted in ("box", "eia-"):
        with pytest.raises(AcceleratorNotFound, match=f"no accelerator has the name '{wanted}'"):
            EIPredictor(
                model, **NAMES, accelerator=Accelerator.of_id(wanted, host=operator.url, token=attached.token)
            )


def test_a_predictor_takes_an_attached_accelerator_from_the_environment_and_leaves_it(
    operator: HostSession, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = operator.attach("cpu.quarter", lease_seconds=None)
    monkeypatch.setenv("EI_HOST", operator.url)
    monkeypatch.setenv("EI_ACCELERATOR", attached.accelerator_id)
    monkeypatch.setenv("EI_TOKEN", attached.token)
    with EIPredictor(model, **NAMES) as predict:
        assert predict({"x": np.array([4], np.int32)})["y"].tolist() == [8]
        assert predict.report.accelerator_id == attached.accelerator_id
    assert attached_ids(operator) == [attached.accelerator_id]


def test_a_model_that_cannot_be_loaded_leaves_no_accelerator(operator: HostSession, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pb"
    broken.write_bytes(b"not a graph")
    with pytest.raises(OSError, match="graph"):
        EIPredictor(
            str(broken), **NAMES, host=operator.url, token=operator.token, accelerator_type="cpu.quarter"
        )
    assert attached_ids(operator) == []


def test_a_program_that_is_killed_loses_its_accelerator_with_its_lease(operator: HostSession) -> None:
    program = (
        "import sys, time\n"
        "from elastic_inference import Accelerator\n"
        "from elastic_inference.client import hosted\n"
        f"h = hosted.attach(Accelerator.attach('cpu.quarter', host={operator.url!r}, token=sys.argv[1], "
        "lease_seconds=1.5))\n"
        "print(h.attachment.accelerator_id, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(operator.token)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        assert process.stdout is not None
        accelerator_id = read_line(process)
        # Longer than the lease: only heartbeats can have kept it.
        wait_until(
            lambda: operator.request("GET", "/v1/usage")[-1]["attached_hours"] * 3600 > 2.5,
            "heartbeats to keep it beyond its lease",
        )
        assert attached_ids(operator) == [accelerator_id]
        process.kill()
        wait_until(lambda: attached_ids(operator) == [], "the lease's end")


def test_a_predictor_whose_accelerator_is_detached_says_so(operator: HostSession, model: Path) -> None:
    with EIPredictor(
        model, **NAMES, host=operator.url, token=operator.token, accelerator_type="cpu.quarter"
    ) as predict:
        operator.detach(attached_ids(operator)[0])
        with pytest.raises(AcceleratorNotFound, match="no longer attached"):
            predict({"x": np.array([4], np.int32)})


def test_refusals_reach_the_caller(operator: HostSession, model: Path) -> None:
    with pytest.raises(CapacityExceeded, match="needs 4 FP32 TFLOPS"):
        EIPredictor(model, **NAMES, host=operator.url, token=operator.token, accelerator_type="eia1.xlarge")
    with pytest.raises(PermissionDenied):
        EIPredictor(model, **NAMES, host=operator.url, token="wrong", accelerator_type="cpu.quarter")
    with pytest.raises(InvalidInput, match="accelerator_id must be None"):
        EIPredictor(model, host=operator.url, accelerator_type="cpu.quarter", accelerator_id=0)
    with pytest.raises(AcceleratorNotFound, match="no accelerator is visible"):
        EIPredictor(model, host=operator.url, token=operator.token, accelerator_id=3)
