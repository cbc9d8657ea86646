"""`ei devices` and `ei types`: what a host has and what it offers."""

from __future__ import annotations

import typer

from elastic_inference.cli._support import extra
from elastic_inference.cli.answers import DeviceAnswer, TypeOffer
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Listing


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_command(app, "devices", devices)
    add_command(app, "types", types)


def devices(access: HostAccess) -> Listing:
    """List devices with their measured TFLOPS.

    A host's devices if --host or EI_HOST names one, otherwise this machine's, which are measured the first time.

    \b
    Examples:
      ei devices
      ei devices --json
    """
    if not access.is_named:
        return Listing(DeviceAnswer, _local_devices())
    session = access.open()
    return Listing(DeviceAnswer, DeviceAnswer.read_all(session.request("GET", "/v1/devices"), session))


def types(access: HostAccess) -> Listing:
    """List accelerator types: size, price and how many fit.

    The operator's token shows how many of each still fit on the host.

    \b
    Examples:
      ei types
      ei types --json
    """
    session = access.open()
    return Listing(TypeOffer, TypeOffer.read_all(session.request("GET", "/v1/types"), session))


def _local_devices() -> list[DeviceAnswer]:
    with extra("host"):
        from elastic_inference.host.devices import list_devices
    return [
        DeviceAnswer(
            name=device.name,
            kind=device.kind,
            model=device.model,
            num_cores=device.num_cores,
            memory_bytes=device.memory_bytes,
            tflops=dict(device.tflops),
            tflops_source=device.tflops_source,
        )
        for device in list_devices()
    ]
