"""What becomes of a predictor, its accelerator and its files when processes fork, end and die."""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from elastic_inference import EIPredictor
from elastic_inference.client import placement
from elastic_inference.client.embedded import EmbeddedOptions
from elastic_inference.deadline import Deadline
from elastic_inference.errors import PredictorClosed, SignatureNotFound
from elastic_inference.testing import start_accelerator, write_model
from elastic_inference.testing.accelerator import launch, read_ready_line
from tests.integration.small_models import NUM_INPUTS, expected, write_saved_model
from tests.waiting import read_line, wait_until

ROOT = Path(__file__).resolve().parents[2]
FRAME = np.zeros((1, 4, 4, 3), np.uint8)
START = """
import os, sys, threading, numpy as np
from elastic_inference import EIPredictor
from tests.integration.small_models import expected
X = np.ones((3, 4), np.float32)
def check(outputs):
    assert np.allclose(outputs["outputs"], expected(7, "serving_default", X)["outputs"], rtol=1e-4), outputs
def in_child(work, leave):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    leave(0)
predictor = EIPredictor(sys.argv[1])
check(predictor({"x": X}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saved_model(tmp_path_factory.mktemp("models") / "seven", 7)


def run(code: str, model: Path) -> str:
    """Run START and `code` in an interpreter of its own; what it printed. The time-out is what tells a hang."""
    done = subprocess.run(
        [sys.executable, "-c", START + code, str(model)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_forked_child_goes_on_and_leaves_the_parents_accelerator(leave: str, model: Path) -> None:
    code = f"""
check(predictor.submit({{"x": X}}).result())  # so that there are threads, which the child will not have
def work():
    check(predictor({{"x": X}}))
    check(predictor.submit({{"x": X}}).result())
    for outputs in predictor.map([{{"x": X}}] * 5):
        check(outputs)
    predictor.close()
assert in_child(work, {leave}) == 0
check(predictor({{"x": X}}))
check(predictor.submit({{"x": X}}).result())
"""
    run(code, model)


def test_forks_while_other_threads_call(model: Path) -> None:
    code = """
is_over = threading.Event()
def call():
    while not is_over.is_set():
        check(predictor({"x": X}))
        check(predictor.submit({"x": X}).result())
threads = [threading.Thread(target=call) for _ in range(6)]
for thread in threads: thread.start()
def work():
    check(predictor({"x": X}))
    check(predictor.submit({"x": X}).result())
    with EIPredictor(sys.argv[1], "shifted") as other:  # an accelerator of the child's own
        assert other({"x": X})["outputs"].shape == (3, 3)
try:
    assert [in_child(work, os._exit) for _ in range(5)] == [0] * 5
finally:
    is_over.set()
    for thread in threads: thread.join()
check(predictor({"x": X}))
"""
    run(code, model)


def test_a_pool_of_forked_processes(model: Path) -> None:
    code = """
import multiprocessing
def work(number):
    x = np.full((1, 4), number, np.float32)
    wanted = expected(7, "serving_default", x)["outputs"]
    return bool(np.allclose(predictor({"x": x})["outputs"], wanted, rtol=1e-4))
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(work, range(60)) == [True] * 60
check(predictor({"x": X}))
"""
    run(code, model)


def test_in_process_a_forked_child_is_told_so_at_once(model: Path) -> None:
    code = """
local = EIPredictor(sys.argv[1], use_ei=False, engine="openvino")
check(local({"x": X}))
def refused(work):
    try:
        work()
    except RuntimeError as error:
        assert "fork" in str(error), error
    else:
        raise AssertionError("no error")
def work():
    refused(lambda: local({"x": X}))
    refused(lambda: EIPredictor(sys.argv[1], use_ei=False, engine="openvino"))
    check(predictor({"x": X}))  # on the accelerator it goes on
assert in_child(work, sys.exit) == 0
check(local({"x": X}))
"""
    run(code, model)


def test_a_child_that_outlives_the_accelerator_is_told_so(model: Path) -> None:
    code = """
read, write = os.pipe()
def work():
    os.close(write)
    assert os.read(read, 1) == b""  # until the parent has closed its end, after the predictor
    try:
        predictor({"x": X})
    except ConnectionError as error:
        assert "has ended with the process that started it" in str(error), error
    else:
        raise AssertionError("no error")
pid = os.fork()
if not pid:
    try:
        work()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
predictor.close()
os.close(write)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    run(code, model)


SAY_WHERE = """
import psutil
print([p.pid for p in psutil.Process().children()][0], predictor.report.address.removeprefix("unix:"), flush=True)
"""


@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise SystemExit(0)",
        "os._exit(0)",
        "predictor.map([{'x': X}] * 9).__next__()",
        "sys.modules['kept'] = predictor",
        "threading.Thread(target=lambda: [predictor({'x': X}) for _ in range(50)]).start()",
    ],
)
def test_a_program_that_ends_without_close_leaves_nothing(end: str, model: Path) -> None:
    pid, socket_path = run(SAY_WHERE + end, model).split()
    wait_until(lambda: not psutil.pid_exists(int(pid)))
    wait_until(lambda: not Path(socket_path).parent.exists())


