"""A model as files: its format, where its files lie and the hash of their content. Reads bytes, not graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

from elastic_inference.errors import InvalidModel, ModelNotFound
from elastic_inference.models import directories, onnx_file, torch_archives


class ModelFormat(Enum):
    """How a model is stored."""

    SAVED_MODEL = "saved_model"  # a directory with saved_model.pb, TensorFlow 1 or 2
    FROZEN_GRAPH = "frozen_graph"  # one .pb file: a GraphDef without variables
    KERAS = "keras"  # one .keras, .h5 or .hdf5 file
    ONNX = "onnx"  # one .onnx file
    TFLITE = "tflite"  # one .tflite file
    TORCH_EXPORT = "torch_export"  # one .pt2 file: a program of torch.export
    TORCH_SCRIPT = "torch_script"  # one .pt, .pth or .jit file: an archive of TorchScript
    TESTING = "testing"  # one .testing file: what a shipped testing engine does


_FORMAT_OF_SUFFIX = {
    ".pb": ModelFormat.FROZEN_GRAPH,
    ".graphdef": ModelFormat.FROZEN_GRAPH,  # as Triton calls it
    ".keras": ModelFormat.KERAS,
    ".h5": ModelFormat.KERAS,
    ".hdf5": ModelFormat.KERAS,
    ".onnx": ModelFormat.ONNX,
    ".tflite": ModelFormat.TFLITE,
    ".testing": ModelFormat.TESTING,
}
_TORCH_SUFFIXES = (".pt2", ".pt", ".pth", ".jit")  # what they hold is told by their content
_SUFFIXES = [s for s, kind in _FORMAT_OF_SUFFIX.items() if kind is not ModelFormat.TESTING] + [
    *_TORCH_SUFFIXES
]
SUFFIXES = frozenset([*_FORMAT_OF_SUFFIX, *_TORCH_SUFFIXES])
"""Of all files that may be models."""


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: its path within the model (POSIX, relative), size and SHA-256 (hex)."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelPackage:
    """All files of a model.

    Attributes:
        root: The SavedModel directory, or the directory that holds the single file.
        files: Sorted by path; the one that an engine opens first, where that is a file.
    """

    format: ModelFormat
    root: Path
    files: tuple[ModelFile, ...]

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) over format, paths and file hashes: equal exactly when the models are."""
        lines = [self.format.value, *(f"{f.sha256} {f.size_bytes} {f.path}" for f in self.files)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(f.size_bytes for f in self.files)

    @property
    def main_path(self) -> Path:
        """What an engine opens: the directory of a SavedModel, else the one file."""
        return self.root if self.format is ModelFormat.SAVED_MODEL else self.root / self.files[0].path

    def described(self, label: str | None = None) -> dict[str, Any]:
        """Return what stores list of it: format, files, and what its user calls it, by default its own file's name."""
        return {
            "format": self.format.value,
            "name": Path(label or self.main_path).name,
            "files": [asdict(file) for file in self.files],
        }

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back, in a process that sees the same files."""
        return {"format": self.format.value, "root": str(self.root), "files": [asdict(f) for f in self.files]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelPackage:
        """Read what `to_json` wrote."""
        files = tuple(ModelFile(**file) for file in value["files"])
        return cls(ModelFormat(value["format"]), Path(value["root"]), files)

    @classmethod
    def read(cls, path: str | Path) -> ModelPackage:
        """Find the model at `path` and hash its files (about 0.5 s per GB).

        Raises:
            ModelNotFound: Nothing is there, or a directory without a SavedModel; the text is TensorFlow's.
            InvalidModel: A file of a kind that is no model.
        """
        path = Path(path)
        if path.is_file():
            return cls._read_single_file(path)
        if path.is_dir() and not (path / "saved_model.pb").is_file():
            found = directories.model_within(path)
            if found is not None:
                return cls.read(found)
        if not (path / "saved_model.pb").is_file():
            raise ModelNotFound(
                f"SavedModel file does not exist at: {path}/{{saved_model.pbtxt|saved_model.pb}}"
                + directories.explanation(path)
            )
        names = ["saved_model.pb"]
        for folder in ("variables", "assets", "assets.extra"):
            names += [p.relative_to(path).as_posix() for p in (path / folder).rglob("*") if p.is_file()]
        return cls(ModelFormat.SAVED_MODEL, path, tuple(_hash(path, name) for name in sorted(names)))

    @classmethod
    def _read_single_file(cls, path: Path) -> ModelPackage:
        suffix = path.suffix.lower()
        model_format = _FORMAT_OF_SUFFIX.get(suffix)
        if model_format is None and suffix not in _TORCH_SUFFIXES:
            raise InvalidModel(
                f"model file {path} has suffix {path.suffix!r}; known are "
                f"{', '.join(_SUFFIXES)}, or a SavedModel directory"
            )
        if path.name == "saved_model.pb":
            return cls.read(path.parent)
        if path.stat().st_size == 0:
            raise InvalidModel(f"model file {path} is empty")
        if model_format is None:
            model_format = ModelFormat(torch_archives.kind_of(path).value)
        names = [path.name, *(external_files(path) if model_format is ModelFormat.ONNX else ())]
        return cls(model_format, path.parent, tuple(_hash(path.parent, name) for name in names))


def external_files(path: Path) -> tuple[str, ...]:
    """Find the files beside an ONNX model that hold its data, relative to its folder.

    Raises:
        InvalidModel: One is absent, or leads out of the folder.
    """
    folder = path.parent.resolve()
    names = []
    for location in onnx_file.external_data(path):
        place = PurePosixPath(location)
        target = (folder / place).resolve()
        if place.is_absolute() or ".." in place.parts or not target.is_relative_to(folder):
            raise InvalidModel(f"{path} keeps data in {location!r}, which is not within its folder")
        if not target.is_file():
            raise InvalidModel(f"{path} keeps data in {location!r}, which is not beside it")
        names.append(place.as_posix())
    return tuple(names)


def _hash(root: Path, name: str) -> ModelFile:
    digest = hashlib.sha256()
    size = 0
    with open(root / name, "rb") as file:  # hashlib.file_digest needs Python 3.11
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return ModelFile(name, size, digest.hexdigest())
