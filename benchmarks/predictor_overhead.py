"""What EIPredictor's Python costs a call, beside the bytes on the socket: for 1 KB and for a 1080p frame.

`python -m benchmarks.predictor_overhead [--json FILE] [--rounds N]`. Two figures each, in microseconds of the calling
thread's processor time, which other processes disturb less than a clock's:

- checks: a call whose model is replaced by one that answers at once, so casting, checks and the dictionaries; this has
  a bound;
- client: a whole call, HTTP included, less a bare loop that sends the very same bytes on a socket of the same kind and
  reads the answer.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import Bystanders, Row, Summary, describe_machine, flat, interleave, table, write_json
from elastic_inference import EIPredictor
from elastic_inference.client.prediction import Prediction
from elastic_inference.deadline import Deadline
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model

LIMIT_MICROSECONDS = 30.0
SHAPES = {"1 KB": (1, 18, 19, 3), "1080p frame": (1, 1080, 1920, 3)}
WARM_UP_CALLS = 20


class AtOnce:
    """Stands where the model stands, and answers without doing anything."""

    def __init__(self, signature: Any) -> None:
        self.signature = signature

    def predict(self, inputs: Any, deadline: Deadline) -> Prediction:  # noqa: ARG002
        return Prediction({"outputs": _ANSWER})

    def close(self) -> None:
        pass


_ANSWER = np.zeros(1, np.float32)


class BareLoop:
    """The bytes of one call, sent and answered without any of our code."""

    def __init__(self, predictor: EIPredictor, inputs: dict[str, Any]) -> None:
        pool = predictor._model._pool  # type: ignore[attr-defined]
        with pool.connection(Deadline(10.0)) as connection:
            stream, kept = connection.stream, []
            send = stream.send
            stream.send = lambda views: (kept.extend(views), send(views))
        predictor(inputs)  # takes the connection that was given back last
        stream.send = send
        self._request = [memoryview(part).cast("B") for part in kept]
        self._sock: socket.socket = pool.address.endpoint.connect(10.0)
        self._buffer = bytearray(1 << 16)

    def __call__(self) -> None:
        views = list(self._request)
        while views:
            sent = self._sock.sendmsg(views)
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if views:
                views[0] = views[0][sent:]
        received = 0
        head_end = -1
        while head_end < 0 or received < self._length:
            received += self._sock.recv_into(memoryview(self._buffer)[received:])
            if head_end < 0:
                head_end = self._buffer.find(b"\r\n\r\n", 0, received)
                self._length = head_end + 4 + self._content_length(head_end)

    def _content_length(self, head_end: int) -> int:
        head = bytes(self._buffer[:head_end]).lower()
        return int(head.split(b"content-length:")[-1].split(b"\r\n")[0])

    def close(self) -> None:
        self._sock.close()


def turn(call: Callable[[], object], count: int) -> Callable[[], Sequence[float]]:
    """A turn of `count` calls; microseconds of this thread's processor time each."""

    def run() -> Sequence[float]:
        for _ in range(WARM_UP_CALLS):
            call()
        samples = []
        for _ in range(count):
            start = time.thread_time_ns()
            call()
            samples.append((time.thread_time_ns() - start) / 1e3)
        return samples

    return run


def measure(running: RunningAccelerator, model: Path, name: str, rounds: int) -> list[Row]:
    """Both figures for one size."""
    inputs = {"inputs": np.zeros(SHAPES[name], np.uint8)}
    count = 500 if name == "1 KB" else 100
    with (
        EIPredictor(model, address=running.address, token=running.token, use_shared_memory=False) as whole,
        EIPredictor(model, address=running.address, token=running.token) as checks,
    ):
        bare = BareLoop(whole, inputs)
        remote, checks._model = checks._model, AtOnce(checks._model.signature)
        try:
            contestants = {
                "checks": turn(lambda: checks(inputs), count * 4),
                "whole": turn(lambda: whole(inputs), count),
                "bare": turn(bare, count),
            }
            taken = interleave(contestants, rounds)
        finally:
            checks._model = remote
            bare.close()
    differences = [
        statistics.median(w) - statistics.median(b)
        for w, b in zip(taken["whole"], taken["bare"], strict=True)
    ]
    return [
        _row(f"casting, checks, dictionaries: {name}", taken["checks"], None, None),
        _row(f"whole client beside the bytes: {name}", taken["whole"], taken["bare"], differences),
    ]


def _row(
    what: str,
    ours: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]] | None,
    differences: Sequence[float] | None,
) -> Row:
    summary = Summary.of(flat(ours))
    beside = None if other is None else Summary.of(flat(other))
    figure = summary.median if beside is None else summary.median - beside.median
    return Row(
        f"{what} (us)",
        f"{summary.median:.1f} us ({summary.p10:.1f}-{summary.p90:.1f})",
        "" if beside is None else f"{beside.median:.1f} us ({beside.p10:.1f}-{beside.p90:.1f})",
        figure,
        must=LIMIT_MICROSECONDS if beside is None else None,
        spread=None if differences is None else (min(differences), max(differences)),
        detail={"ours_us": summary, "bare_us": beside},
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    bystanders = Bystanders()
    with TemporaryDirectory() as folder, start_accelerator(("unix:{folder}/a.sock",)) as running:
        model = write_model(Path(folder) / "quick.testing")
        rows = [row for name in SHAPES for row in measure(running, model, name, arguments.rounds)]
    print(table(rows, ("measure", "ours", "bare bytes", "Python (us)", "must", "aim", "verdict")))
    share = bystanders.share()
    print(f"others used {share:.0%} of the machine meanwhile")
    if arguments.json:
        write_json(arguments.json, rows, describe_machine(), bystander_share=share)


if __name__ == "__main__":
    main()
