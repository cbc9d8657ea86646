"""What every engine gives: a loaded model that predicts. Which engine is chosen is `engines.select`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from elastic_inference.errors import InvalidInput
from elastic_inference.limits.base import whole_cores
from elastic_inference.limits.machine import usable_cores
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.signature import Signature
from elastic_inference.proof.choice import Choice

Arrays = Mapping[str, npt.NDArray[Any]]

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "int8", "auto")


@dataclass(frozen=True)
class EngineOptions:
    """How a model is to be loaded.

    Attributes:
        engine: A name of `engines.registry`, or "auto": the first that suits the format.
        device: `cpu:0` or `cuda:0`.
        precision: "fp32" unless the user asks for less; "auto": what was proved and lies in `store`, else "fp32".
        num_threads: Threads of one prediction; None means the cores this process may use.
        store: Where compiled and quantized models, proofs and choices are kept between loads; None keeps none.
        allow_unsafe_operations: Whether graphs may touch files, processes and the network.
        device_memory_limit_bytes: What the engine may take of the memory of a device other than the CPU; None: no
            limit.
        calibration: Inputs by alias, on which "int8" is calibrated in this load; empty: a model that was kept is taken.
    """

    engine: str = "auto"
    device: str = "cpu:0"
    precision: str = "fp32"
    num_threads: int | None = None
    store: ArtifactStore | None = None
    allow_unsafe_operations: bool = False
    device_memory_limit_bytes: int | None = None
    calibration: tuple[Arrays, ...] = field(default=(), repr=False, compare=False)

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
        source: Where the compiled model comes from: "from the store, ..." or "compiled here in 6.2 s"; "" where the
            engine keeps nothing.
        notes: What a user should know, such as why another engine was not taken; a sentence each.
    """

    engine: str
    engine_version: str
    device: str
    precision: str
    num_threads: int
    load_seconds: float
    notes: tuple[str, ...] = ()
    source: str = ""


class LoadedModel(ABC):
    """A model ready to predict with one signature.

    Where a computation has pieces, `predict` calls `preemption.checkpoint` between them.

    `predict` may be called from several threads at once. Input arrays belong to the caller and are only
    valid during the call; output arrays are the caller's to keep.
    """

    signature: Signature
    report: EngineReport
    choice: Choice | None = None
    """Why this engine in this precision, where that was measured and proved before."""
    changes: tuple[str, ...] = ()
    """Operations by which a call changes what the next one sees; such a model is not warmed up and not shared."""

    @abstractmethod
    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run once.

        Args:
            inputs: alias -> C-contiguous array of the signature's dtype and a fitting shape; strings are object
                arrays of bytes. Inputs that the outputs do not need may be absent.

        Returns:
            alias -> array of the signature's dtype, for every output alias.

        Raises:
            InvalidArgumentError: The graph refused the values.
            ModelError: The computation failed otherwise.
            MemoryQuotaExceeded: The engine could not get the memory.
        """

    def empty(self) -> None:  # noqa: B027  # an engine that keeps nothing has nothing to do
        """Give back what is kept of earlier calls, such as memory for their shapes; later calls work as before."""

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds; closing twice is fine."""


def available_cores() -> int:
    """Return the cores that this process may use, which is what `num_threads=None` means."""
    if not hasattr(os, "sched_getaffinity"):  # only Linux has it, and quotas of groups
        return os.cpu_count() or 1
    return whole_cores(usable_cores())
