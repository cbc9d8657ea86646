"""A real accelerator process for tests: started, ready, and gone at the end; it also knows the testing engine."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.protocol.status import decode_error


@dataclass(frozen=True)
class RunningAccelerator:
    """A started accelerator.

    Attributes:
        address: Its first endpoint.
        endpoints: All of them.
        token: The bearer token that it asks for.
        admin_token: For what only a host may do.
        process: For signals; `pid` is its number.
    """

    address: str
    endpoints: tuple[str, ...]
    token: str
    admin_token: str
    process: subprocess.Popen[str]
    config: AcceleratorConfig

    @property
    def pid(self) -> int:
        """The process number."""
        return self.process.pid


@contextmanager
def start_accelerator(
    listen: tuple[str, ...] = ("tcp:127.0.0.1:0",), **changes: object
) -> Iterator[RunningAccelerator]:
    """Start an accelerator with the testing engine; `changes` are fields of AcceleratorConfig.

    Raises:
        ElasticInferenceError: It could not start; the error is the process's own.
    """
    token, admin_token = secrets.token_urlsafe(), secrets.token_urlsafe()
    with tempfile.TemporaryDirectory(prefix="elastic-inference-test-") as folder:
        config = AcceleratorConfig(
            accelerator_id=f"eia-{secrets.token_hex(16)}",
            listen=tuple(text.replace("{folder}", folder) for text in listen),
            store_dir=str(Path(folder) / "store"),
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
            admin_token_sha256=hashlib.sha256(admin_token.encode()).hexdigest(),
        )
        config = replace(config, **changes)  # type: ignore[arg-type]
        process = launch(config)
        try:
            ready = read_ready_line(process)
            yield RunningAccelerator(
                ready["endpoints"][0], tuple(ready["endpoints"]), token, admin_token, process, config
            )
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def launch(config: AcceleratorConfig) -> subprocess.Popen[str]:
    """Start the process and give it its configuration."""
    process = subprocess.Popen(
        [sys.executable, "-m", "elastic_inference.testing"],
        pass_fds=() if config.lease is None else config.lease.fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(config.to_json() + "\n")
    process.stdin.close()
    return process


def read_ready_line(process: subprocess.Popen[str]) -> dict[str, list[str]]:
    """Wait until it serves; raises the error that it reports instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    ready: dict[str, list[str]] = json.loads(line or '{"error": "the process ended without a word"}')
    if "error" in ready:
        raise decode_error(500, line.encode())
    return ready
