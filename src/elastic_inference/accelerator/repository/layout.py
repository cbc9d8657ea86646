"""What lies in a folder of models, and which file of it is which version of which model. Reads names, not content.

A model is a file, or a folder that holds one file or SavedModel, or numbered folders of such: its versions, as
TensorFlow Serving and Triton lay them. A folder that is a model itself is served under its own name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from elastic_inference.accelerator.repository import model_settings, triton_config
from elastic_inference.accelerator.repository.model_settings import ModelSettings
from elastic_inference.errors import InvalidInput, ModelNotFound
from elastic_inference.models import directories
from elastic_inference.models.package import SUFFIXES

SAVED_MODEL = "saved_model.pb"
_SETTINGS_FILES = (model_settings.FILE, triton_config.FILE)
MAX_STAMPED_FILES = 10_000

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, size, time of change and number of each file: what differs where anything was written."""


@dataclass(frozen=True)
class FoundVersion:
    """One version's files.

    Attributes:
        path: The folder of a SavedModel, or the model's file.
        problem: Why there is none; "" where there is.
    """

    path: Path
    stamp: Stamp
    problem: str = ""


@dataclass(frozen=True)
class FoundModel:
    """One model of a folder.

    Attributes:
        path: Its file or folder.
        versions: By number.
        problem: Why none can be served, such as settings that cannot be read; "" where some may be.
        note: Why the whole folder is this one model; "" where it lies in a folder of models.
    """

    name: str
    path: Path
    versions: Mapping[int, FoundVersion]
    settings: ModelSettings = field(default_factory=ModelSettings)
    problem: str = ""
    note: str = ""

    def with_settings(self, more: Mapping[str, Any]) -> FoundModel:
        """Return it with settings that go before its own; raises InvalidInput that names a wrong one."""
        return replace(self, settings=model_settings.made({**vars(self.settings), **more}, "config"))


def scan(folder: Path, device: str) -> dict[str, FoundModel]:
    """Return the models of a folder by name.

    Raises:
        InvalidInput: There is no such folder, or it cannot be read; or it is said to be a model itself and other
            models' folders lie in it.
    """
    try:
        if _is_model(folder):
            model = look_at(folder.resolve().name, folder, device)
            _refuse_others(folder, model)
            note = f"the whole folder {folder} is this one model: {_why_one(folder)}"
            return {model.name: replace(model, note=note)}
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InvalidInput(f"the folder of models {folder}: {error.strerror or error}") from error
    found: dict[str, FoundModel] = {}
    for entry in entries:
        is_file = entry.is_file()
        if is_file and entry.suffix.lower() not in SUFFIXES:
            continue
        name = entry.stem if is_file else entry.name
        if name in found:
            problem = f"{found[name].path.name} and {entry.name} are both called {name}; rename one"
            found[name] = FoundModel(name, entry, {}, problem=problem)
        else:
            found[name] = look_at(name, entry, device)
    return found


def look_at(name: str, path: Path, device: str) -> FoundModel:
    """Return what a model's file or folder holds; what is wrong with it becomes its problem."""
    try:
        if path.is_file():
            return FoundModel(name, path, {1: FoundVersion(path, _stamp([path]))})
        settings = read_settings(path, name, device)
        return FoundModel(name, path, _versions(path, settings), settings)
    except (InvalidInput, ModelNotFound) as error:
        return FoundModel(name, path, {}, problem=str(error))
    except OSError as error:  # such as a folder that goes while it is looked at
        return FoundModel(name, path, {}, problem=f"{path} cannot be read: {error.strerror or error}")


def read_settings(folder: Path, name: str, device: str) -> ModelSettings:
    """Return what a model's folder says of it: `model.toml`, and below that `config.pbtxt`.

    Raises:
        InvalidInput: One of them is wrong, or asks for what is not offered.
    """
    value: dict[str, object] = {}
    if (folder / triton_config.FILE).is_file():
        value |= triton_config.read(folder / triton_config.FILE, name, device)
    if (folder / model_settings.FILE).is_file():
        value |= model_settings.read_toml(folder / model_settings.FILE)
    return model_settings.made(value, f"settings of {name}")


