"""How one accelerator process is told what it is: a JSON object on its standard input.

Where that is a socket, the process first sends WAITING on it, once it has imported what it needs. Then it answers with
one JSON line on standard output as soon as it serves:
`{"accelerator_id", "pid", "endpoints": ["unix:/path", "tcp:127.0.0.1:40001"]}`; on failure it writes
`{"error": text, "code": error class}` and exits with status 1. Its log goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from elastic_inference.accelerator import bodies
from elastic_inference.errors import InvalidInput
from elastic_inference.limits.base import is_accelerator_id
from elastic_inference.limits.lease.holder import LeaseConfig
from elastic_inference.limits.request_rate import RateConfig
from elastic_inference.protocol.doors import DOORS, check_doors

MAX_THREADS = 1024
MAX_RECORDED_REQUESTS = 1024  # of each model
MAX_RECORDED_MODEL_BYTES = 64 << 20
MAX_RECORDED_BYTES = 256 << 20  # of all models
_MAX_FDS = 3
WAITING = b"."
"""What a process sends on its socket when all that is left to do needs its configuration."""
_WHAT = "accelerator configuration"
_COUNTS = (
    "memory_limit_bytes", "device_memory_limit_bytes", "store_limit_bytes", "watch_pid", "queue_limit",
)  # fmt: skip
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class AcceleratorConfig:
    """All that an accelerator process needs to know. Paths are absolute.

    Attributes:
        accelerator_id: `eia-` and 32 hexadecimal digits.
        listen: Endpoints to serve: `unix:/path` or `tcp:HOST:PORT` (port 0: any free one).
        store_dir: Its own folder, with what it has loaded; created if absent.
        token_sha256: SHA-256 (hex) of the bearer token that every request must carry; None asks for none.
        admin_token_sha256: The same for what only the host may do (change the token, drain); None: nobody may.
        tls_cert, tls_key: PEM files; when set, TCP endpoints speak TLS only.
        tls_client_ca: PEM file; when set, clients must show a certificate of this CA.
        device: What the engine runs on.
        num_threads: Threads of the engine; None means the cores that the process may use.
        memory_limit_bytes: RLIMIT_DATA of the process, so that too large a model raises an error; None: no limit.
        device_memory_limit_bytes: What engines may take of the memory of a device that has its own; None: no limit.
        compute_share: Duty cycle, 0..1 of the device seconds, held by the process itself; None where cgroups
            hold the share or there is none.
        lease: Where the device is shared by lease with other accelerators; None where it is not.
        limits: What is in force and by what means, for reports, such as {"compute": "50% of 2 cores by cgroup v1"}.
        fence: The file that says until when it may answer (see `limits.fence`); None: as long as it runs.
        watch_pid: The process with which this one ends; None for a supervised one.
        artifacts_dir: The artifact store, which other accelerators of the same user may share; None: one below
            `store_dir`, in which nothing compiled is kept.
        is_store_shared: Whether other users, whom a folder above it lets in, have files in it too.
        published_dir: A store of the operator's, which is read only; None: there is none.
        store_limit_bytes: What the artifact store may hold on disk; None: no limit.
        queue_limit: Requests that may wait; the next is refused.
        allow_unsafe_operations: See EngineOptions.
        use_shared_memory: Whether clients may register shared memory.
        rate: Where it counts requests, for a limit that its tenant's accelerators share; None: no limit.
        accelerator_type: Name of the catalogue row, for reports; None for an embedded one.
        doors: Protocols that clients may speak, each at every endpoint: "http" always, by which the host calls and
            models come, and others of DOORS.
        models_dir: A folder of models to serve; None: clients bring them.
        default_model: What SageMaker's door asks where a request names no model; None: the only one that is served.
        load_defaults: Engine and precision of models of the folder that name none.
        record_requests: How many requests' inputs of each model may be kept, to choose a precision by them; 0: none.
        server_name: What the server metadata say; clients of other servers may ask for another name.
    """

    accelerator_id: str
    listen: tuple[str, ...]
    store_dir: str
    token_sha256: str | None = None
    admin_token_sha256: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    device: str = "cpu:0"
    num_threads: int | None = None
    memory_limit_bytes: int | None = None
    device_memory_limit_bytes: int | None = None
    compute_share: float | None = None
    lease: LeaseConfig | None = None
    limits: dict[str, str] | None = None
    fence: str | None = None
    watch_pid: int | None = None
    artifacts_dir: str | None = None
    is_store_shared: bool = False
    published_dir: str | None = None
    store_limit_bytes: int | None = None
    queue_limit: int = 256
    allow_unsafe_operations: bool = False
    use_shared_memory: bool = True
    rate: RateConfig | None = None
    accelerator_type: str | None = None
    doors: tuple[str, ...] = DOORS
    models_dir: str | None = None
    default_model: str | None = None
    load_defaults: Mapping[str, str] = field(default_factory=dict)
    record_requests: int = 0
    server_name: str = "elastic-inference"

    def __post_init__(self) -> None:
        if not is_accelerator_id(self.accelerator_id):
            _refuse("accelerator_id", self.accelerator_id, "'eia-' and 32 hexadecimal digits")
        if not self.listen:
            _refuse("listen", self.listen, "at least one endpoint")
        check_doors(self.doors, f"{_WHAT}: doors")
        for name in ("token_sha256", "admin_token_sha256"):
            digest = getattr(self, name)
            if digest is not None and not _SHA256.fullmatch(digest):
                _refuse(name, digest, "a SHA-256 in 64 hexadecimal digits")
        if (self.tls_cert is None) != (self.tls_key is None):
            _refuse("tls_key", self.tls_key, "given exactly where tls_cert is")
        if self.num_threads is not None and not 1 <= self.num_threads <= MAX_THREADS:
            _refuse("num_threads", self.num_threads, f"1 to {MAX_THREADS}")
        if not 0 <= self.record_requests <= MAX_RECORDED_REQUESTS:
            _refuse("record_requests", self.record_requests, f"0 to {MAX_RECORDED_REQUESTS}")
        if self.record_requests and not self.device.startswith("cpu"):
            _refuse(
                "record_requests",
                self.record_requests,
                f"0 on {self.device}: recorded requests choose for CPUs",
            )
        if self.compute_share is not None and not 0 < self.compute_share <= 1:
            _refuse("compute_share", self.compute_share, "above 0 and up to 1")
        for name in (
            "memory_limit_bytes",
            "device_memory_limit_bytes",
            "store_limit_bytes",
            "watch_pid",
            "queue_limit",
        ):
            number = getattr(self, name)
            if number is not None and number < 1:
                _refuse(name, number, "1 or more")

    def to_json(self) -> str:
        """One JSON object, as the process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> AcceleratorConfig:
        """Read what `to_json` wrote; raises InvalidInput that names the field, its value and what is allowed."""
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{_WHAT} is not JSON: {error}") from error
        return bodies.read(cls, value, _WHAT)

    def send(self, sock: socket.socket) -> None:
        """Write it to a process whose standard input is the other end, with the descriptors that go with it."""
        line = self.to_json().encode() + b"\n"
        num_sent = socket.send_fds(sock, [line], self._fds)
        sock.sendall(line[num_sent:])

    @classmethod
    def receive(cls, stdin_fd: int = 0) -> AcceleratorConfig:
        """Read one from standard input: a socket, by which descriptors come along, or a pipe, by which none do.

        Raises:
            InvalidInput: It is none, or its descriptors are missing.
        """
        if not stat.S_ISSOCK(os.fstat(stdin_fd).st_mode):
            with open(os.dup(stdin_fd), encoding="utf-8") as stdin:
                return cls.from_json(stdin.readline())
        line, fds = _receive_line(stdin_fd)
        config = cls.from_json(line)
        if len(fds) != len(config._fds):
            raise InvalidInput(f"{_WHAT} came with {len(fds)} descriptors, not {len(config._fds)}")
        left = iter(fds)
        lease, rate = config.lease, config.rate
        if lease is not None:
            lease = replace(lease, rules_fd=next(left), turns_fd=next(left))
        if rate is not None:
            rate = replace(rate, fd=next(left))
        return replace(config, lease=lease, rate=rate)

    @property
    def _fds(self) -> tuple[int, ...]:
        """The descriptors that go with it, in the order in which they are sent."""
        return (() if self.lease is None else self.lease.fds) + (() if self.rate is None else (self.rate.fd,))


