"""From a model's files on this machine to a load: hashed, copied into the store, and described.

Copied, so that whoever writes into the folder changes no model that is served from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.repository.model_settings import ModelSettings
from elastic_inference.errors import ElasticInferenceError, InvalidInput
from elastic_inference.models.package import ModelFile, ModelPackage

CHUNK_BYTES = 4 << 20


def load_of(
    path: Path, settings: ModelSettings, store: ModelStore, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Take a model into the store; returns the fields of a LoadRequest.

    Raises:
        ElasticInferenceError: It is no model, changed while it was read, or there is no room for it.
    """
    try:
        package = ModelPackage.read(path)
        for file in package.files:
            _take_in(store, package.root, file)
    except ElasticInferenceError:  # of which some are OSErrors too
        raise
    except OSError as error:
        raise InvalidInput(f"{error.filename or path} cannot be read: {error.strerror or error}") from error
    description = {"format": package.format.value, "files": [asdict(file) for file in package.files]}
    return {"package": description, "label": str(path), **settings.load(package.format, defaults)}


def _take_in(store: ModelStore, root: Path, file: ModelFile) -> None:
    if store.num_bytes(file.sha256)[1]:
        return
    with open(root / file.path, "rb") as source:
        store.append(file.sha256, 0, file.size_bytes, _chunks(source, file), file.size_bytes)


def _chunks(source: BinaryIO, file: ModelFile) -> Callable[[int], memoryview]:
    def chunk(wanted: int) -> memoryview:
        data = source.read(min(wanted, CHUNK_BYTES))
        if not data:
            raise InvalidInput(f"{file.path} became shorter while it was read")
        return memoryview(data)

    return chunk
