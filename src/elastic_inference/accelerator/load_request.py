"""What a client asks for when it loads a model, read from the parameters of its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elastic_inference.accelerator import bodies
from elastic_inference.accelerator.batching.model import DEFAULT_MAX_ROWS, Mode, Options
from elastic_inference.engines.base import EngineOptions
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.models.package import ModelPackage

OF_THE_CLIENT = ("instance", "label")  # what may differ between loads of one model


@dataclass(frozen=True)
class LoadRequest:
    """What a client asks for when it loads a model.

    Attributes:
        package: See `ModelStore.package`.
        signature: See `SignatureRequest.from_json`.
        engine, precision: See EngineOptions; None leaves them to the accelerator.
        warm_up: Whether to run it once, or with which shape of which input.
        proof: When it is compared with its reference: "background", "before" or "off".
        batching, max_batch_rows, max_batch_delay_seconds: Whether its requests may run together, how many rows at
            most, and how long one may wait for others; see `batching.model.Options`.
        label: What the client calls the model, for errors; None: they name the accelerator's own copy.
        instance: Which predictor asks, for models that keep what a call changes: each gets one of its own, called
            by the name and this.
        expects: What the model's tensors must be; see `expectations.check`. None: anything will do.
    """

    package: Mapping[str, Any]
    signature: Mapping[str, Any]
    engine: str | None = None
    precision: str | None = None
    warm_up: bool | Mapping[str, tuple[int, ...]] = True
    proof: str = "background"
    batching: str = "auto"
    max_batch_rows: int | None = None
    max_batch_delay_seconds: float | None = None
    instance: str | None = None
    label: str | None = None
    expects: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, load: Mapping[str, Any]) -> LoadRequest:
        """Read the parameters of a load; raises InvalidInput that names the field."""
        return bodies.read(cls, load, "load")

    def options(self, defaults: EngineOptions) -> EngineOptions:
        """Return the accelerator's options, with what the client chose."""
        chosen: dict[str, Any] = {"engine": self.engine, "precision": self.precision}
        return replace(defaults, **{name: value for name, value in chosen.items() if value is not None})

    def batch_options(self) -> Options:
        """Return what the client chose for requests that wait together; InvalidInput where a value is wrong."""
        max_rows = DEFAULT_MAX_ROWS if self.max_batch_rows is None else self.max_batch_rows
        return Options(Mode.parse(self.batching), max_rows, self.max_batch_delay_seconds)

    def own_name(self, name: str) -> str:
        """Return what a model is called that is one predictor's alone."""
        return name if self.instance is None else f"{name}.{self.instance}"

    def labelled(self, error: ElasticInferenceError, package: ModelPackage) -> ElasticInferenceError:
        """Put the client's name of the model into an error, in place of where its copy lies here."""
        if self.label is not None and error.args and isinstance(error.args[0], str):
            text = error.args[0].replace(str(package.main_path), self.label)
            error.args = (text.replace(str(package.root), str(Path(self.label).parent)), *error.args[1:])
        return error
