"""What is said of a model beside its files: `model.toml`, and what a load may ask for in its place."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elastic_inference.accelerator import bodies
from elastic_inference.errors import InvalidInput
from elastic_inference.models.package import ModelFormat
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.tensors import DTYPE_OF_WIRE_NAME
from elastic_inference.units import parse_seconds

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "model.toml"
ALL = "all"


@dataclass(frozen=True)
class ModelSettings:
    """How a model of a folder is loaded, and which of its versions are.

    Attributes:
        signature, tags: Which signature of which meta graph of a SavedModel; None: the usual ones.
        inputs, outputs: Tensors by alias, in place of a signature.
        engine, precision: None leaves them to whoever serves.
        warm_up: Whether to run it once, or with which shape of which input.
        proof, batching, max_batch_rows: See LoadRequest.
        max_batch_delay: How long a request may wait for others, as text such as "2ms".
        versions: "all", how many of the newest, or the numbers of those that are served.
        labels: By what names requests may ask for which version, as TensorFlow Serving has them.
        model_file: The file of a version that is the model, where there are several.
        expects: What the model's tensors must be; see `expectations.check`.
    """

    signature: str | None = None
    tags: str | None = None
    inputs: Mapping[str, str] | None = None
    outputs: Mapping[str, str] | None = None
    engine: str | None = None
    precision: str | None = None
    warm_up: bool | Mapping[str, tuple[int, ...]] = True
    proof: str = "background"
    batching: str = "auto"
    max_batch_rows: int | None = None
    max_batch_delay: str | None = None
    versions: str | int | tuple[int, ...] = 1
    labels: Mapping[str, int] = field(default_factory=dict)
    model_file: str | None = None
    expects: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None

    def __post_init__(self) -> None:
        is_count = isinstance(self.versions, int) and self.versions >= 1
        if not (self.versions == ALL or is_count or (isinstance(self.versions, tuple) and self.versions)):
            raise InvalidInput(
                f'versions must be "all", how many of the newest, or a list of numbers, not {self.versions!r:.80}'
            )
        if self.model_file is not None and Path(self.model_file).name != self.model_file:
            raise InvalidInput(f"model_file {self.model_file!r:.80} must be a name within a version's folder")

    def choose(self, present: Sequence[int]) -> list[int]:
        """Return which of these versions are to be served, the newest first; one that is asked for may be absent."""
        newest_first = sorted(present, reverse=True)
        if self.versions == ALL:
            return newest_first
        if isinstance(self.versions, int):
            return newest_first[: self.versions]
        return sorted((int(version) for version in self.versions), reverse=True)

    def load(self, model_format: ModelFormat, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a LoadRequest, but for its package.

        Args:
            defaults: Engine and precision of whoever serves.
        """
        delay = self.max_batch_delay
        chosen = {
            "engine": self.engine,
            "precision": self.precision,
            "max_batch_rows": self.max_batch_rows,
            "max_batch_delay_seconds": None if delay is None else parse_seconds(delay),
            "expects": self.expects,
        }
        return {
            **defaults,
            "signature": self._signature(model_format).to_json(),
            "warm_up": self.warm_up,
            "proof": self.proof,
            "batching": self.batching,
            **{name: value for name, value in chosen.items() if value is not None},
        }

    def _signature(self, model_format: ModelFormat) -> SignatureRequest:
        tensors = (self.expects or {}).get("inputs")
        if model_format is not ModelFormat.TORCH_SCRIPT or tensors is None:
            return SignatureRequest(self.signature, self.inputs, self.outputs, self.tags)
        # Such a file says neither datatypes nor shapes, nor what its outputs are called.
        outputs = (self.expects or {}).get("outputs")
        return SignatureRequest(
            input_specs={name: _spec_text(tensor) for name, tensor in tensors.items()},
            output_aliases=None if not outputs else tuple(outputs),
        )


def read_toml(path: Path) -> dict[str, Any]:
    """Read `model.toml`; returns the fields of ModelSettings that it sets.

    Raises:
        InvalidInput: It cannot be read, is no TOML, or a field is unknown or of another type.
    """
    what = f"{path.parent.name}/{path.name}"  # not the whole path: clients are told why a model is not served
    try:
        value: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{what} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{what} is not TOML: {error}") from error
    made(value, what)
    return value


def made(value: Mapping[str, Any], what: str) -> ModelSettings:
    """Make settings of plain values; raises InvalidInput that names the field."""
    settings = bodies.read(ModelSettings, value, what)
    if settings.max_batch_delay is not None:
        try:
            parse_seconds(settings.max_batch_delay)
        except InvalidInput as error:
            raise InvalidInput(f"{what}: max_batch_delay: {error}") from error
    return settings


def _spec_text(tensor: Mapping[str, Any]) -> str:
    dtype = DTYPE_OF_WIRE_NAME.get(str(tensor.get("datatype")), "float32")
    return f"{dtype}:{','.join(str(size) for size in tensor.get('shape', ()))}"
