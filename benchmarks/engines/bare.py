"""Bare OpenVINO: the graph that an accelerator runs, in this process, and behind a socket without any protocol.

The latter is what another process costs at least: its frame is copied into shared memory, one message goes there, the
outputs come back as one message. `python -m benchmarks.engines.bare` is its other end, which `Behind` starts.
"""

from __future__ import annotations

import mmap
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from benchmarks.engines.subjects import SUBJECTS, Subject
from elastic_inference.engines.openvino.rewrites.driver import install, rewrite
from elastic_inference.models.graph_pb2 import GraphDef
from elastic_inference.models.tensor_graph import TensorGraph

THREADS = 2
HINTS = {"fp32": "f32", "bf16": "bf16"}
_HEAD_BYTES = 512  # about as long as a request and an answer of ours
_MOST_BYTES = 1 << 20  # of an answer


def call_of(
    subject: Subject, path: Path, picture: npt.NDArray[Any], hint: str, *, is_rewritten: bool = True
) -> Callable[[], list[npt.NDArray[Any]]] | None:
    """Return a call of OpenVINO alone, which reads the picture in place; None where it cannot be compiled."""
    core = ov.Core()
    graph_def = GraphDef.FromString(path.read_bytes())
    fetches = list(subject.outputs.values())
    reach = TensorGraph(graph_def).reach(fetches, ())
    kept = [node for node in graph_def.node if node.name in reach.nodes]
    del graph_def.node[:]
    graph_def.node.extend(kept)
    if is_rewritten:
        install(core)
        rewrite(core, graph_def, fetches, in_bfloat16=hint == "bf16")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "graph.pb")
        file.write_bytes(graph_def.SerializeToString())
        properties = {
            "INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": THREADS,
            "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        try:
            request = core.compile_model(core.read_model(file), "CPU", properties).create_infer_request()
        except RuntimeError as error:
            print(f"bare OpenVINO, {hint}: {str(error).strip().splitlines()[-2:]}", file=sys.stderr)
            return None
    tensor = ov.Tensor(picture, shared_memory=True)

    def call() -> list[npt.NDArray[Any]]:
        request.infer([tensor])
        return [output.data.copy() for output in request.output_tensors]

    return call


class Behind:
    """Bare OpenVINO in a process of its own; a call copies the picture there and brings the outputs back."""

    def __init__(self, subject: Subject, picture: npt.NDArray[Any], hint: str) -> None:
        self._bytes = picture.reshape(-1).view(np.uint8).data
        self._socket, theirs = socket.socketpair()
        with tempfile.TemporaryFile(dir="/dev/shm") as file, theirs:  # in memory, without a name
            file.truncate(picture.nbytes)
            self._memory = memoryview(mmap.mmap(file.fileno(), picture.nbytes))
            given = (theirs.fileno(), file.fileno())
            shape = ",".join(map(str, picture.shape))
            arguments = [subject.name, hint, str(picture.dtype), shape, *map(str, given)]
            command = [sys.executable, "-m", "benchmarks.engines.bare", *arguments]
            self._process = subprocess.Popen(command, pass_fds=given)
        if not self._socket.recv(1):
            raise RuntimeError(f"bare OpenVINO behind a socket ended with status {self._process.wait()}")

    def __call__(self) -> bytes:
        """Run once; the bytes of all outputs."""
        self._memory[:] = self._bytes
        self._socket.send(bytes(_HEAD_BYTES))
        return self._socket.recv(_MOST_BYTES)

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait()


def main() -> None:
    """Answer until the other end closes."""
    name, hint, dtype, shape_text, *given = sys.argv[1:]
    theirs, file = map(int, given)
    subject = next(subject for subject in SUBJECTS if subject.name == name)
    assert subject.path is not None
    shape = tuple(map(int, shape_text.split(",")))
    memory = mmap.mmap(file, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    call = call_of(subject, subject.path, np.frombuffer(memory, dtype).reshape(shape), hint)
    if call is None:
        return
    with socket.socket(fileno=theirs) as end:
        call()
        end.send(b"!")
        while end.recv(_HEAD_BYTES):
            end.sendmsg([bytes(_HEAD_BYTES), *(output.reshape(-1).view(np.uint8).data for output in call())])


if __name__ == "__main__":
    main()
