"""Our gRPC beside grpcio's own server, by turns: `python -m benchmarks.dataplane.grpc_servers [--rounds N]`.

Both give back one tensor to NVIDIA's client. grpcio's server does the least that an echo has to: it reads the request,
puts the tensor's bytes into an answer and writes that; no queue, no model, no token.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from benchmarks.common import Bystanders, Ratio, interleave
from elastic_inference import EIPredictor
from elastic_inference.testing import start_accelerator, write_model

SIZES = {"1 KB": (1024, 300), "frame of 6.22 MB": (6_220_800, 12)}  # bytes, and exchanges of a turn


@contextlib.contextmanager
def grpcio() -> Iterator[str]:
    """grpcio's server in a process of its own; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def serve() -> None:
    """Serve until ended."""
    from concurrent import futures

    import grpc
    from tritonclient.grpc import service_pb2

    def infer(data: bytes, _: Any) -> bytes:
        request = service_pb2.ModelInferRequest.FromString(data)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        answer.outputs.add(name="x", datatype="UINT8", shape=list(request.inputs[0].shape))
        answer.raw_output_contents.append(request.raw_input_contents[0])
        return bytes(answer.SerializeToString())

    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=unlimited)
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def turn(client: Any, headers: dict[str, str], values: Any, count: int) -> list[float]:
    """Seconds of each of `count` exchanges."""
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        tensor = triton.InferInput("x", list(values.shape), "UINT8")
        tensor.set_data_from_numpy(values)
        client.infer("echo", [tensor], headers=headers)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Print p50 of both and the median of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    bystanders = Bystanders()
    tensor = {"x": ("uint8", (None, None))}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        accelerator = stack.enter_context(start_accelerator())
        model = write_model(folder / "echo.testing", tensor, tensor)
        stack.enter_context(
            EIPredictor(model, address=accelerator.address, token=accelerator.token, name="echo")
        )
        addresses = {
            "ours": accelerator.address.removeprefix("tcp:"),
            "grpcio": stack.enter_context(grpcio()),
        }
        clients = {n: stack.enter_context(triton.InferenceServerClient(a)) for n, a in addresses.items()}
        headers = {"authorization": f"Bearer {accelerator.token}"}
        for label, (size, count) in SIZES.items():
            values = np.zeros((1, size), np.uint8)
            turns: dict[str, Callable[[], list[float]]] = {
                name: partial(turn, client, headers, values, count) for name, client in clients.items()
            }
            taken = interleave(turns, arguments.rounds)
            p50 = {
                name: statistics.median(t for each in rounds for t in each) for name, rounds in taken.items()
            }
            ratio = Ratio.of(taken["ours"], taken["grpcio"])
            spread = f"{ratio.median:.2f} ({ratio.lowest_round:.2f}-{ratio.highest_round:.2f})"
            ours, other = p50["ours"] * 1e3, p50["grpcio"] * 1e3
            print(f"{label}: ours {ours:.3f} ms, grpcio {other:.3f} ms, ratio {spread}", flush=True)
    print(f"other processes used {bystanders.share():.0%} of the cores meanwhile")


if __name__ == "__main__":
    main()
