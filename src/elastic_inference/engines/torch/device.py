"""Where a PyTorch model computes: how tensors get there and back, in what precision, within what memory.

CUDA tensors travel through pinned memory on a stream of the model's own. TF32 is off unless it is asked for:
PyTorch itself would use it in convolutions.
"""

from __future__ import annotations

import contextlib
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, TypeVar

from elastic_inference import settings
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.preemption import is_preemptible, let_others, paced
from elastic_inference.engines.torch.graphs import CudaRecorder, GraphedRun
from elastic_inference.engines.torch.library import use_threads
from elastic_inference.engines.torch.program import Program, Run
from elastic_inference.errors import EngineNotAvailable, InvalidInput

T = TypeVar("T")
PIECE_SECONDS = 0.001  # of device time between two points at which another tenant may take the device
# After these, which CUDA calls sticky, every call of the process fails; or its driver or its device is gone.
_LOST = re.compile(
    r"device-side assert|illegal memory access|illegal instruction|illegal address|misaligned address"
    r"|unspecified launch failure|launch timed out|hardware stack error|ECC error|NVLink|unknown error"
    r"|no CUDA-capable device|driver shutting down|GPU is lost|fallen off the bus"
    r"|device\(s\) is/are busy or unavailable|driver version is insufficient|initialization error"
    r"|system not yet initialized|invalid device context|context is destroyed"
)
_REDUCED = {"bf16": "bfloat16", "fp16": "float16"}


class Cpu:
    """The CPU, with the threads of the accelerator's share."""

    name = "cpu"

    def __init__(self, torch: ModuleType, options: EngineOptions, num_threads: int) -> None:
        if options.precision not in ("fp32", "bf16", "auto"):
            raise InvalidInput(
                f"precision {options.precision!r} needs a CUDA device; on {options.device} engine torch supports fp32 "
                "and bf16"
            )
        self._torch = torch
        self._num_threads = num_threads
        self._precision = options.precision
        self.label = options.device

    def bring(self, tensors: Sequence[Any]) -> list[Any]:
        """Return the tensors where the model computes."""
        return list(tensors)

    def fetch(self, values: Sequence[Any]) -> list[Any]:
        """Return the results on the CPU, complete."""
        return list(values)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Set threads, precision and points for one prediction."""
        use_threads(self._torch, self._num_threads)
        with self._torch.inference_mode(), _autocast(self._torch, "cpu", self._precision):
            yield

    def quickened(self, program: Program, _say: Callable[[str], None]) -> Run:
        """Return how to run the program."""
        return program.run

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the error says that no memory could be had."""
        text = str(error)
        return isinstance(error, MemoryError) or any(
            part in text
            for part in ("can't allocate memory", "bad_alloc", "could not create a memory object")
        )

    def is_lost(self, _error: BaseException) -> bool:
        """Whether the error says that nothing computes here any more."""
        return False

    def free(self) -> bool:
        """Give back what is kept but not used; whether trying again may help."""
        return False

    @property
    def memory_limit_bytes(self) -> int:
        """What this process may have; 0 where nothing limits it."""
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        return 0 if limit == resource.RLIM_INFINITY else limit


