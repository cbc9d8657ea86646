"""The private accelerator: shared, gone with its program however that ends, and told by name when it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from elastic_inference.client import embedded
from elastic_inference.client.connection import ConnectionPool
from elastic_inference.client.embedded import EmbeddedAccelerator, EmbeddedOptions
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.remote import RemoteModel
from elastic_inference.deadline import Deadline
from elastic_inference.errors import ConnectionLost, EngineNotAvailable
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.testing import write_model
from tests.waiting import wait_until

OPTIONS = EmbeddedOptions(module="elastic_inference.testing")
VECTOR = {"x": ("uint8", (None,))}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: ARG001  # pytest's comes first
    """Where embedded accelerators make their folders; empty again after each test, and so is shared memory."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own is too long for a socket
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = regions()
    yield path
    assert list(path.iterdir()) == []
    path.rmdir()
    assert regions() <= before


def regions() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith(f"elastic-inference-{os.getpid()}-")}


def remote(accelerator: EmbeddedAccelerator, model: Path) -> RemoteModel:
    package = ModelPackage.read(model)
    pool = ConnectionPool(accelerator.address)
    options = LoadOptions(engine="testing")
    return RemoteModel(pool, package, SignatureRequest(), options, explain=accelerator.explain)


def pid_of(accelerator: EmbeddedAccelerator) -> int:
    assert accelerator._process is not None
    return accelerator._process.pid


def test_predictors_with_equal_options_share_one_which_ends_with_the_last() -> None:
    first = embedded.acquire(OPTIONS)
    assert embedded.acquire(OPTIONS) is first
    other = embedded.acquire(EmbeddedOptions(num_threads=1, module=OPTIONS.module))
    assert other is not first
    pid = pid_of(first)
    embedded.release(EmbeddedOptions(num_threads=1, module=OPTIONS.module), other)
    embedded.release(OPTIONS, first)
    assert psutil.pid_exists(pid)
    embedded.release(OPTIONS, first)
    assert not psutil.pid_exists(pid)


def test_it_is_for_this_user_alone(folder: Path) -> None:
    accelerator = embedded.acquire(OPTIONS)
    assert [path.stat().st_mode & 0o077 for path in folder.iterdir()] == [0]
    embedded.release(OPTIONS, accelerator)


def test_a_temporary_folder_too_long_for_a_socket_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ("a" * 90)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("a" * 90)))
    embedded.release(OPTIONS, embedded.acquire(OPTIONS))


def test_a_killed_accelerator_is_told_by_its_signal_and_replaced(tmp_path: Path) -> None:
    accelerator = embedded.acquire(OPTIONS)
    model = remote(accelerator, write_model(tmp_path / "m.testing", inputs=VECTOR, outputs=VECTOR))
    model.load()
    large = np.arange(100_000, dtype=np.uint8)  # through shared memory
    np.testing.assert_array_equal(model.predict({"x": large}, Deadline(30.0)).outputs["x"], large)
    os.kill(pid_of(accelerator), signal.SIGKILL)
    with pytest.raises(ConnectionLost, match="SIGKILL"):
        model.predict({"x": large}, Deadline(30.0))
    model.close()
    another = embedded.acquire(OPTIONS)
    assert another is not accelerator
    assert another.is_running()
    embedded.release(OPTIONS, accelerator)
    embedded.release(OPTIONS, another)


def test_an_accelerator_that_dies_of_a_model_is_told_so(tmp_path: Path) -> None:
    accelerator = embedded.acquire(OPTIONS)
    model = remote(accelerator, write_model(tmp_path / "m.testing", inputs=VECTOR, wait_seconds=30.0))
    pool = ConnectionPool(accelerator.address)

    def kill_while_it_loads() -> None:
        def has_models() -> bool:
            with pool.connection(Deadline(30.0)) as connection:
                return bool(connection.call("GET", "/v2/accelerator")["models"])

        wait_until(has_models)
        os.kill(pid_of(accelerator), signal.SIGKILL)

    killer = threading.Thread(target=kill_while_it_loads)
    killer.start()
    with pytest.raises(ConnectionLost, match="SIGKILL"):
        model.load()
    killer.join(30)
    pool.close()
    model.close()
    embedded.release(OPTIONS, accelerator)


def test_a_start_that_fails_says_what_to_install_and_leaves_nothing() -> None:
    with pytest.raises(EngineNotAvailable, match="pip install"):
        embedded.acquire(EmbeddedOptions(module="elastic_inference.nothing_of_this_name"))


def test_closing_twice_and_after_the_end_is_fine() -> None:
    accelerator = EmbeddedAccelerator(OPTIONS)
    accelerator.start()
    os.kill(pid_of(accelerator), signal.SIGKILL)
    accelerator.close()
    accelerator.close()
    assert not accelerator.is_running()
    assert isinstance(accelerator.explain(), ConnectionLost)


ENDS = {
    "returns": "",
    "raises": "raise RuntimeError('mine')",
    "exits": "sys.exit(3)",
    "forked": "child = os.fork()\nif child == 0:\n    sys.exit(0)\nos.waitpid(child, 0)\nassert kept.is_running()",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "is interrupted": "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)",
    "is terminated": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_nothing_is_left_however_the_program_ends(end: str, folder: Path) -> None:
    program = (
        "import atexit, os, signal, sys, time\n"
        "from elastic_inference.client import embedded\n"
        f"options = embedded.EmbeddedOptions(module={OPTIONS.module!r})\n"
        "kept = embedded.acquire(options)\n"
        "atexit.register(embedded.release, options, kept)\n"
        "print(kept._process.pid, flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program + end], stdout=subprocess.PIPE, text=True, check=False, timeout=120
    )
    pid = int(ended.stdout)
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: not list(folder.iterdir()))
