"""Loads by command: what a client asks for by name, by a configuration, or with the files themselves.

Triton's clients send `{"config": JSON, "file:1/model.onnx": bytes}`: the files of a model's folder, by their paths.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.model_table import ModelTable
from elastic_inference.accelerator.repository import layout, model_settings, triton_config
from elastic_inference.accelerator.repository.intake import load_of
from elastic_inference.accelerator.repository.repository import Repository
from elastic_inference.errors import ElasticInferenceError, InvalidInput, ModelNotFound
from elastic_inference.models.package import ModelFormat

CONFIG, FILE_PREFIX = "config", "file:"
MAX_FILES = 1000


class LoadCommands:
    """Answers loads and unloads by command.

    Args:
        scratch: Where files lie while they are read.
        repository: The folder that is served; None where there is none.
        defaults: Engine and precision of models that name none.
        device: What computes.
    """

    def __init__(
        self,
        models: ModelTable,
        store: ModelStore,
        scratch: Path,
        repository: Repository | None,
        defaults: Mapping[str, Any],
        device: str,
    ) -> None:
        self._models = models
        self._store = store
        self._scratch = scratch
        self._repository = repository
        self._defaults = defaults
        self._device = device

    def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load a model.

        Args:
            parameters: `config`, JSON of Triton's message, and `file:PATH`, bytes or text in base64; or none of them.

        Raises:
            InvalidInput: A parameter is unknown or malformed, or asks for what is not offered.
            ModelNotFound: There is no model of that name, and no files came.
            ElasticInferenceError: Whatever loading says; what was that version before continues to answer.
        """
        for parameter in parameters:
            if parameter != CONFIG and not parameter.startswith(FILE_PREFIX):
                raise InvalidInput(f"failed to load {name!r:.80}: unknown parameter {parameter!r:.80}")
        settings = None
        if CONFIG in parameters:
            settings = _read_config(parameters[CONFIG], name, self._device)
        files = {key.removeprefix(FILE_PREFIX): v for key, v in parameters.items() if key != CONFIG}
        if files:
            self._load_files(name, files, settings)
        elif self._repository is not None and self._repository.has(name):
            self._repository.load(name, settings)
        elif settings is None:
            self._models.load_again(name)
        else:
            self._load_anew(name, settings)

    def unload(self, name: str) -> None:
        """Take a model away, or an alias; ModelNotFound where there is neither."""
        if self._repository is not None and self._repository.has(name):
            self._repository.unload(name)
        else:
            self._models.unload(name)

    def _load_files(self, name: str, files: Mapping[str, Any], settings: Mapping[str, Any] | None) -> None:
        if len(files) > MAX_FILES:
            raise InvalidInput(
                f"failed to load {name!r:.80}: {len(files)} files; at most {MAX_FILES} are taken"
            )
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            try:
                for path, content in files.items():
                    _write(Path(folder), path, content)
                loads = self._loads_of(name, Path(folder), settings)
            except ElasticInferenceError as error:
                raise _named(error, folder, name) from error
        self._put(name, loads)

    def _loads_of(
        self, name: str, folder: Path, settings: Mapping[str, Any] | None
    ) -> dict[str, dict[str, Any]]:
        """Take what lies in a folder into the store; returns the fields of a LoadRequest by version."""
        model = layout.look_at(name, folder, self._device)
        if model.problem:
            raise InvalidInput(f"failed to load {name!r:.80}: {model.problem}")
        if settings is not None:
            model = model.with_settings(settings)
        loads = {}
        for number in model.settings.choose(list(model.versions)):
            version = model.versions.get(number)
            if version is None or version.problem:
                why = "no file of it came" if version is None else version.problem
                raise ModelNotFound(f"failed to load {name!r:.80}: version {number}: {why}")
            load = load_of(version.path, model.settings, self._store, self._defaults)
            loads[str(number)] = {**load, "label": load["label"].replace(str(folder), name)}
        return loads

    def _put(self, name: str, loads: Mapping[str, Mapping[str, Any]]) -> None:
        """Serve these versions of a name in place of all that it meant before; where one fails, the others stay."""
        for version, load in loads.items():
            self._models.load_version(name, version, load)
        if self._repository is not None:
            self._repository.set_aside(name)
        for version in self._models.versions.all(name):
            if version not in loads:
                self._models.unload_version(name, version)

    def _load_anew(self, name: str, settings: Mapping[str, Any]) -> None:
        """Load a model that a client sent before with another configuration."""
        made = model_settings.made(settings, "config")
        versions = self._models.versions.all(name)
        if not versions:
            raise ModelNotFound(
                f"failed to load {name!r:.80}: a configuration alone is for a model that came from a folder or with "
                "files, and there is none of that name"
            )
        for version in versions:
            before = self._models.entry(name, version).load
            model_format = ModelFormat(before["package"]["format"])
            self._models.load_version(name, version, {**before, **made.load(model_format, self._defaults)})


def _read_config(text: Any, name: str, device: str) -> dict[str, Any]:
    try:
        return triton_config.read_json(text, name, device)
    except InvalidInput as error:  # with the words that Triton's own clients look for
        raise InvalidInput(f"failed to load {name!r:.80}: {error}") from error


def _named(error: ElasticInferenceError, folder: str, name: str) -> ElasticInferenceError:
    """Put the model's name into an error, in place of where its files lay for a moment."""
    if error.args and isinstance(error.args[0], str):
        error.args = (error.args[0].replace(folder, name), *error.args[1:])
    return error


def _write(folder: Path, path: str, content: Any) -> None:
    """Write a file that came; raises InvalidInput where its path leads out of the folder or it is no bytes."""
    parts = PurePosixPath(path).parts
    is_inside = parts and path == "/".join(parts) and not {"..", "/"} & set(parts)
    if not is_inside or len(path) > 500 or not path.isprintable() or "\\" in path:
        raise InvalidInput(
            f"file {path!r:.200} must be a path within the model's folder, such as 1/model.onnx"
        )
    if isinstance(content, str):
        try:
            content = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(f"file {path!r:.200} is no base64: {error}") from error
    if not isinstance(content, bytes | memoryview):
        raise InvalidInput(f"file {path!r:.200} must be bytes, or text in base64, not {content!r:.40}")
    target = folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:  # a file where another one's folder must be, or no room
        raise InvalidInput(f"file {path!r:.200} cannot be laid out: {error.strerror or error}") from error
