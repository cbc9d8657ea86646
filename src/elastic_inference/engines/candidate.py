"""One engine in one precision in a process of its own: it loads, answers and is timed beside others.

`python -m elastic_inference.engines.candidate` reads an Order in one line of JSON and says whether the model is loaded;
then a line for each sample that it is to answer or to be timed on. It waits for its turn, so that times compare.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference import interpreter
from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.errors import DeadlineExceeded, ElasticInferenceError, ModelError
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest

Arrays = dict[str, npt.NDArray[Any]]

MOST_SECONDS = 1800.0  # for one step; calibrating a large model takes minutes
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


@dataclass(frozen=True)
class Order:
    """What to load.

    Attributes:
        model: `ModelPackage.to_json()`.
        request: `SignatureRequest.to_json()`.
        engine: Which one loads it; `options["engine"]` is what was asked for, "auto" among it.
        options: Fields of EngineOptions, without `calibration` and `store`.
        store_dir: The candidate's own artifact store.
        calibration: Files with the arrays of one sample each, for int8.
        memory_limit_bytes: What the process may take; None: as much as whoever started it.
    """

    model: Mapping[str, Any]
    request: Mapping[str, Any]
    engine: str
    options: Mapping[str, Any]
    store_dir: str
    calibration: tuple[str, ...] = ()
    memory_limit_bytes: int | None = None

    def load(self) -> LoadedModel:
        """Load the model; raises what the engine raises."""
        if self.memory_limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (self.memory_limit_bytes, self.memory_limit_bytes))
        calibration = tuple(read_sample(path) for path in self.calibration)
        store = ArtifactStore.at(Path(self.store_dir))
        options = EngineOptions(**self.options, store=store, calibration=calibration)
        package, request = ModelPackage.from_json(self.model), SignatureRequest.from_json(self.request)
        return registry.engine_named(self.engine).load(package, request, options)


@dataclass(frozen=True)
class Told:
    """What a candidate says of itself once it is loaded.

    Attributes:
        subject: Engine, version and precision.
        precision: In which it computes, whatever was asked for.
    """

    subject: str
    precision: str
    num_threads: int
    signature: Signature
    notes: tuple[str, ...]


def write_sample(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the arrays of a sample or an answer to a file that only this user can read.

    As `numpy.savez` does, which takes no array that is called as one of its own arguments.
    """
    private = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(private, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for alias, array in arrays.items():
            with archive.open(f"{alias}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def read_sample(path: str | Path) -> Arrays:
    """Read what `write_sample` wrote; nothing is ever unpickled."""
    with np.load(path, allow_pickle=False) as stored:
        return {alias: stored[alias] for alias in stored.files}


class CandidateProcess:
    """The process as whoever compares sees it. Steps go one after the other.

    Attributes:
        told: Of what was loaded; set by `load`.
    """

    told: Told

    def __init__(self, order: Order) -> None:
        self._order = order
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def load(self) -> None:
        """Start the process and load the model.

        Raises:
            ElasticInferenceError: What the engine said, its class in the text, or how the process ended.
        """
        self._process = subprocess.Popen(
            interpreter.sibling_command("elastic_inference.engines.candidate"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        told = self._step(asdict(self._order))
        self.told = Told(
            told["subject"], told["precision"], told["num_threads"], Signature.from_json(told["signature"]),
            tuple(told["notes"]),
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def answer(self, sample: Path, into: Path) -> Arrays:
        """Return the outputs for a sample; raises as `load`."""
        self._step({"sample": str(sample), "into": str(into)})
        return read_sample(into)

    def seconds(self, sample: Path) -> float:
        """Return how long one prediction took; raises as `load`."""
        return float(self._step({"sample": str(sample), "into": ""})["seconds"])

    def close(self) -> None:
        """End the process; closing twice is fine."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            process.wait()

    def _step(self, line: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; reading says how
            process.stdin.write(json.dumps(line).encode() + b"\n")
            process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line(process))
        if "error" in answer:
            raise ModelError(answer["error"])
        return answer

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        deadline = time.monotonic() + MOST_SECONDS
        while b"\n" not in self._rest:
            is_ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not is_ready:
                raise DeadlineExceeded(f"{self._order.engine} took more than {MOST_SECONDS:.0f} s")
            block = os.read(process.stdout.fileno(), 1 << 16)
            if not block:
                status = process.wait()
                how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
                raise ModelError(f"the process of {self._order.engine} {how}")
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def main() -> None:
    """Serve steps until nobody asks any more."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    with contextlib.suppress(OSError):  # whatever runs out of memory, it is the candidate that goes
        Path("/proc/self/oom_score_adj").write_text("1000")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this ends it
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what engines and NNCF print is no answer

        def say(value: Mapping[str, Any]) -> None:
            answers.write(json.dumps(value) + "\n")
            answers.flush()

        _serve(say)
    os._exit(0)  # engines' threads need not be waited for


def _serve(say: Any) -> None:
    try:
        model = Order(**json.loads(sys.stdin.readline())).load()
    except (ElasticInferenceError, MemoryError) as error:
        say({"error": f"{error}" or type(error).__name__})
        return
    report = model.report
    say(
        {
            "subject": f"{report.engine} {report.engine_version} {report.precision}",
            "precision": report.precision,
            "num_threads": report.num_threads,
            "signature": model.signature.to_json(),
            "notes": report.notes,
        }
    )
    for line in sys.stdin:
        say(_served(model, json.loads(line)))


def _served(model: LoadedModel, step: Mapping[str, str]) -> dict[str, Any]:
    sample = read_sample(step["sample"])
    start = time.perf_counter()
    try:
        outputs = model.predict(sample)
    except (ElasticInferenceError, MemoryError) as error:
        return {"error": f"{error}" or type(error).__name__}
    seconds = time.perf_counter() - start
    if step["into"]:
        write_sample(Path(step["into"]), outputs)
    return {"seconds": seconds}


if __name__ == "__main__":
    main()
