"""Models in int8 in the artifact store: calibrated once on a user's samples, compiled anew by whoever needs it."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.openvino.knowledge import Knowledge
from elastic_inference.errors import InvalidInput
from elastic_inference.models.artifacts.store import Artifact, Kind

log = logging.getLogger(__name__)


def identity(what: Mapping[str, Any], options: EngineOptions) -> Mapping[str, Any]:
    """Return what a compiled model's operations depend on: in int8, on how it was calibrated too."""
    if options.precision != "int8":
        return what
    found = _artifact(what, options)
    if found is None:
        return {**what, "calibrated": None}
    found.release()
    return {**what, "calibrated": found.sha256}


def keep(model: ov.Model, knowledge: Knowledge, what: Mapping[str, Any], options: EngineOptions) -> None:
    """Put a model into the store, with what is known of it; the log says where that cannot be."""
    if options.store is None:
        return
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        ov.serialize(model, xml, weights)
        graph = xml.read_bytes()
        about = {
            "engine": "openvino",
            "engine_version": str(ov.__version__).partition("-")[0],
            "precision": options.precision,
            "num_samples": len(options.calibration),
            "graph_bytes": len(graph),
            "knowledge": json.loads(knowledge.to_json()),
        }
        data = graph + weights.read_bytes()
    why_not = options.store.put(Kind.CALIBRATED, _key(what), about, lambda file: file.write(data))
    if why_not:
        log.warning("a calibrated model is not kept", extra={"why": why_not})


def find(core: ov.Core, what: Mapping[str, Any], options: EngineOptions) -> tuple[ov.Model, Knowledge]:
    """Return the model in int8, with what is known of it.

    Raises:
        InvalidInput: It was never calibrated, or what was kept of it is gone or cannot be read; names the command.
    """
    found = _artifact(what, options)
    if found is not None and found.path is not None:
        try:
            data = found.path.read_bytes()
            size = int(found.about["graph_bytes"])
            weights = (
                np.frombuffer(data, np.uint8, offset=size) if len(data) > size else np.zeros(0, np.uint8)
            )
            model = core.read_model(data[:size], ov.Tensor(weights.copy()))
            return model, Knowledge.from_json(json.dumps(found.about["knowledge"]))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a calibrated model cannot be read", extra={"error": str(error)})
        finally:
            found.release()
    where = "no store is in use" if options.store is None else f"in {options.store.blobs.directory}"
    raise InvalidInput(
        "precision 'int8' needs a model that was quantized on samples of yours, and none is kept for this one "
        f"({where}): run `ei compile MODEL --precision int8 --calibration FOLDER`"
    )


def _artifact(what: Mapping[str, Any], options: EngineOptions) -> Artifact | None:
    return None if options.store is None else options.store.get(Kind.CALIBRATED, _key(what))


def _key(what: Mapping[str, Any]) -> dict[str, Any]:
    return {**what, "engine": f"openvino {ov.__version__}", "precision": "int8"}
