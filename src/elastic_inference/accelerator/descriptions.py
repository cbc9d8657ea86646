"""Models as JSON: the protocol's metadata, configuration, index and statistics, and what our own client reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from elastic_inference.accelerator.model_table import Histogram, ModelEntry
from elastic_inference.tensors import WIRE_NAMES, TensorSpec


def _tensors(specs: Any) -> list[dict[str, Any]]:
    def entry(alias: str, spec: TensorSpec) -> dict[str, Any]:
        shape = [-1 if size is None else size for size in spec.shape] if spec.shape is not None else [-1]
        return {"name": alias, "datatype": WIRE_NAMES[spec.base_dtype], "shape": shape}

    return [entry(alias, spec) for alias, spec in specs.items()]


def metadata(entry: ModelEntry) -> dict[str, Any]:
    """Return the protocol's metadata of a loaded model: its inputs and outputs."""
    assert entry.model is not None
    return {
        "name": entry.name,
        "versions": ["1"],
        "platform": entry.model.report.engine,
        "inputs": _tensors(entry.model.signature.inputs),
        "outputs": _tensors(entry.model.signature.outputs),
    }


def config(entry: ModelEntry) -> dict[str, Any]:
    """Return the protocol's metadata and, beside it, what our own client wants to know."""
    assert entry.model is not None
    return metadata(entry) | {
        "max_batch_size": 0,
        "signature": entry.model.signature.to_json(),
        "report": asdict(entry.model.report),
        "warm_up_seconds": entry.warm_up_seconds,
        "warm_up_note": entry.warm_up_note,
        "content_hash": entry.content_hash,
        "proof": entry.proof.summary(),
    }


def index_entry(entry: ModelEntry) -> dict[str, Any]:
    """Return a row of the repository index; the entry may still load or have failed."""
    return {"name": entry.name, "version": "1", "state": entry.state.value, "reason": entry.reason}


def summary(entry: ModelEntry) -> dict[str, Any]:
    """Return a row of `GET /v2/accelerator`: the index's, with counts and service seconds."""
    with entry.lock:
        return {
            **index_entry(entry),
            "num_by_outcome": dict(entry.statistics.num_by_outcome),
            "service_seconds": entry.statistics.service.sum_seconds,
        }


def statistics(entry: ModelEntry) -> dict[str, Any]:
    """Return the statistics extension's form; durations in nanoseconds, as it has them."""
    with entry.lock:
        statistics = entry.statistics
        num_ok = statistics.num_by_outcome["success"]
        num_failed = sum(statistics.num_by_outcome.values()) - num_ok

        def duration(histogram: Histogram) -> dict[str, int]:
            return {"count": num_ok, "ns": int(histogram.sum_seconds * 1e9)}

        nothing = {"count": num_ok, "ns": 0}
        total = statistics.queue.sum_seconds + statistics.service.sum_seconds
        return {
            "name": entry.name,
            "version": "1",
            "last_inference": statistics.last_inference_unix_ms,
            "inference_count": num_ok,
            "execution_count": num_ok,
            "inference_stats": {
                "success": {"count": num_ok, "ns": int(total * 1e9)},
                "fail": {"count": num_failed, "ns": int(statistics.failed_seconds * 1e9)},
                "queue": duration(statistics.queue),
                "compute_input": nothing,
                "compute_infer": duration(statistics.service),
                "compute_output": nothing,
            },
            "batch_stats": [],
        }
