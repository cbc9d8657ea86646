"""MLServer: a runtime that answers one number, called over gRPC with the frame as one BYTES element.

Of what its API offers this is the quickest road: as a UINT8 tensor, over gRPC as over HTTP, a frame becomes a
Python list of six million integers (about 0.4 s). Its HTTP door has no binary tensors in this version.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from functools import partial
from typing import Any

import grpc
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

from benchmarks.dataplane.drivers.drive import drive, free_port, in_threads, server
from benchmarks.dataplane.payloads import PAYLOADS

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def serve(port: int) -> None:
    """Be the server, without its metrics, gzip and worker pool, which would only cost time here."""
    from mlserver import MLServer
    from mlserver.settings import ModelSettings, Settings

    from benchmarks.dataplane.drivers.mlserver_runtime import Noop

    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=free_port(),
        grpc_port=port,
        grpc_max_message_length=-1,
        metrics_endpoint=None,
        parallel_workers=0,
        gzip_enabled=False,
        load_models_at_startup=False,
    )
    asyncio.run(_run(MLServer(settings), ModelSettings(name="noop", implementation=Noop)))


async def _run(mlserver: Any, model: Any) -> None:
    serving = asyncio.create_task(mlserver.start([model]))
    await serving


def _exchange(infer: Any, payload: bytes) -> None:
    request = messages.ModelInferRequest(
        model_name="noop",
        inputs=[messages.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])],
        raw_input_contents=[struct.pack("<I", len(payload)) + payload],
    )
    infer(request, timeout=60)


def main() -> None:
    """Drive, or be the server where a port is given."""
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
        return
    port = free_port()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS)
    infer = GRPCInferenceServiceStub(channel).ModelInfer
    command = [sys.executable, "-m", __spec__.name, str(port)]
    with server(command, partial(_exchange, infer, PAYLOADS["small"])):
        exchanges = {name: partial(_exchange, infer, payload) for name, payload in PAYLOADS.items()}
        drive(exchanges, {"in_flight": partial(in_threads, [exchanges["frame"]] * 4)})


if __name__ == "__main__":
    main()