def test_a_killed_client_leaves_neither_process_nor_file(model: Path) -> None:
    # Large inputs, so that shared memory is in use at every moment.
    code = SAY_WHERE + "X = np.ones((40000, 4), np.float32)\nwhile True: predictor({'x': X})"
    client = subprocess.Popen(
        [sys.executable, "-c", START + code, str(model)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert client.stdout is not None
    with client.stdout:
        pid, socket_path = read_line(client).split()
    accelerator = psutil.Process(int(pid))
    # As soon as both have it mapped its name goes; who is killed before that leaves it to the next client.
    maps = Path(f"/proc/{accelerator.pid}/maps")
    wait_until(lambda: re.search(r"/elastic-inference-\S+ \(deleted\)", maps.read_text()), "its region")
    client.send_signal(signal.SIGKILL)
    client.wait(30)
    wait_until(lambda: not psutil.pid_exists(int(pid)))
    assert not Path(socket_path).parent.exists()
    assert not list(Path("/dev/shm").glob(f"elastic-inference-{client.pid}-*"))


def test_a_constructor_that_raises_leaves_nothing(model: Path) -> None:
    code = """
import psutil, tempfile
from pathlib import Path
predictor.close()
def nothing_is_left():
    return not psutil.Process().children() and not list(Path(tempfile.gettempdir()).iterdir())
assert nothing_is_left()
for wrong in (
    {"signature_def_key": "nope"}, {"tags": "tpu"}, {"engine": "nope"}, {"precision": "nope"},
    {"warm_up": {"nope": [1]}}, {"input_names": {"a": "nope:0"}, "output_names": {"b": "sum:0"}},
    {"progress": lambda sent, total: 1 / 0}, {"accelerator_id": 1},
):
    try:
        EIPredictor(sys.argv[1], **wrong)
    except Exception as error:
        assert nothing_is_left(), wrong
    else:
        raise AssertionError(wrong)
"""
    folder = model.parent / "temporary"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + code, str(model)],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr.count("ResourceWarning")) == (0, 0), done.stderr


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model of the testing engine that takes 50 s, on embedded accelerators that have that engine."""
    monkeypatch.setattr(
        placement.embedded,
        "EmbeddedOptions",
        lambda **o: EmbeddedOptions(**o, module="elastic_inference.testing"),
    )
    return write_model(tmp_path / "slow.testing", wait_seconds=50)


def wait_for_service(predictor: EIPredictor) -> None:
    """Wait until a request is being computed."""

    def num_running() -> bool:
        with predictor._model._pool.connection(Deadline(10.0)) as connection:  # type: ignore[attr-defined]
            statistics = connection.call("GET", "/v2/accelerator")
        return bool(statistics["queue"]["num_running"])

    wait_until(num_running)


def test_close_during_a_call_ends_the_call_with_a_clear_error(slow: Path) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            predictor({"inputs": FRAME})
        except Exception as error:
            errors.append(error)

    predictor = EIPredictor(slow, warm_up=False)
    thread = threading.Thread(target=call)
    thread.start()
    wait_for_service(predictor)
    predictor.close()
    thread.join(20)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [PredictorClosed]
    assert not Path(predictor.report.address.removeprefix("unix:")).parent.exists()


def test_use_after_close_raises_and_closing_twice_is_fine(model: Path) -> None:
    with EIPredictor(model) as predictor:
        results = predictor.map([{"x": np.ones((1, NUM_INPUTS))}] * 9)
        next(results)
    predictor.close()
    for use in (predictor, predictor.submit, predictor.map, predictor.predict_timed):
        with pytest.raises(PredictorClosed, match="construct another"):
            use({"x": np.ones((1, NUM_INPUTS))})  # type: ignore[operator]
    with pytest.raises(PredictorClosed):
        list(results)
    assert "closed" in repr(predictor)


def test_pickling_says_what_to_do_instead(model: Path) -> None:
    with EIPredictor(model) as predictor, pytest.raises(TypeError, match="constructor's arguments"):
        pickle.dumps(predictor)


def test_calls_survive_a_restart_of_the_accelerator(model: Path) -> None:
    with start_accelerator(("unix:{folder}/a.sock",)) as running:
        x = np.ones((2, NUM_INPUTS), np.float32)
        wanted = expected(7, "serving_default", x)["outputs"]
        with EIPredictor(model, address=running.address, token=running.token) as predictor:
            predictor({"x": x})
            running.process.kill()
            running.process.wait(30)
            future = predictor.submit({"x": x})  # finds nobody, and tries again
            again = launch(running.config)
            try:
                read_ready_line(again)
                np.testing.assert_allclose(future.result(30)["outputs"], wanted, rtol=1e-4)
                np.testing.assert_allclose(predictor({"x": x})["outputs"], wanted, rtol=1e-4)
            finally:
                again.terminate()
                again.wait(30)
                assert again.stdout is not None
                again.stdout.close()


def test_a_constructor_error_names_the_signatures(model: Path) -> None:
    with pytest.raises(SignatureNotFound, match="'both', 'serving_default', 'shifted'"):
        EIPredictor(model, "nope")


def test_an_accelerator_ends_by_a_signal_that_another_of_its_threads_gets(model: Path) -> None:
    # The kernel may choose any thread; it was the main one nearly always, and else nothing happened.
    tgkill = 234 if os.uname().machine == "x86_64" else 131
    with start_accelerator() as running, EIPredictor(model, address=running.address, token=running.token):
        other = next(t.id for t in psutil.Process(running.pid).threads() if t.id != running.pid)
        assert ctypes.CDLL(None).syscall(tgkill, running.pid, other, signal.SIGTERM) == 0
        assert running.process.wait(30) == 0
