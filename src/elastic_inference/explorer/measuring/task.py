"""What a measuring process is told and what it answers, as JSON; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.client.accelerator import Accelerator, Local, accelerator_from_json
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.reporting.result import Detail
from elastic_inference.explorer.space import Cell
from elastic_inference.explorer.statistics import Interval
from elastic_inference.models.input_shape import InputShape, by_alias, is_shape
from elastic_inference.tensors import NUMPY_DTYPES

INVALID = "invalid: "  # begins a problem that lies in how it was measured, not in the combination


@dataclass(frozen=True)
class Task:
    """One cell to measure once.

    Attributes:
        model: Path of the model on the machine that measures.
        input: Shapes for made-up values, such as `uint8:1,1080,1920,3`, with spaces between those of several inputs;
            or the path of a .npy, .npz or image file.
        accelerator, load: Where it computes and how it is loaded.
        cores: Processor numbers to which the measuring process is bound; None leaves it free.
        percentile: What the target is about; None: the mean, and no open loop is run.
        target_seconds: Lets the tail stop early; None runs it to its limit.
        rate_per_second: Of Poisson arrivals; None: evenly, at half of what one sequential caller reaches.
        loads: For a throughput curve: rates as shares of the sequential rate; empty measures none.
        curve_percentile: What the curve is about; None: p95.
        min_seconds: Of the sequential part: three quick inferences agree by chance more easily than many.
        max_seconds: For the sequential part, for the tail and for each point of the curve, each.
    """

    cell: Cell
    model: str
    input: str
    accelerator: Accelerator = field(default_factory=Local)
    load: LoadOptions = field(default_factory=lambda: LoadOptions(warm_up=False))
    cores: tuple[int, ...] | None = None
    percentile: float | None = None
    target_seconds: float | None = None
    rate_per_second: float | None = None
    loads: tuple[float, ...] = ()
    curve_percentile: float | None = None
    min_runs: int = 3
    min_seconds: float = 1.0
    max_runs: int = 200
    width_share: float = 0.05
    max_seconds: float = 60.0
    seed: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back. It holds the host's token."""
        fields = {**vars(self), "cell": asdict(self.cell)}
        return {**fields, "accelerator": self.accelerator.to_json(), "load": self.load.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """Read what `to_json` wrote."""
        cores = value["cores"]
        return cls(
            **{
                **value,
                "cell": Cell(**value["cell"]),
                "accelerator": accelerator_from_json(value["accelerator"]),
                "load": LoadOptions.from_json(value["load"]),
                "cores": None if cores is None else tuple(cores),
                "loads": tuple(value["loads"]),
            }
        )


@dataclass(frozen=True)
class Outcome:
    """One cell measured once, or the reason why not.

    Attributes:
        report: The predictor's own report: engine, precision, threads, limits in force.
    """

    observation: Observation
    detail: Detail = field(default_factory=Detail)
    report: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(cls, problem: str) -> Outcome:
        """Return an outcome without measurement."""
        return cls(Observation(None, problem=problem))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {
            "observation": asdict(self.observation),
            "detail": asdict(self.detail),
            "report": dict(self.report),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """Read what `to_json` wrote; raises InvalidInput where it is something else."""
        try:
            seen = dict(value["observation"])
            interval = seen.get("interval")
            seen["interval"] = None if interval is None else Interval(**interval)
            return cls(Observation(**seen), Detail.from_json(value["detail"]), dict(value["report"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"not the outcome of a measurement: {error}") from error


def read_input(text: str, tensors: Mapping[str, Any], seed: int = 1) -> dict[str, npt.NDArray[Any]]:
    """Make or read the input of each call.

    Args:
        text: See `Task.input`.
        tensors: The model's inputs by alias, each with its dtype; .npy and image files need exactly one.

    Returns:
        An array for each alias: of an image uint8[1, height, width, 3], RGB.

    Raises:
        InvalidInput: Nothing can be made of `text`, or it does not fit the inputs.
    """
    if text.endswith(".npz"):
        with np.load(_existing(text), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if all(is_shape(word) for word in text.split()):
        dtypes = {alias: str(tensor.dtype.base_dtype.name) for alias, tensor in tensors.items()}
        given = by_alias([InputShape.parse(word) for word in text.split()], dtypes)
        if missing := sorted(dtypes.keys() - given.keys()):
            raise InvalidInput(
                f"the model has inputs {sorted(dtypes)}; give --shape for {', '.join(missing)} too"
            )
        chance = np.random.default_rng(seed)
        return {alias: _made_up(shape, chance) for alias, shape in given.items()}
    if len(tensors) != 1:
        raise InvalidInput(f"the model has inputs {sorted(tensors)}; give them in one .npz file")
    return {next(iter(tensors)): _read_array(text)}


def _read_array(text: str) -> npt.NDArray[Any]:
    path = _existing(text)
    if path.suffix == ".npy":
        try:
            array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise InvalidInput(f"input {text!r} is not a .npy file of numbers: {error}") from error
        return array
    return _read_image(path)


def _made_up(shape: InputShape, chance: np.random.Generator) -> npt.NDArray[Any]:
    kind = NUMPY_DTYPES[shape.dtype]
    if kind.kind in "iu":
        return chance.integers(0, min(255, np.iinfo(kind).max), shape.sizes, endpoint=True).astype(kind)
    return chance.random(shape.sizes).astype(kind)


def _read_image(path: Path) -> npt.NDArray[Any]:
    try:
        import cv2
    except ImportError as error:
        raise InvalidInput(f"image {str(path)!r} needs `pip install elastic-inference[video]`") from error
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidInput(f"input {str(path)!r} is no .npy, .npz or image file")
    return np.ascontiguousarray(image[None, :, :, ::-1])


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise InvalidInput(f"input {text!r} is neither a shape such as uint8:1,300,300,3 nor a file")
    return path