class Cuda:
    """One CUDA device, a stream on it, and an allocator with a limit.

    Raises:
        EngineNotAvailable: PyTorch sees no such device.
    """

    def __init__(self, torch: ModuleType, options: EngineOptions, num_threads: int) -> None:
        index = _index(torch, options.device)
        self.name = f"cuda:{index}"
        self._torch = torch
        self._num_threads = num_threads
        self._precision = options.precision
        properties = torch.cuda.get_device_properties(index)
        self.label = f"{options.device} ({properties.name})"
        self.memory_limit_bytes = min(
            options.device_memory_limit_bytes or properties.total_memory, properties.total_memory
        )
        if options.device_memory_limit_bytes is not None:
            share = self.memory_limit_bytes / properties.total_memory
            torch.cuda.set_per_process_memory_fraction(share, index)
        self._stream = torch.cuda.Stream(index)
        self._points = _Points(self._stream.synchronize)

    def bring(self, tensors: Sequence[Any]) -> list[Any]:
        """Return the tensors on the device; copies are under way on the stream."""
        return [tensor.pin_memory().to(self.name, non_blocking=True) for tensor in tensors]

    def fetch(self, values: Sequence[Any]) -> list[Any]:
        """Return the results on the CPU, complete."""
        fetched = [self._to_host(value) for value in values]
        self._stream.synchronize()
        return fetched

    def _to_host(self, value: Any) -> Any:
        if not isinstance(value, self._torch.Tensor) or value.device.type == "cpu":
            return value
        pinned = self._torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        return pinned.copy_(value, non_blocking=True)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Set stream, precision and points for one prediction."""
        torch = self._torch
        use_threads(torch, self._num_threads)
        has_tf32 = self._precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = has_tf32
        torch.backends.cudnn.allow_tf32 = has_tf32
        with (
            torch.inference_mode(),
            torch.cuda.stream(self._stream),
            _autocast(torch, "cuda", self._precision),
            self._points.active(),
        ):
            yield

    def quickened(self, program: Program, say: Callable[[str], None]) -> Run:
        """Return how to run the program: with CUDA graphs where the operator wants them tried.

        Args:
            say: Called with a sentence when something was decided.
        """
        if not settings.CUDA_GRAPHS.get():
            return program.run
        if not program.is_input_kept:
            say("CUDA graphs are not tried for a model that may change its inputs, as TorchScript may.")
            return program.run
        longest_seconds = 2 * PIECE_SECONDS if is_preemptible() else None
        return GraphedRun(program.run, CudaRecorder(self._torch, self._stream), longest_seconds, say)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the error says that no memory could be had; TorchScript hands on the text in an error of its own."""
        is_one = isinstance(error, self._torch.OutOfMemoryError | MemoryError)
        return is_one or "CUDA out of memory" in str(error)

    def is_lost(self, error: BaseException) -> bool:
        """Whether the error says that the device, or this process's context on it, computes nothing any more."""
        return _LOST.search(str(error)) is not None

    def free(self) -> bool:
        """Give back what the allocator keeps; trying again may then help."""
        self._torch.cuda.empty_cache()
        return True


class _Points:
    """Points between the pieces of a computation that runs ahead of its caller, as CUDA's does.

    A point waits for the device before it asks whether another accelerator is due, which costs the device some 20 us
    of idling. So not every point does: how many are left out adapts until a piece takes about PIECE_SECONDS.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait = wait
        self._stride = 1
        self._passed = 0
        self._last = 0.0

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Have the points of this prediction wait for the device; nothing where the device is not shared by lease."""
        if not is_preemptible():
            yield
            return
        self._passed, self._last = 0, time.perf_counter()
        with paced(self._reach):
            yield

    def _reach(self) -> None:
        self._passed += 1
        if self._passed < self._stride:
            return
        self._wait()
        took = time.perf_counter() - self._last
        if took > 2 * PIECE_SECONDS:
            self._stride = max(self._stride // 2, 1)
        elif took < PIECE_SECONDS:
            self._stride += 1
        let_others()
        self._passed, self._last = 0, time.perf_counter()


def find_device(torch: ModuleType, options: EngineOptions, num_threads: int) -> Cpu | Cuda:
    """Return the device that the options name."""
    return (Cpu if options.device.startswith("cpu") else Cuda)(torch, options, num_threads)


def _index(torch: ModuleType, device: str) -> int:
    number = device.partition(":")[2] or "0"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not number.isdigit() or int(number) >= count:
        there = ", ".join(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count))
        raise EngineNotAvailable(
            f"engine torch sees no device {device}; it sees cpu:0{', ' + there if there else ' alone'} "
            f"(torch {torch.__version__}, built {'with' if torch.version.cuda else 'without'} CUDA)"
        )
    return int(number)


def _autocast(torch: ModuleType, kind: str, precision: str) -> AbstractContextManager[Any]:
    """Weights stay as they are; operations that bear it take their inputs in fewer bits."""
    if precision not in _REDUCED:
        return contextlib.nullcontext()
    # A weight that was cast before a CUDA graph is recorded would be gone when it is replayed.
    context: AbstractContextManager[Any] = torch.autocast(
        kind, dtype=getattr(torch, _REDUCED[precision]), cache_enabled=kind == "cpu"
    )
    return context
