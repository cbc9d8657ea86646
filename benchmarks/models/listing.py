"""`models.toml` as values."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIST = Path(__file__).with_name("models.toml")
_FORMATS = {
    ".onnx": "ONNX",
    ".tflite": "TFLite",
    ".h5": "Keras",
    ".hdf5": "Keras",
    ".keras": "Keras",
    ".pb": "frozen graph",
    ".jit": "TorchScript",
    ".pt": "TorchScript",
    "": "SavedModel",
}


@dataclass(frozen=True)
class Package:
    """One package of a registry.

    Attributes:
        registry: "pypi" or "npm".
        python: The version of Python for which a wheel is taken, "" for this one's.
        licence: As the package states it.
    """

    name: str
    version: str
    registry: str
    licence: str
    python: str = ""

    @property
    def key(self) -> str:
        """Name and version as one word, also for folders."""
        return f"{self.name.replace('/', '_')}-{self.version}"


@dataclass(frozen=True)
class Model:
    """One model of a package.

    Attributes:
        path: Of its file, or of its SavedModel's folder, inside the package.
        inputs: What the model does not say of its inputs: name (or "*" for all) -> shapes, values, texts.
    """

    package: Package
    path: str
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What names it in results."""
        return f"{self.package.registry}:{self.package.name}=={self.package.version}:{self.path}"

    @property
    def format(self) -> str:
        """Such as "ONNX"."""
        return _FORMATS[PurePosixPath(self.path).suffix]

    def owns(self, member: str) -> bool:
        """Whether a file of the package belongs to the model: its own, its external data, or one of its folder."""
        names = (self.path, f"{self.path}.data", f"{self.path}_data")
        return member in names or (self.format == "SavedModel" and member.startswith(f"{self.path}/"))


def models(path: Path = LIST) -> Sequence[Model]:
    """Return all models of the list; raises ValueError where an entry is not as its head says."""
    found = []
    for entry in tomllib.loads(path.read_text())["package"]:
        groups = entry.pop("groups")
        package = Package(**entry)
        if package.registry not in ("pypi", "npm"):
            raise ValueError(f"{package.name}: registry {package.registry!r} is neither pypi nor npm")
        for group in groups:
            found += [Model(package, _inside(each), group.get("inputs", {})) for each in group["models"]]
    return found


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError(f"{path!r} does not lie inside a package")
    if PurePosixPath(path).suffix not in _FORMATS:
        raise ValueError(f"{path!r} is of no format that has a runtime here")
    return path
