"""One accelerator process from its configuration to its end: limits on itself, logging, serving, leaving.

It ends by SIGTERM, by SIGINT, or with the process that it watches; a supervised one outlives its host on purpose. It
also ends where its device is lost, for nothing in it would compute any more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from elastic_inference import settings
from elastic_inference.accelerator import log_file, recording
from elastic_inference.accelerator.batching.runner import Runner
from elastic_inference.accelerator.batching.trials import Trials
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.device_rights import Throttle
from elastic_inference.accelerator.doors.http.routes import Service
from elastic_inference.accelerator.doors.sagemaker.invocations import SageMaker
from elastic_inference.accelerator.doors.tensorflow_serving.rest import TensorFlowServing
from elastic_inference.accelerator.inference import Inference, Shared
from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.model_table import ModelTable
from elastic_inference.accelerator.proof_store import ProofStore
from elastic_inference.accelerator.proofs import Proofs
from elastic_inference.accelerator.prover import Prover
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.accelerator.recording import Recordings
from elastic_inference.accelerator.regions import RegionTable
from elastic_inference.accelerator.reply import Door
from elastic_inference.accelerator.repository.repository import Repository
from elastic_inference.accelerator.repository.sent_files import LoadCommands
from elastic_inference.accelerator.server import Server
from elastic_inference.accelerator.tracing import make_tracer
from elastic_inference.clock import MonotonicClock
from elastic_inference.engines import memory
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.preemption import set_preemption
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.limits.duty_cycle import CpuDutyCycle
from elastic_inference.limits.fence import Fence
from elastic_inference.limits.lease.holder import DeviceLease
from elastic_inference.limits.processes import wait_readable
from elastic_inference.models.artifacts.modes import PRIVATE, SHARED
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.protocol.status import encode_error
from elastic_inference.telemetry import set_up_logging

log = logging.getLogger(__name__)
# Python's default of 5 ms is what a short request would wait for a long one's Python part.
SWITCH_SECONDS = 0.0005
MAX_BODY_BYTES = 64 << 30
DRAIN_SECONDS = 30.0
LOST_STATUS = 3  # of the process, where its device was lost
SEND_SECONDS = 5.0  # for the last answers to reach their clients


def main() -> int:
    """Run one accelerator as its standard input says; the exit status."""
    try:
        return run(AcceleratorConfig.receive())
    except ElasticInferenceError as error:
        print(json.dumps(encode_error(error)[1]), flush=True)
    except OSError as error:  # a folder that cannot be made, a limit that may not be set
        print(json.dumps({"error": f"cannot start: {error}"}), flush=True)
    return 1


def run(config: AcceleratorConfig) -> int:
    """Serve until told to end; the exit status."""
    set_up_logging(settings.LOG_LEVEL.get() or ("WARNING" if config.watch_pid is not None else "INFO"))
    claim_process()
    if config.memory_limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (config.memory_limit_bytes, config.memory_limit_bytes))
    if config.is_store_shared:
        # What is this user's alone lies in folders that are; the rest is made for its neighbours.
        os.umask(0)
    wake, waker = wake_on_signals()
    service = make_service(config)
    models = service.inference.shared.models
    models.recall()
    server = Server(config, service)
    endpoints = server.start()
    threading.Thread(target=models.reload, name="reload", daemon=True).start()
    ready = {"accelerator_id": config.accelerator_id, "pid": os.getpid(), "endpoints": endpoints}
    print(json.dumps(ready), flush=True)
    log_file.keep_short()
    os.dup2(2, 1)  # that was all that the other end reads: what an engine prints goes to the log
    if service.inference.fence is not None:
        threading.Thread(target=_end_at, args=(service.inference.fence,), name="fence", daemon=True).start()
    if config.watch_pid is not None:
        watcher = threading.Thread(target=_watch, args=(config.watch_pid, waker), name="watch", daemon=True)
        watcher.start()
    wait_for_end(service, wake, waker)
    is_supervised = config.watch_pid is None  # else the one client is gone
    return end(
        service, server, DRAIN_SECONDS if is_supervised else 0.0, SEND_SECONDS if is_supervised else 0.0
    )


def claim_process() -> None:
    """Have the interpreter and the C library do as suits an accelerator; only in a process of its own."""
    memory.claim_process()
    sys.setswitchinterval(SWITCH_SECONDS)


def wait_for_end(service: Service, wake: int, waker: int) -> None:
    """Return when a signal wakes us, or a device is lost."""
    service.inference.shared.runner.on_device_lost = lambda: os.write(waker, b"!")
    os.read(wake, 1)


def wake_on_signals() -> tuple[int, int]:
    """Return both ends of a pipe into which SIGTERM and SIGINT write; the first is read to wait for one.

    A pipe and not a lock: the kernel may give a signal to another thread, and Python's handler would then wait until
    the main thread leaves the lock by itself.
    """
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return wake, waker


def end(
    service: Service,
    server: Server,
    drain_seconds: float,
    send_seconds: float,
    is_busy: Callable[[], bool] = lambda: False,
) -> int:
    """Let requests finish, send their answers, and free what there is; the exit status.

    Args:
        drain_seconds: For requests that wait or run.
        send_seconds: For their answers to reach their clients.
        is_busy: Whether anything else still uses engines, such as a load.
    """
    config = service.inference.config
    shared = service.inference.shared
    service.inference.drained.set()
    is_idle = shared.queue.drain(drain_seconds) and not is_busy()
    server.close(send_seconds)
    is_lost = shared.runner.is_device_lost
    if is_idle and not is_lost:  # closing would ask the device
        shared.models.close()
    recording.remove(Path(config.store_dir))
    if shared.tracer is not None:
        shared.tracer.close()
    service.store.artifacts.close()
    if config.watch_pid is not None:
        shutil.rmtree(config.store_dir, ignore_errors=True)
    if is_lost:
        log.error("the device was lost, and this process ends")
        os._exit(LOST_STATUS)
    if not is_idle:
        sys.stdout.flush()
        os._exit(0)  # an engine that computes in another thread would not survive the interpreter's end
    return 0


def make_service(config: AcceleratorConfig) -> Service:
    """Everything behind the sockets."""
    throttle: Throttle | None = None
    if config.compute_share is not None:
        num_threads = config.num_threads or len(os.sched_getaffinity(0))
        throttle = CpuDutyCycle(config.compute_share, num_threads, MonotonicClock().now())
    lease: DeviceLease | None = None
    if config.lease is not None:
        lease = DeviceLease(config.lease)
        lease.open()
        set_preemption(lease)
    queue = RequestQueue(config.queue_limit, throttle, lease)
    store_dir = Path(config.store_dir)
    artifacts, is_kept = artifact_store(config)
    store = ModelStore(artifacts)
    options = EngineOptions(
        device=config.device,
        num_threads=config.num_threads,
        store=artifacts if is_kept else None,
        allow_unsafe_operations=config.allow_unsafe_operations,
        device_memory_limit_bytes=config.device_memory_limit_bytes,
    )
    proofs = Proofs(Prover(queue, ProofStore(artifacts), config.memory_limit_bytes))
    recordings = Recordings(store_dir, config.record_requests) if config.record_requests else None
    models = ModelTable(
        store, store_dir / "loaded", options, queue, config.memory_limit_bytes, proofs, recordings
    )
    memory_bytes = config.memory_limit_bytes or psutil.virtual_memory().total
    body_limit_bytes = min(MAX_BODY_BYTES, memory_bytes // 2)
    tracer = make_tracer(config.accelerator_id)
    runner = Runner(queue, Trials(queue, config.memory_limit_bytes))
    repository: Repository | None = None
    if config.models_dir is not None:
        repository = Repository(models, store, Path(config.models_dir), config.load_defaults, config.device)
    commands = LoadCommands(
        models, store, store_dir / "sent", repository, config.load_defaults, config.device
    )
    shared = Shared(models, RegionTable(), queue, runner, body_limit_bytes, commands, repository, tracer)
    inference = Inference(config, shared)
    sagemaker = SageMaker(inference).answer
    others = {
        "tensorflow-serving": {"v1": Door(TensorFlowServing(inference).answer)},
        "sagemaker": {"ping": Door(sagemaker, needs_token=False), "invocations": Door(sagemaker)},
    }
    return Service(inference, store, others)


def artifact_store(config: AcceleratorConfig) -> tuple[ArtifactStore, bool]:
    """Return the store of model files, and whether what is compiled is kept in it for the next process.

    Where the one that was asked for cannot be used, the log says so, and this process has one of its own.
    """
    published = None if config.published_dir is None else Path(config.published_dir)
    if config.artifacts_dir is not None:
        modes = SHARED if config.is_store_shared else PRIVATE
        store = ArtifactStore.at(Path(config.artifacts_dir), config.store_limit_bytes, published, modes)
        why_not = store.why_unusable()
        if not why_not:
            return store, True
        log.warning("models are not kept for the next load", extra={"why": why_not})
    own = ArtifactStore.at(Path(config.store_dir) / "artifacts", config.store_limit_bytes, published)
    return own, False


def _end_at(fence: Fence) -> None:
    """End at once when the host's lease does: from then on another process may be this accelerator."""
    fence.wait_closed()
    log.warning("the host's lease of its pool has ended, and this accelerator with it")
    os._exit(1)


def _watch(pid: int, waker: int) -> None:
    """End with the watched process, however it ends; a pidfd cannot mean another process of the same number."""
    with contextlib.suppress(ProcessLookupError):
        wait_readable([os.pidfd_open(pid)], None)
    os.write(waker, b"\0")
