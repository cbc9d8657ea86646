"""`ei devices` and `ei types`: what a host has and what it offers."""

from __future__ import annotations

from typing import Any

import typer

from elastic_inference.cli._hosts import (
    CaOption,
    HostOption,
    JsonOption,
    TokenOption,
    names_host,
    open_session,
    print_json,
    print_table,
)
from elastic_inference.cli._support import extra
from elastic_inference.units import format_bytes


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("devices")(devices)
    app.command("types")(types)


def devices(
    host: HostOption = None, token: TokenOption = None, tls_ca: CaOption = None, as_json: JsonOption = False
) -> None:
    """List devices with their measured TFLOPS: a host's where one is named, else this machine's.

    \b
    Examples:
      ei devices
      ei devices --host http://127.0.0.1:8500 --json
    """
    is_remote = names_host(host)
    values = (
        open_session(host, token, tls_ca).request("GET", "/v1/devices") if is_remote else _local_devices()
    )
    if as_json:
        print_json(values)
        return
    rows = [
        (
            v["name"],
            v["model"],
            f"{v['num_cores']:g}",
            format_bytes(v["memory_bytes"]),
            ", ".join(f"{name} {value:.3g}" for name, value in v["tflops"].items()) or None,
        )
        for v in values
    ]
    print_table(("DEVICE", "MODEL", "CORES", "MEMORY", "TFLOPS (measured)"), rows, "no devices")


def types(
    host: HostOption = None, token: TokenOption = None, tls_ca: CaOption = None, as_json: JsonOption = False
) -> None:
    """List accelerator types: memory, compute, USD per hour, and how many still fit.

    \b
    Examples:
      ei types
      ei types --json
    """
    values = open_session(host, token, tls_ca).request("GET", "/v1/types")
    if as_json:
        print_json(values)
        return
    rows = [
        (
            v["name"],
            format_bytes(v["memory_bytes"]),
            v["compute"] + (", may burst" if v["may_burst"] else ""),
            v["usd_per_hour"],
            v["num_available"],
        )
        for v in values
    ]
    print_table(("TYPE", "MEMORY", "COMPUTE", "USD/HOUR", "AVAILABLE"), rows, "no types")


def _local_devices() -> list[dict[str, Any]]:
    with extra("host"):
        from elastic_inference.host.devices import list_devices
    return [
        {
            "name": device.name,
            "kind": device.kind,
            "model": device.model,
            "num_cores": device.num_cores,
            "memory_bytes": device.memory_bytes,
            "tflops": dict(device.tflops),
            "tflops_source": device.tflops_source,
        }
        for device in list_devices()
    ]
