"""Models as JSON: the protocol's metadata, configuration, index and statistics, and what our own client reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from elastic_inference.accelerator.expectations import input_format
from elastic_inference.accelerator.model_entry import ModelEntry, ModelState
from elastic_inference.accelerator.model_statistics import Histogram
from elastic_inference.accelerator.repository.repository import Repository
from elastic_inference.accelerator.versions import FIRST
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import WIRE_NAMES, TensorSpec

# No number of rows is refused as such, and this is the largest that the field can say.
MAX_BATCH_SIZE = (1 << 31) - 1


def _tensors(specs: Mapping[str, TensorSpec]) -> list[dict[str, Any]]:
    def entry(alias: str, spec: TensorSpec) -> dict[str, Any]:
        shape = [-1 if size is None else size for size in spec.shape] if spec.shape is not None else [-1]
        return {"name": alias, "datatype": WIRE_NAMES[spec.base_dtype], "shape": shape}

    return [entry(alias, spec) for alias, spec in specs.items()]


def metadata(entry: ModelEntry, versions: Sequence[str] = ()) -> dict[str, Any]:
    """Return the protocol's metadata of a loaded model: its inputs and outputs.

    Args:
        versions: All that are served of it; none: this one alone.
    """
    assert entry.model is not None
    return {
        "name": entry.name,
        "versions": list(versions or [entry.version]),
        "platform": entry.model.report.engine,
        "inputs": _tensors(entry.model.signature.inputs),
        "outputs": _tensors(entry.model.signature.outputs),
    }


def _max_batch_size(signature: Signature) -> int:
    """Return Triton's max_batch_size: 0 unless the first axis of every tensor is open and not its only one.

    Only then may a client that reads it put requests together along that axis, and leave it out of the shapes.
    """
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    is_batch = all(spec.shape is not None and len(spec.shape) > 1 and spec.shape[0] is None for spec in specs)
    return MAX_BATCH_SIZE if specs and is_batch else 0


def _config_tensors(specs: Mapping[str, TensorSpec], skipped_axes: int) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor["name"],
            "data_type": "TYPE_STRING" if tensor["datatype"] == "BYTES" else f"TYPE_{tensor['datatype']}",
            "dims": tensor["shape"][skipped_axes:],
        }
        for tensor in _tensors(specs)
    ]


def config(entry: ModelEntry) -> dict[str, Any]:
    """Return Triton's configuration of a loaded model and, beside it, what our own client wants to know."""
    assert entry.model is not None
    signature = entry.model.signature
    max_batch_size = _max_batch_size(signature)
    if max_batch_size:  # as a folder's config.pbtxt, or the load, said it
        max_batch_size = entry.load.get("max_batch_rows") or max_batch_size
    return metadata(entry) | {
        "backend": entry.model.report.engine,
        "max_batch_size": max_batch_size,
        "input": [
            {**tensor, "format": input_format(entry.load, tensor["name"])}
            for tensor in _config_tensors(signature.inputs, int(max_batch_size > 0))
        ],
        "output": _config_tensors(signature.outputs, int(max_batch_size > 0)),
        "instance_group": [{"name": entry.name, "kind": "KIND_AUTO", "count": 1}],
        "signature": signature.to_json(),
        "report": asdict(entry.model.report),
        "warm_up_seconds": entry.warm_up_seconds,
        "warm_up_note": entry.warm_up_note,
        "last_shapes": entry.shapes.latest(),
        "content_hash": entry.package.content_hash,
        "proof": entry.proof.summary(),
        "batching": entry.batching.summary(),
    }


def index_entry(entry: ModelEntry) -> dict[str, Any]:
    """Return a row of the repository index; the entry may still load or have failed.

    While a further load chooses the precision of a model that answers, `stage` says what that does.
    """
    row = {"name": entry.name, "version": entry.version, "state": entry.state.value, "reason": entry.reason}
    return {**row, "stage": entry.stage} if entry.stage else row


def unloaded_entry(name: str) -> dict[str, Any]:
    """Return the repository index's row of a model that was unloaded and can be loaded again."""
    return {"name": name, "version": FIRST, "state": ModelState.UNAVAILABLE.value, "reason": "unloaded"}


def alias_entry(alias: str, entry: ModelEntry | None, target: str) -> dict[str, Any]:
    """Return the repository index's row of an alias, whose model may have been unloaded since."""
    state = ModelState.UNAVAILABLE if entry is None else entry.state
    version = FIRST if entry is None else entry.version
    return {"name": alias, "version": version, "state": state.value, "reason": f"alias of {target}"}


def with_absent(rows: Sequence[dict[str, Any]], repository: Repository | None) -> list[dict[str, Any]]:
    """Return the index with what is in the folder and not served; what is served in its place says why."""
    if repository is None:
        return list(rows)
    found = {(row["name"], row["version"]): dict(row) for row in rows}
    for each in repository.absent():
        state = ModelState.LOADING if each.is_coming else ModelState.UNAVAILABLE
        row = {**each.place._asdict(), "state": state.value, "reason": each.reason}
        served = found.setdefault(each.place, row)
        if served is not row:
            served["reason"] = f"its files as they are now cannot be served: {each.reason}"
    for row in found.values():
        row["reason"] = row["reason"] or repository.note(row["name"])
    return list(found.values())


def summary(entry: ModelEntry) -> dict[str, Any]:
    """Return a row of `GET /v2/accelerator`: the index's, with what computes it, counts and service seconds.

    Engine, precision and device are None while it loads.
    """
    report = None if entry.model is None else entry.model.report
    with entry.accounts() as done:
        return {
            **index_entry(entry),
            "name": entry.title,
            "engine": None if report is None else report.engine,
            "precision": None if report is None else report.precision,
            "device": None if report is None else report.device,
            "proof": entry.proof.summary(),
            "num_by_outcome": dict(done.num_by_outcome),
            "num_rows": done.num_rows,
            "num_executions": done.num_executions,
            "batching": entry.batching.summary(),
            "service_seconds": done.service.total,
        }


def histograms(entries: Iterable[ModelEntry]) -> dict[str, Any]:
    """Return how long successful requests of the loaded models took: the whole, queue and service; see Histogram."""
    sums = {"total": Histogram(), "queue": Histogram(), "service": Histogram()}
    for entry in entries:
        with entry.accounts() as done:
            for name, histogram in sums.items():
                histogram.add_all(getattr(done, name))
    return {name: histogram.to_json() for name, histogram in sums.items()}


def statistics(entry: ModelEntry) -> dict[str, Any]:
    """Return the statistics extension's form; durations in nanoseconds, as it has them."""
    with entry.accounts() as statistics:
        num_ok = statistics.num_by_outcome["success"]
        num_failed = sum(statistics.num_by_outcome.values()) - num_ok

        def duration(seconds: float) -> dict[str, int]:
            return {"count": num_ok, "ns": int(seconds * 1e9)}

        queue, service = statistics.queue.total, statistics.service.total
        total = statistics.input_seconds + queue + service + statistics.output_seconds
        return {
            "name": entry.name,
            "version": entry.version,
            "last_inference": statistics.last_inference_unix_ms,
            "inference_count": statistics.num_rows,
            "execution_count": statistics.num_executions,
            "inference_stats": {
                "success": duration(total),
                "fail": {"count": num_failed, "ns": int(statistics.failed_seconds * 1e9)},
                "queue": duration(queue),
                "compute_input": duration(statistics.input_seconds),
                "compute_infer": duration(service),
                "compute_output": duration(statistics.output_seconds),
            },
            "batch_stats": [],
        }
