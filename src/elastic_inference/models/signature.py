"""What a caller asks of a model, and what the model answers to: aliases, tensors, dtypes and shapes.

Plain value objects with a JSON form, because both sides of the wire use them; reading model files is
`models.resolve`, which needs protobuf and lives on the accelerator's side only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.tensors import TensorSpec

DEFAULT_SIGNATURE_KEY = "serving_default"
DEFAULT_TAGS = "serve"
_CPP_DTYPE_NAMES = {
    "float16": "half",
    "float32": "float",
    "float64": "double",
}  # as TensorFlow's kernels print


@dataclass(frozen=True)
class SignatureRequest:
    """Which signature of which meta graph, or which tensors under which aliases.

    Attributes:
        signature_def_key: A key of the model's signatures; None or "" means `serving_default`.
        input_names: alias -> tensor name (`image_tensor:0`); together with `output_names`, instead of a key.
        output_names: alias -> tensor name.
        tags: Tags of the meta graph, separated by commas; None means `serve`.
        input_specs: alias -> dtype and sizes such as `float32:3,-1,-1`, for formats that do not say them.
        output_aliases: Aliases for all outputs in the model's own order, where it names them by place alone.
    """

    signature_def_key: str | None = None
    input_names: Mapping[str, str] | None = None
    output_names: Mapping[str, str] | None = None
    tags: str | None = None
    input_specs: Mapping[str, str] | None = None
    output_aliases: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.output_aliases is not None and len(set(self.output_aliases)) != len(self.output_aliases):
            raise InvalidInput(f"output_names {list(self.output_aliases)} name an output twice")
        if (self.input_names is None) != (self.output_names is None):
            raise InvalidInput("input_names and output_names must both be specified or both be unspecified.")
        if self.signature_def_key is not None and self.input_names is not None:
            raise InvalidInput(
                "You must specify at most one of signature_def_key OR signature_def OR"
                "(input_names AND output_names)."
            )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back; equal requests give equal objects."""
        return {
            key: dict(value)
            if isinstance(value, Mapping)
            else list(value)
            if isinstance(value, tuple)
            else value
            for key, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SignatureRequest:
        """Read what `to_json` wrote; raises InvalidInput where a field has another type."""
        for name in ("signature_def_key", "tags"):
            if not isinstance(value.get(name), str | None):
                raise InvalidInput(f"{name} must be a string, not {value.get(name)!r}")
        for name in ("input_names", "output_names", "input_specs"):
            names = value.get(name)
            if names is not None and not (
                isinstance(names, Mapping) and all(isinstance(t, str) for pair in names.items() for t in pair)
            ):
                raise InvalidInput(f"{name} must map aliases to tensor names or specs, not {names!r}")
        aliases = value.get("output_aliases")
        if aliases is not None and not (
            isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases)
        ):
            raise InvalidInput(f"output_aliases must be a list of strings, not {aliases!r}")
        return cls(
            value.get("signature_def_key"),
            value.get("input_names"),
            value.get("output_names"),
            value.get("tags"),
            value.get("input_specs"),
            None if aliases is None else tuple(aliases),
        )

    def renamed(self, outputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        """All of a model's outputs under `output_aliases`, or under their own names where there are none.

        Raises:
            InvalidInput: There are more or fewer aliases than outputs.
        """
        if self.output_aliases is None:
            return dict(outputs)
        if len(self.output_aliases) != len(outputs):
            raise InvalidInput(
                f"output_names list {len(self.output_aliases)} names, but the model has {len(outputs)} outputs: "
                f"{', '.join(outputs)}"
            )
        return dict(zip(self.output_aliases, outputs.values(), strict=True))

    def key(self) -> str:
        """Return a canonical text: two requests have the same key exactly when they mean the same."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Signature:
    """The resolved answer to a SignatureRequest.

    Attributes:
        inputs: alias -> tensor that it feeds.
        outputs: alias -> tensor that it fetches.
        required_inputs: Aliases without which the outputs cannot be computed.
        unfed_placeholders: Placeholders that the outputs need and that no alias feeds.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    required_inputs: frozenset[str] = field(default_factory=frozenset)
    unfed_placeholders: tuple[TensorSpec, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {
            "inputs": {alias: asdict(spec) for alias, spec in self.inputs.items()},
            "outputs": {alias: asdict(spec) for alias, spec in self.outputs.items()},
            "required_inputs": sorted(self.required_inputs),
            "unfed_placeholders": [asdict(spec) for spec in self.unfed_placeholders],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Signature:
        """Read what `to_json` wrote."""
        return cls(
            inputs={alias: TensorSpec.from_json(spec) for alias, spec in value["inputs"].items()},
            outputs={alias: TensorSpec.from_json(spec) for alias, spec in value["outputs"].items()},
            required_inputs=frozenset(value["required_inputs"]),
            unfed_placeholders=tuple(TensorSpec.from_json(spec) for spec in value["unfed_placeholders"]),
        )


def unfed_text(placeholder: TensorSpec) -> str:
    """Return what TensorFlow says of a placeholder that got no value."""
    dtype = _CPP_DTYPE_NAMES.get(placeholder.base_dtype, placeholder.base_dtype)
    shape = "<unknown>"
    if placeholder.shape is not None:
        shape = "[" + ",".join("?" if size is None else str(size) for size in placeholder.shape) + "]"
    name = placeholder.name.removesuffix(":0")
    return f"You must feed a value for placeholder tensor '{name}' with dtype {dtype} and shape {shape}"
