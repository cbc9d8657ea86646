"""Ours: EIPredictor and an accelerator process whose testing engine answers one number at once.

The times are those of the whole call `predictor(inputs)`; nothing is taken off for the engine.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dataplane.drivers.drive import drive, in_threads
from benchmarks.dataplane.payloads import PAYLOADS, SHAPES
from elastic_inference import EIPredictor
from elastic_inference.testing import start_accelerator, write_model

LISTEN = {
    "tcp": "tcp:127.0.0.1:0",
    "tls": "tcp:127.0.0.1:0",
    "unix": "unix:{folder}/socket",
    "memory": "unix:{folder}/socket",
}


@dataclass(frozen=True)
class Served:
    """Where the accelerator is; `pid` is 0 where it runs elsewhere."""

    address: str
    token: str
    pid: int


@contextlib.contextmanager
def _own_accelerator(transport: str, tls_folder: str | None) -> Iterator[Served]:
    changes: dict[str, Any] = {"use_shared_memory": transport == "memory"}
    if tls_folder is not None:
        changes |= {"tls_cert": f"{tls_folder}/cert.pem", "tls_key": f"{tls_folder}/key.pem"}
    with start_accelerator((LISTEN[transport],), **changes) as accelerator:
        yield Served(accelerator.address, accelerator.token, accelerator.pid)


def _predictor(served: Served, folder: Path, case: str, tls_folder: str | None) -> EIPredictor:
    inputs = {"image": ("uint8", tuple(None for _ in SHAPES[case]))}
    model = write_model(folder / f"{case}.testing", inputs, {"answer": ("float32", (1,))})
    address = served.address.replace("127.0.0.1", "localhost") if tls_folder else served.address
    return EIPredictor(
        str(model),
        address=address,
        token=served.token,
        tls_ca=f"{tls_folder}/cert.pem" if tls_folder else None,
        warm_up=False,
    )


def _map(predictor: EIPredictor, inputs: dict[str, Any], count: int) -> None:
    for _ in predictor.map(itertools.repeat(inputs, count), in_flight=4):
        pass


def resident_bytes(pid: int) -> int:
    """Memory of a process that is not shared with files (VmRSS less RssFile), as the kernel counts it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return (int(fields["VmRSS"].split()[0]) - int(fields["RssFile"].split()[0])) * 1024


def main() -> None:
    """Drive, with an accelerator of our own or against `--connect`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transport", choices=LISTEN)
    parser.add_argument("--connect", metavar="ADDRESS")
    parser.add_argument("--token", default="")
    parser.add_argument("--tls", metavar="FOLDER", help="with cert.pem and key.pem")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.connect:
            served = Served(arguments.connect, arguments.token, 0)
        else:
            served = stack.enter_context(_own_accelerator(arguments.transport, arguments.tls))
        calls = {}
        for case, payload in PAYLOADS.items():
            predictor = stack.enter_context(_predictor(served, folder, case, arguments.tls))
            inputs = {"image": np.frombuffer(payload, np.uint8).reshape(SHAPES[case])}
            calls[case] = partial(predictor, inputs)
        frame = calls["frame"]

        def info() -> dict[str, Any]:
            own = resident_bytes(os.getpid())
            other = resident_bytes(served.pid) if served.pid else 0
            report = frame.func.report
            return {"client_bytes": own, "accelerator_bytes": other, "transport": report.transport}

        many = {
            "in_flight": partial(in_threads, [frame] * 4),
            "map": partial(_map, frame.func, frame.args[0]),
        }
        drive(calls, many, info)


if __name__ == "__main__":
    main()