def _versions(folder: Path, settings: ModelSettings) -> dict[int, FoundVersion]:
    numbered = {int(entry.name): entry for entry in folder.iterdir() if _is_version(entry)}
    if (folder / SAVED_MODEL).is_file() or not numbered:
        numbered = {1: folder}
    said = [folder / name for name in _SETTINGS_FILES if (folder / name).is_file()]
    return {number: _version(path, settings, said) for number, path in numbered.items()}


def _version(folder: Path, settings: ModelSettings, said: list[Path]) -> FoundVersion:
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    stamp = _stamp({*files, *said})
    try:
        return FoundVersion(_model_of(folder, settings.model_file), stamp)
    except ModelNotFound as error:
        return FoundVersion(folder, stamp, str(error))


def _model_of(folder: Path, model_file: str | None) -> Path:
    """Return what of a version's folder is the model; ModelNotFound says why nothing is."""
    if model_file is not None:
        if not (folder / model_file).exists():
            raise ModelNotFound(f"{folder} holds no {model_file}")
        return folder / model_file
    if (folder / SAVED_MODEL).is_file():
        return folder
    models = sorted(entry for entry in folder.iterdir() if _is_one_model(entry))
    named = [entry for entry in models if entry.stem == "model"]  # as Triton has them
    if len(models) == 1 or len(named) == 1:
        return models[0] if len(models) == 1 else named[0]
    if models:
        names = ", ".join(entry.name for entry in models[:8])
        raise ModelNotFound(f"{folder} holds several models, {names}: say which by model_file in model.toml")
    raise ModelNotFound(f"{folder} holds no model{directories.explanation(folder)}")


def _is_one_model(entry: Path) -> bool:
    if entry.is_dir():
        return (entry / SAVED_MODEL).is_file() and not _is_version(entry)
    return entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")


def _is_version(entry: Path) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,17}", entry.name) is not None and entry.is_dir()


def _is_model(folder: Path) -> bool:
    """Whether a folder is a model itself, and not one of models."""
    if (folder / SAVED_MODEL).is_file() or any((folder / name).is_file() for name in _SETTINGS_FILES):
        return True
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return bool(entries) and all(_is_version(entry) for entry in entries)


def _why_one(folder: Path) -> str:
    signs = [name for name in (*_SETTINGS_FILES, SAVED_MODEL) if (folder / name).is_file()]
    return f"{signs[0]} lies at its root" if signs else "it holds numbered versions alone"


def _refuse_others(folder: Path, model: FoundModel) -> None:
    """Refuse settings at the root of a folder of models, which would take away all that is served of it."""
    if (folder / SAVED_MODEL).is_file():
        return  # what lies in its folders is its own
    own = {version.path.relative_to(folder).parts[:1] for version in model.versions.values()}
    names = [entry.name for entry in sorted(folder.iterdir()) if _is_folder_of_model(entry)]
    if any((name,) not in own for name in names):
        raise InvalidInput(
            f"the folder of models {folder}: {_why_one(folder)}, which makes the whole folder one "
            f"model, and other models lie in it: {', '.join(names[:8])}; move that file into its model's folder"
        )


def _is_folder_of_model(entry: Path) -> bool:
    """Whether an entry is a folder with a model in it, and no version of another."""
    if not entry.is_dir() or entry.name.startswith(".") or _is_version(entry):
        return False
    return _is_model(entry) or any(_is_one_model(each) for each in entry.iterdir())


def _stamp(files: Iterable[Path]) -> Stamp:
    marks: list[tuple[str, int, int, int]] = []
    for path in files:
        if len(marks) >= MAX_STAMPED_FILES:
            break
        try:
            about = path.stat()
        except OSError:  # gone since it was listed
            continue
        marks.append((str(path), about.st_size, about.st_mtime_ns, about.st_ino))
    return tuple(sorted(marks))