def describe_recording(num_requests: int) -> dict[str, str]:
    """Say what of requests is kept, as one of the limits of an accelerator; {} where nothing is."""
    if not num_requests:
        return {}
    text = (
        f"inputs of up to {num_requests} requests of each model ({MAX_RECORDED_MODEL_BYTES >> 20} MiB, of all models "
        f"{MAX_RECORDED_BYTES >> 20}) are kept while it is loaded, to choose a precision by them"
    )
    return {"recording": text}


def _receive_line(stdin_fd: int) -> tuple[str, list[int]]:
    line, fds = b"", list[int]()
    with socket.socket(fileno=os.dup(stdin_fd)) as sock:
        with contextlib.suppress(OSError):  # the other end has said all it has to, or has died: reading tells
            sock.sendall(WAITING)
        while not line.endswith(b"\n"):
            block, received, *_ = socket.recv_fds(sock, 1 << 16, _MAX_FDS)
            fds += received
            if not block:
                break
            line += block
    for fd in fds:
        os.set_inheritable(fd, False)  # recv_fds of Python 3.11 takes no notice of flags
    return line.decode(errors="replace"), fds


def _refuse(name: str, value: Any, allowed: str) -> None:
    raise InvalidInput(f"{_WHAT}: {name} must be {allowed}, not {value!r:.80}")
