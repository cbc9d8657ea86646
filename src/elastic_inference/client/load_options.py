"""How a model is loaded, wherever it is: one value for the predictor, the video job and the explorer."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from elastic_inference.client import checks
from elastic_inference.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        engine: What computes: "openvino", "tensorflow", "onnxruntime", "litert" or "torch"; "auto" takes the first that
            suits the model.
        precision: "fp32", "tf32", "bf16", "fp16" or "int8", where the engine has it; "auto" is the
            fastest that was proved to agree with fp32 (`ei compile`), and fp32 where none was.
        warm_up: Whether to predict once on made-up values after loading, or the shapes to do it with, by input alias.
        cache_dir: The folder of the store in which an embedded accelerator keeps models, and what was compiled of them,
            for the next load; None: `store` in EI_CACHE_DIR; False keeps nothing. In this process (`use_ei=False`) None
            keeps nothing either. An accelerator elsewhere has a store of its own.
        proof: When an accelerator compares a quick engine with the reference of the model's format: "background", after
            loading and while nobody calls; "before" anything is answered; or "off".
        batching: When an accelerator runs requests together that wait for the same model: "auto", where their answers
            are the same to the last bit; "close", where they are within 1e-5; or "off".
        max_batch_rows: How many rows along axis 0 run together at most, 1 to 1024; None: 32.
        max_batch_delay_seconds: How long a request whose turn it is may wait for others, where several ran together
            just before, 0 to 1; None: a tenth of what one row takes alone.
        name: What the model is called on an accelerator, for clients that ask by name; None: a name made of its content
            and these options, by which equal ones are shared.

    Raises:
        InvalidInput: A value has a wrong type. Which engines, precisions and ways of batching there are, the
            accelerator knows.
    """

    engine: str = "auto"
    precision: str = "fp32"
    warm_up: bool | Mapping[str, Sequence[int]] = True
    cache_dir: str | Literal[False] | None = None
    proof: str = "background"
    batching: str = "auto"
    max_batch_rows: int | None = None
    max_batch_delay_seconds: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for name in ("engine", "precision", "proof", "batching"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InvalidInput(f"{name} must be text, not {checks.shown(value)}")
        if self.max_batch_rows is not None and type(self.max_batch_rows) is not int:
            raise InvalidInput(
                f"max_batch_rows must be an integer or None, not {checks.shown(self.max_batch_rows)}"
            )
        delay = self.max_batch_delay_seconds
        if not isinstance(delay, int | float | None) or isinstance(delay, bool):
            raise InvalidInput(f"max_batch_delay_seconds must be a number or None, not {checks.shown(delay)}")
        if self.name is not None and not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise InvalidInput(
                f"name must be 1 to 200 letters, digits, '.', '_' or '-', or None, not {checks.shown(self.name)}"
            )
        object.__setattr__(self, "warm_up", _warm_up(self.warm_up))
        object.__setattr__(self, "cache_dir", checks.cache_dir(self.cache_dir))

    def parameters(self) -> dict[str, Any]:
        """Return what an accelerator is told with the model; the newest fields only where they say something."""
        newest = {
            name: getattr(self, name)
            for name in ("proof", "batching", "max_batch_rows", "max_batch_delay_seconds")
            if getattr(self, name) != getattr(LoadOptions, name)
        }
        return {"engine": self.engine, "precision": self.precision, "warm_up": self.warm_up, **newest}

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {**self.parameters(), "cache_dir": self.cache_dir, "name": self.name}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LoadOptions:
        """Read what `to_json` wrote."""
        return cls(**value)


def _warm_up(value: Any) -> bool | dict[str, tuple[int, ...]]:
    if isinstance(value, bool):
        return value
    try:
        return {str(alias): tuple(operator.index(size) for size in shape) for alias, shape in value.items()}
    except (AttributeError, TypeError):
        raise InvalidInput(
            f"warm_up must be True, False or a shape by input alias, such as {{'image': (1, 300, 300, 3)}}, "
            f"not {checks.shown(value)}"
        ) from None
