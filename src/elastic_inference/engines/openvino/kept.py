"""Compiled OpenVINO models in the artifact store, each with what reading it showed."""

from __future__ import annotations

import io
import json
import logging
import mmap
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.openvino.knowledge import Knowledge
from elastic_inference.engines.versions import code_key, cpu_key
from elastic_inference.models.artifacts.blobs import WrittenFile
from elastic_inference.models.artifacts.store import Artifact, Kind

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompiledModel:
    """A compiled model.

    Attributes:
        source: Where it comes from, for the report.
        memory: What its weights lie in; it must outlive the model and all of its requests, which do not hold it.
    """

    model: ov.CompiledModel
    knowledge: Knowledge
    source: str
    memory: object = None


def key_of(what: Mapping[str, Any], properties: Mapping[str, Any], options: EngineOptions) -> dict[str, Any]:
    """Return the key of a compiled model.

    Args:
        what: "model", its content hash, and all else that its operations depend on.
        properties: Those of OpenVINO, threads and precision among them.
    """
    return {
        **what,
        "engine": f"openvino {ov.__version__}",
        "device": options.device,
        "cpu": cpu_key(),
        "properties": dict(properties),
        "code": code_key(),
    }


def find(
    core: ov.Core, what: Mapping[str, Any], properties: Mapping[str, Any], options: EngineOptions
) -> CompiledModel | None:
    """Return a model from the store; None where it is not there, or is not one for this OpenVINO."""
    if options.store is None:
        return None
    found = options.store.get(Kind.COMPILED, key_of(what, properties, options))
    if found is None or found.path is None:
        return None
    try:
        knowledge = Knowledge.from_json(json.dumps(found.about["knowledge"]))
        model, memory = _imported(core, found.path, properties)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        found.release()
        log.warning("a compiled model of the store cannot be used", extra={"error": str(error)})
        return None
    weakref.finalize(model, found.release)
    return CompiledModel(model, knowledge, _told(found), memory)


def _imported(
    core: ov.Core, path: Path, properties: Mapping[str, Any]
) -> tuple[ov.CompiledModel, npt.NDArray[np.uint8]]:
    # Mapped and not read: what OpenVINO does not repack stays in the page cache. The file has a link of its own.
    with open(path, "rb") as file:
        mapped = mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_COPY
        )  # its binding takes only writeable memory
    memory = np.frombuffer(mapped, np.uint8)
    return core.import_model(ov.Tensor(memory, shared_memory=True), "CPU", dict(properties)), memory


def _told(found: Artifact) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(found.made_unix))
    whose = "the operator's store" if found.is_published else "the store"
    return f"from {whose}, compiled on {day} in {found.about['compile_seconds']:.1f} s"


def keep(
    model: ov.CompiledModel,
    knowledge: Knowledge,
    seconds: float,
    what: Mapping[str, Any],
    properties: Mapping[str, Any],
    options: EngineOptions,
) -> CompiledModel:
    """Put a model into the store that took so many seconds to read and compile; the source says where that failed."""
    source = f"compiled here in {seconds:.1f} s"
    if options.store is not None:
        about = {
            "engine": "openvino",
            "engine_version": str(ov.__version__).partition("-")[0],
            "precision": options.precision,
            "num_threads": properties["INFERENCE_NUM_THREADS"],
            "compile_seconds": seconds,
            "knowledge": json.loads(knowledge.to_json()),
        }
        why_not = options.store.put(
            Kind.COMPILED, key_of(what, properties, options), about, lambda file: _export(model, file)
        )
        if why_not:
            source += f"; not kept for the next load: {why_not}"
    return CompiledModel(model, knowledge, source)


def _export(model: ov.CompiledModel, file: WrittenFile) -> None:
    try:
        model.export_model(_Through(file))
    except RuntimeError as error:
        raise OSError(f"OpenVINO cannot write it: {error}") from error


class _Through(io.BytesIO):
    """What OpenVINO takes for a file in memory, and is one on the disk: a copy less of a large model."""

    def __init__(self, file: WrittenFile) -> None:
        super().__init__()
        self._file = file

    def write(self, data: Any) -> int:
        """Write all of it."""
        return self._file.write(data)

    def seek(self, position: int, whence: int = 0) -> int:
        """Go somewhere: OpenVINO leaves gaps, and fills in the beginning at last."""
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """Return where the next byte goes."""
        return self._file.tell()
