"""The row over a link held to 1 Gbit/s: how much of it four requests in flight use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.common import Ratio, Row, flat, interleave
from benchmarks.dataplane.contestant import ROOT, Contestant
from benchmarks.dataplane.link import BITS_PER_SECOND, Link, gigabit_link, why_not
from benchmarks.dataplane.loopback import Effort
from benchmarks.dataplane.payloads import FRAME

_RAW_PORT = 7001
_FRAMES_A_TURN = 60  # 3 s at the link's rate


def gigabit_rows(effort: Effort) -> list[Row]:
    """One row, or one that says why there is none."""
    reason = why_not()
    if reason is not None:
        return [Row(f"frames over a 1 Gbit/s link: {reason}", "", "", None)]
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(gigabit_link())
        stack.enter_context(_raw_server(link))
        address, token = stack.enter_context(_accelerator(link))
        raw_address = f"{link.server_host}:{_RAW_PORT}"
        raw = stack.enter_context(Contestant("raw", ["--connect", raw_address], prefix=link.client))
        arguments = ["tcp", "--connect", address, "--token", token]
        ours = stack.enter_context(Contestant("ours", arguments, prefix=link.client))
        count = effort.count(_FRAMES_A_TURN)
        turns = {
            "raw": partial(raw.turn, "in_flight", count),
            "ours": partial(ours.turn, "in_flight", count),
            "map": partial(ours.turn, "map", count),
        }
        samples = interleave(
            turns, max(2, effort.rounds // 3), lambda line: print("link:", line, file=sys.stderr)
        )
    return [
        _row("4 threads", samples["ours"], samples["raw"]),
        _row("map(in_flight=4)", samples["map"], samples["raw"]),
    ]


def _row(how: str, ours: list[list[float]], raw: list[list[float]]) -> Row:
    """Of what raw TCP gets through the same link; the share of the nominal rate stands in the cells."""
    ratio = Ratio.of(raw, ours)
    texts = []
    for rounds in (ours, raw):
        nanoseconds = statistics.median(flat(rounds))
        share = len(FRAME) * 8e9 / nanoseconds / BITS_PER_SECOND
        texts.append(f"{1e9 / nanoseconds:.2f} frames/s = {share:.1%} payload of 1 Gbit/s")
    return Row(
        f"1 Gbit/s link, 4 in flight by {how}: share of what raw TCP gets through it",
        *texts,
        ratio.median,
        0.95,
        0.99,
        is_upper=False,
        spread=(ratio.lowest_round, ratio.highest_round),
    )


@contextlib.contextmanager
def _raw_server(link: Link) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.dataplane.drivers.raw",
        "--serve",
        f"{link.server_host}:{_RAW_PORT}",
    ]
    process = subprocess.Popen([*link.server, *command], cwd=ROOT)
    try:
        _wait_for_port(link)
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for_port(link: Link) -> None:
    """Until the raw server accepts; 20 s at most."""
    code = f"import socket; socket.create_connection(('{link.server_host}', {_RAW_PORT}), 1).close()"
    for _ in range(40):
        done = subprocess.run([*link.client, sys.executable, "-c", code], capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.5)
    raise RuntimeError("the raw server in the namespace does not answer")


@contextlib.contextmanager
def _accelerator(link: Link) -> Iterator[tuple[str, str]]:
    """An accelerator with the testing engine in the server's namespace; gives its address and token."""
    from elastic_inference.accelerator.config import AcceleratorConfig

    token = secrets.token_urlsafe()
    with tempfile.TemporaryDirectory() as folder:
        config = AcceleratorConfig(
            accelerator_id=f"eia-{secrets.token_hex(16)}",
            listen=(f"tcp:{link.server_host}:0",),
            store_dir=str(Path(folder) / "store"),
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
        )
        process = subprocess.Popen(
            [*link.server, sys.executable, "-m", "elastic_inference.testing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(config.to_json() + "\n")
            process.stdin.close()
            ready = json.loads(process.stdout.readline())
            yield ready["endpoints"][0], token
        finally:
            process.terminate()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()
