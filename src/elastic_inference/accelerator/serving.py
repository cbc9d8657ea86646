"""A folder of models served by this process, without a host: listening, loading, looking again, leaving."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastic_inference.accelerator import process
from elastic_inference.accelerator.config import AcceleratorConfig, describe_recording
from elastic_inference.accelerator.inference import Inference
from elastic_inference.accelerator.server import Server
from elastic_inference.errors import InvalidInput
from elastic_inference.telemetry import set_up_logging

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeOptions:
    """What is to be served, and how.

    Attributes:
        folder: Of models, or a model itself.
        endpoints: `tcp:HOST:PORT` or `unix:/PATH`, each with its doors.
        token_sha256: Of the bearer token that clients must show; None asks for none.
        tls_cert, tls_key: PEM files; None: no TLS.
        engine, precision: Of models that name none.
        num_threads: Of an engine; None: the cores that the process may use.
        poll_seconds: Between two looks at the folder; None: only commands change what is served.
        artifacts_dir, store_limit_bytes: The store of models and what was compiled of them; None keeps nothing.
        drain_seconds: For requests to finish at the end.
        default_model: What SageMaker's door asks where a request names no model; None: the only one.
        record_requests: See AcceleratorConfig.
        server_name: What the server metadata say.
    """

    folder: Path
    endpoints: Sequence[tuple[str, tuple[str, ...]]]
    token_sha256: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    device: str = "cpu:0"
    engine: str = "auto"
    precision: str = "fp32"
    num_threads: int | None = None
    poll_seconds: float | None = None
    artifacts_dir: str | None = None
    store_limit_bytes: int | None = None
    drain_seconds: float = 30.0
    allow_unsafe_operations: bool = False
    default_model: str | None = None
    record_requests: int = 0
    server_name: str = AcceleratorConfig.server_name
    log_level: str = "info"


@dataclass(frozen=True)
class Served:
    """What is served as soon as all of the folder was tried.

    Attributes:
        endpoints: Each with its doors.
        models: Rows of the accelerator's report, those that cannot be served with their reasons.
    """

    endpoints: Sequence[tuple[str, tuple[str, ...]]]
    models: Sequence[Mapping[str, Any]]


def serve(
    options: ServeOptions,
    on_listening: Callable[[Sequence[tuple[str, tuple[str, ...]]]], None],
    on_progress: Callable[[int, int], None],
    on_ready: Callable[[Served], None],
) -> int:
    """Serve until SIGTERM or SIGINT; the exit status.

    Args:
        on_listening: Told the endpoints with the ports that were given, before anything is loaded.
        on_progress: Told models done and models in all.
        on_ready: Told once, when all that the folder holds was loaded or refused.

    Raises:
        InvalidInput: The folder cannot be read, or the options do not fit together.
        ConnectError: An endpoint cannot be had.
    """
    if not options.folder.is_dir():
        raise InvalidInput(f"{options.folder} is not a folder")
    set_up_logging(options.log_level)
    process.claim_process()
    with tempfile.TemporaryDirectory(prefix="elastic-inference-", ignore_cleanup_errors=True) as own_folder:
        config = _config(options, own_folder)
        wake, waker = process.wake_on_signals()
        service = process.make_service(config)
        doors = [own for _, own in options.endpoints]
        server = Server(config, service, doors)
        endpoints = list(zip(server.start(), doors, strict=True))
        on_listening(endpoints)
        loader = _Loader(service.inference, options.poll_seconds, waker)
        loader.start(on_progress, lambda models: on_ready(Served(endpoints, models)))
        process.wait_for_end(service, wake, waker)
        loader.stop()
        status = process.end(
            service, server, options.drain_seconds, process.SEND_SECONDS, is_busy=loader.is_busy
        )
    if loader.error is not None:
        raise loader.error
    return status


class _Loader:
    """Loads the folder, then looks at it again and again, in a thread of its own."""

    def __init__(self, inference: Inference, poll_seconds: float | None, waker: int) -> None:
        self._inference = inference
        self._poll_seconds = poll_seconds
        self._waker = waker
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: Exception | None = None

    def start(
        self,
        on_progress: Callable[[int, int], None],
        on_ready: Callable[[Sequence[Mapping[str, Any]]], None],
    ) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(on_progress, on_ready), name="models", daemon=True
        )
        self._thread.start()

    def _run(
        self,
        on_progress: Callable[[int, int], None],
        on_ready: Callable[[Sequence[Mapping[str, Any]]], None],
    ) -> None:
        repository = self._inference.shared.repository
        assert repository is not None
        try:
            repository.load_all(on_progress)
        except Exception as error:  # told by the main thread, which ends
            self.error = error
            os.write(self._waker, b"\0")
            return
        if self._stopping.is_set():
            return
        on_ready(self._inference.served())
        while self._poll_seconds is not None and not self._stopping.wait(self._poll_seconds):
            try:
                repository.poll()
            except Exception:  # the next look may find it mended
                log.exception("the folder of models could not be looked at")

    def stop(self) -> None:
        """Look no more; a load that runs is not waited for."""
        self._stopping.set()

    def is_busy(self) -> bool:
        """Whether a load still runs."""
        if self._thread is None:
            return False
        self._thread.join(timeout=0.1)
        return self._thread.is_alive()


def _config(options: ServeOptions, own_folder: str) -> AcceleratorConfig:
    return AcceleratorConfig(
        accelerator_id=f"eia-{secrets.token_hex(16)}",
        listen=tuple(address for address, _ in options.endpoints),
        store_dir=own_folder,
        token_sha256=options.token_sha256,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        device=options.device,
        num_threads=options.num_threads,
        artifacts_dir=options.artifacts_dir,
        store_limit_bytes=options.store_limit_bytes,
        allow_unsafe_operations=options.allow_unsafe_operations,
        limits={"compute": "none", "memory": "none"} | describe_recording(options.record_requests),
        record_requests=options.record_requests,
        models_dir=str(options.folder.absolute()),
        load_defaults={"engine": options.engine, "precision": options.precision},
        default_model=options.default_model,
        server_name=options.server_name,
    )
