"""What a snapshot says of each accelerator and device, as one row of plain figures. Pure: figures in, rows out.

The page, `ei top` and `/v1/board` show these rows. Figures are rounded to what people read, so that a row changes only
when something did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.usage import UsageRow
from elastic_inference.host.meter import Reading

_MAX_MODELS = 20  # of one accelerator that are named
_PARTS = ("total", "queue", "service", "wire")


def accelerator_row(
    record: AcceleratorRecord,
    reading: Reading,
    rates: tuple[float, float],
    lease_left_seconds: float | None,
    usage: UsageRow | None,
) -> dict[str, Any]:
    """Return what is shown of one accelerator.

    Args:
        rates: Inferences a second, and the part of the time in which it was held back, over the last seconds.
        usage: Since it was attached; None: not summed up yet.
    """
    statistics: Any = reading.statistics
    queue = statistics.get("queue") or {}
    latency = statistics.get("latency") or {}
    lease = statistics.get("lease")
    models = statistics.get("models") or []
    usd = record.kind.usd_per_hour
    return {
        "accelerator_id": record.accelerator_id,
        "name": record.name,
        "tenant": record.tenant,
        "type": record.kind.name,
        "device": record.device,
        "share": record.share,
        "state": record.state.value,
        "is_healthy": reading.is_healthy,
        "created_at": round(record.created_at),
        "num_restarts": record.num_restarts,
        "last_exit": record.last_exit,
        "num_oom_kills": reading.num_oom_kills,
        "memory_bytes": _rounded(reading.memory_bytes, 1 << 20),
        "memory_limit_bytes": reading.memory_limit_bytes,
        "utilisation_share": None
        if reading.utilisation_share is None
        else round(reading.utilisation_share, 2),
        "num_waiting": queue.get("num_waiting", 0),
        "num_running": queue.get("num_running", 0),
        "requests_per_second": _figures(rates[0], 3),
        "throttled_share": round(min(1.0, rates[1]), 2),
        "throttled_seconds": round(reading.sample.throttled_seconds, 1),
        "lease_wait_seconds": None if lease is None else round(lease["wait_seconds"], 1),
        "lease_left_seconds": None if lease_left_seconds is None else round(lease_left_seconds, -1),
        "p50": _latency(latency.get("p50")),
        "p99": _latency(latency.get("p99")),
        "num_models": len(models),
        "models": [_model(model) for model in models[:_MAX_MODELS]],
        "usd_per_hour": None if usd is None else f"{usd:f}",
        "cost_usd": None if usage is None or usage.cost_usd is None else f"{usage.cost_usd:.4f}",
        "inferences": None if usage is None else usage.inferences,
        "usd_per_100k": None if usage is None or usage.usd_per_100k is None else f"{usage.usd_per_100k:.4f}",
    }


def device_rows(
    capacity: Capacity, sharing: Mapping[str, str], rows: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what is granted and what is used of each device.

    Args:
        sharing: By what means each is shared.
        rows: Of the accelerators.
    """
    all_rows = list(rows)
    return [_device(capacity, device, sharing.get(device.name, ""), all_rows) for device in capacity.devices]


def _device(
    capacity: Capacity, device: DeviceCapacity, sharing: str, rows: list[Mapping[str, Any]]
) -> dict[str, Any]:
    mine = [row for row in rows if row["device"] == device.name]
    left_share, left_bytes = capacity.left(device)
    used = sum((row["utilisation_share"] or 0.0) * row["share"] for row in mine)
    waits = [row["lease_wait_seconds"] for row in mine if row["lease_wait_seconds"] is not None]
    return {
        "name": device.name,
        "kind": device.kind,
        "sharing": sharing,
        "num_accelerators": len(mine),
        "granted_share": round(1.0 - left_share, 4),
        "used_share": round(used, 2),
        "offered_memory_bytes": device.memory_bytes,
        "granted_memory_bytes": device.memory_bytes - left_bytes,
        "used_memory_bytes": sum(row["memory_bytes"] for row in mine) if device.kind == "cpu" else None,
        "lease_wait_seconds": round(sum(waits), 1) if waits else None,
    }


def _latency(parts: Mapping[str, float] | None) -> dict[str, float] | None:
    if parts is None:
        return None
    return {f"{name}_ms": _figures(parts[f"{name}_seconds"] * 1000, 3) for name in _PARTS}


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    counts = model["num_by_outcome"]
    num_ok = counts.get("success", 0)
    return {
        "name": model["name"],
        "state": model["state"],
        "reason": model["reason"],
        # An accelerator from before the host's last upgrade does not say these, and serves on.
        "engine": model.get("engine"),
        "precision": model.get("precision"),
        "device": model.get("device"),
        "proof": model.get("proof", ""),
        "num_ok": num_ok,
        "num_failed": sum(counts.values()) - num_ok,
        "mean_service_ms": _figures(model["service_seconds"] / num_ok * 1000, 3) if num_ok else None,
    }


def _figures(value: float, num_figures: int) -> float:
    return float(f"{value:.{num_figures}g}")


def _rounded(num_bytes: int, unit: int) -> int:
    return round(num_bytes / unit) * unit
