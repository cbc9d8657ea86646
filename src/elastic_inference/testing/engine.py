"""An engine that computes nothing: it waits, fails or echoes as its model file says, for tests and benchmarks.

A model is a JSON file with the suffix `.testing`:
`{"inputs": {alias: {"dtype", "shape"}}, "outputs": {alias: {"dtype", "shape"}}, "wait_seconds": 0.05,
"row_wait_seconds": 0.01, "until_gone": "/tmp/gate", "fail": "text", "fail_at": 13, "lose_at": 14, "mixes_rows": true,
"stall_seconds": 1.0, "stall_every_seconds": 20.0, "device": {"path": "/dev/shm/device", "seconds": 0.025,
"piece_seconds": 0.002, "switch_seconds": 0.00014, "is_exclusive": true}}`; all but inputs and outputs may be absent,
of `device` (a `FakeDevice`) all but path and seconds. An output of an input's name echoes it; others are zeros, their
open axes 1. `row_wait_seconds` is for each row along axis 0, no call ends while the file `until_gone` is there,
`fail_at` fails calls that hold this value, `lose_at` loses the device with them, and `mixes_rows` adds the sum of all
rows to each that is echoed. Only a process that calls `register` has it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.engines import registry
from elastic_inference.engines.base import Arrays, EngineOptions, EngineReport, LoadedModel
from elastic_inference.errors import DeviceLost, InvalidModel, ModelError
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from elastic_inference.tensors import TensorSpec
from elastic_inference.testing.device import FakeDevice

FRAME_SHAPE = (None, None, None, 3)


def write_model(
    path: Path,
    inputs: Mapping[str, tuple[str, tuple[int | None, ...]]] | None = None,
    outputs: Mapping[str, tuple[str, tuple[int | None, ...]]] | None = None,
    **behaviour: Any,
) -> Path:
    """Write a model file; by default it takes a frame `inputs` and answers one float32 number `outputs`."""
    value = {
        "inputs": inputs or {"inputs": ("uint8", FRAME_SHAPE)},
        "outputs": outputs or {"outputs": ("float32", (1,))},
    }
    text = {k: {a: {"dtype": d, "shape": s} for a, (d, s) in specs.items()} for k, specs in value.items()}
    path.write_text(json.dumps(text | behaviour))
    return path


class TestingModel(LoadedModel):
    """What the file says, done."""

    __test__ = False  # its name starts as pytest's classes do

    def __init__(self, value: Mapping[str, Any], start: float) -> None:
        self.signature = Signature(
            _specs(value["inputs"]), _specs(value["outputs"]), frozenset(value["inputs"]), ()
        )
        self.report = EngineReport("testing", "1", "none", "fp32", 1, time.monotonic() - start)
        self._wait_seconds = float(value.get("wait_seconds", 0))
        self._row_wait_seconds = float(value.get("row_wait_seconds", 0))
        self._fail = value.get("fail")
        self._fail_at = value.get("fail_at")
        self._lose_at = value.get("lose_at")
        self._mixes_rows = bool(value.get("mixes_rows", False))
        self._until_gone = Path(value["until_gone"]) if "until_gone" in value else None
        self._stall_seconds = float(value.get("stall_seconds", 0))
        self._stall_every_seconds = float(value.get("stall_every_seconds", 0))
        self._next_stall = time.monotonic() + self._stall_every_seconds
        device = value.get("device")
        self._device = None if device is None else _DeviceUse(device)

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        if self._wait_seconds or self._row_wait_seconds:
            num_rows = max((len(array) for array in inputs.values() if array.ndim), default=1)
            time.sleep(self._wait_seconds + num_rows * self._row_wait_seconds)
        while self._until_gone is not None and self._until_gone.exists():
            time.sleep(0.005)
        if self._device is not None:
            self._device.run()
        if self._stall_seconds and time.monotonic() >= self._next_stall:
            time.sleep(self._stall_seconds)
            self._next_stall = time.monotonic() + self._stall_every_seconds
        if self._fail:
            raise ModelError(str(self._fail))
        if self._fail_at is not None and any((array == self._fail_at).any() for array in inputs.values()):
            raise ModelError(f"an input holds {self._fail_at}")
        if self._lose_at is not None and any((array == self._lose_at).any() for array in inputs.values()):
            raise DeviceLost(f"an input holds {self._lose_at}")
        return {
            alias: self._echo(inputs[alias]) if alias in inputs else _zeros(spec)
            for alias, spec in self.signature.outputs.items()
        }

    def _echo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        echo: npt.NDArray[Any] = array.copy()
        if self._mixes_rows:
            echo += array.sum(axis=0)
        return echo

    def close(self) -> None:
        if self._device is not None:
            self._device.close()


class _DeviceUse:
    """How one model uses a device that computes nothing."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        switch_seconds = float(value.get("switch_seconds", 0))
        self._device = FakeDevice(Path(value["path"]), switch_seconds, bool(value.get("is_exclusive", True)))
        self._seconds = float(value["seconds"])
        piece_seconds = value.get("piece_seconds")
        self._piece_seconds = None if piece_seconds is None else float(piece_seconds)

    def run(self) -> None:
        self._device.run(self._seconds, self._piece_seconds)

    def close(self) -> None:
        self._device.close()


def register() -> None:
    """Make this process know the engine `testing`."""
    registry.register("testing", _load, (ModelFormat.TESTING,))


def _load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:  # noqa: ARG001
    start = time.monotonic()
    try:
        return TestingModel(json.loads(package.main_path.read_text()), start)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"{package.main_path.name} is not a testing model: {error!r}") from error


def _specs(value: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {alias: TensorSpec.from_json({"name": f"{alias}:0", **spec}) for alias, spec in value.items()}


def _zeros(spec: TensorSpec) -> npt.NDArray[Any]:
    return np.zeros([1 if size is None else size for size in spec.shape or ()], spec.numpy_dtype)
