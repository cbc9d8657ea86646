"""What every engine gives: a loaded model that predicts. Which engine is chosen is `engines.select`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from elastic_inference.errors import InvalidInput, UnsupportedModel
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import Signature


class Preemption(Protocol):
    """What lets another accelerator use the device in the middle of a request."""

    def must_yield(self) -> bool:
        """Whether another is due; a look of a microsecond."""

    def checkpoint(self) -> None:
        """Let it have the device, and come back when the device is ours again."""


_preemption: Preemption | None = None


def set_preemption(preemption: Preemption | None) -> None:
    """Say what `checkpoint` asks; None: nothing, for a device that is not shared by lease."""
    global _preemption
    _preemption = preemption


def checkpoint(synchronize: Callable[[], None] | None = None) -> None:
    """A point between two pieces of a prediction, at which another accelerator of the device may come first.

    Call it every millisecond or two of device time, from the thread that predicts: it costs a microsecond unless
    another is due. A handover costs a GPU 0.14 ms each way, so shorter pieces gain nothing.

    Args:
        synchronize: Waits until the device has done what was started; called only before a handover.
    """
    if _preemption is not None and _preemption.must_yield():
        if synchronize is not None:
            synchronize()
        _preemption.checkpoint()


Arrays = Mapping[str, npt.NDArray[Any]]

ENGINES = ("openvino", "tensorflow", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "int8", "auto")


@dataclass(frozen=True)
class EngineOptions:
    """How a model is to be loaded.

    Attributes:
        engine: One of `ENGINES`, a shipped testing engine, or "auto": the first that suits the format.
        device: `cpu:0` or `cuda:0`.
        precision: "fp32" unless the user asks for less; "auto" leaves it to the engine.
        num_threads: Threads of one prediction; None means the cores this process may use.
        cache_dir: Where compiled models are kept between loads; None keeps none.
        allow_unsafe_operations: Whether graphs may touch files, processes and the network.
    """

    engine: str = "auto"
    device: str = "cpu:0"
    precision: str = "fp32"
    num_threads: int | None = None
    cache_dir: str | None = None
    allow_unsafe_operations: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InvalidInput(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.num_threads is not None and not 1 <= self.num_threads <= 1024:
            raise InvalidInput(f"num_threads {self.num_threads} is not between 1 and 1024")


@dataclass(frozen=True)
class EngineReport:
    """What is in force for a loaded model; statements, not wishes.

    Attributes:
        engine_version: The library's own version.
        precision: The precision in which the engine computes, as the engine tells it.
        notes: What a user should know, such as why another engine was not taken; a sentence each.
    """

    engine: str
    engine_version: str
    device: str
    precision: str
    num_threads: int
    load_seconds: float
    notes: tuple[str, ...] = ()


class LoadedModel(ABC):
    """A model ready to predict with one signature.

    `predict` may be called from several threads at once. Input arrays belong to the caller and are only
    valid during the call; output arrays are the caller's to keep.
    """

    signature: Signature
    report: EngineReport

    @abstractmethod
    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run once.

        Args:
            inputs: alias -> C-contiguous array of the signature's dtype and a fitting shape; strings are object arrays
                of bytes. Inputs that the outputs do not need may be absent.

        Returns:
            alias -> array of the signature's dtype, for every output alias.

        Raises:
            InvalidArgumentError: The graph refused the values.
            ModelError: The computation failed otherwise.
            MemoryQuotaExceeded: The engine could not get the memory.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds; closing twice is fine."""


def check_format(engine: str, package: ModelPackage, formats: Collection[ModelFormat]) -> None:
    """Refuse a model of a format that the engine does not read.

    Raises:
        UnsupportedModel: Names the formats that it reads.
    """
    if package.format not in formats:
        readable = ", ".join(model_format.value for model_format in formats)
        raise UnsupportedModel(
            f"engine {engine} reads {readable}, but {package.main_path} is {package.format.value}"
        )


def available_cores() -> int:
    """The cores that this process may use, which is what `num_threads=None` means."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
