"""grpcio: one unary method whose request and reply are protobuf messages with a bytes field."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.dataplane.drivers.drive import drive, free_port, in_threads, server
from benchmarks.dataplane.payloads import FRAME, PAYLOADS, REPLY

_METHOD = "/benchmark.Noop/Infer"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _infer(request: BytesValue, _: Any) -> BytesValue:
    np.frombuffer(request.value, np.uint8)
    return BytesValue(value=REPLY)


def serve(port: int) -> None:
    """Be the server."""
    handler = grpc.unary_unary_rpc_method_handler(
        _infer, request_deserializer=BytesValue.FromString, response_serializer=BytesValue.SerializeToString
    )
    service = grpc.method_handlers_generic_handler("benchmark.Noop", {"Infer": handler})
    grpc_server = grpc.server(ThreadPoolExecutor(4), handlers=(service,), options=_OPTIONS)
    grpc_server.add_insecure_port(f"127.0.0.1:{port}")
    grpc_server.start()
    grpc_server.wait_for_termination()


def _exchange(method: Any, payload: bytes) -> None:
    """Build the message for each call, as a client has to whose frames differ."""
    method(BytesValue(value=payload), timeout=60)


def main() -> None:
    """Drive, or be the server where a port is given."""
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
        return
    port = free_port()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS)
    infer = channel.unary_unary(
        _METHOD, request_serializer=BytesValue.SerializeToString, response_deserializer=BytesValue.FromString
    )
    command = [sys.executable, "-m", __spec__.name, str(port)]
    with server(command, partial(_exchange, infer, PAYLOADS["small"])):
        exchanges = {name: partial(_exchange, infer, payload) for name, payload in PAYLOADS.items()}
        four = [exchanges["frame"]] * 4
        assert len(FRAME) == 6_220_800
        drive(exchanges, {"in_flight": partial(in_threads, four)})


if __name__ == "__main__":
    main()
