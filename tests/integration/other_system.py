"""A program that calls an accelerator where all is gone that only Linux has; prints what came of it as JSON.

macOS and Windows cannot be had in the tests. What Python lacks there is taken away before our package is imported; what
Python's own parts need of it, they have taken by then.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import json
import os
import select
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

MODULES = (
    "fcntl",
    "grp",
    "pwd",
    "resource",
    "termios",
    "tty",
    "pty",
    "syslog",
    "_posixshmem",
    "_posixsubprocess",
)
OF_OS = (
    "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "copy_file_range", "eventfd", "fchmod", "fchown",
    "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpriority", "getuid", "getxattr",
    "killpg", "lchown", "chown", "memfd_create", "mkfifo", "nice", "pidfd_open", "pipe2", "posix_fadvise",
    "posix_fallocate", "pread", "preadv", "pwrite", "pwritev", "register_at_fork", "sched_getaffinity",
    "sched_setaffinity", "sched_yield", "sendfile", "set_blocking", "setpriority", "setsid", "setxattr", "splice",
    "statvfs", "sysconf", "uname", "wait4", "waitid",
)  # fmt: skip
OF_SOCKET = (
    "AF_UNIX", "AF_NETLINK", "CMSG_LEN", "CMSG_SPACE", "MSG_WAITALL", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SCM_RIGHTS",
    "SO_PASSCRED", "SO_PEERCRED", "SO_RCVTIMEO", "SO_REUSEPORT", "SO_SNDTIMEO", "TCP_KEEPCNT", "TCP_KEEPIDLE",
    "TCP_KEEPINTVL", "TCP_QUICKACK", "TCP_USER_TIMEOUT",
)  # fmt: skip
OF_A_SOCKET = ("sendmsg", "recvmsg", "recvmsg_into", "sendmsg_afalg")
OF_SIGNAL = (
    "SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "alarm", "pthread_kill", "pthread_sigmask",
    "setitimer", "sigtimedwait", "sigwait",
)  # fmt: skip
OF_TIME = ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "clock_gettime")
FOLDERS = ("/dev/shm", "/proc", "/sys")
KERNEL_TIMEOUTS = (20, 21)  # SO_RCVTIMEO and SO_SNDTIMEO of Linux


class Absent:
    """An attribute that is not there, of a class written in C."""

    def __get__(self, _: object, __: object) -> None:
        raise AttributeError("not on this system")


def take_away() -> asyncio.AbstractEventLoop:
    """Make this a system without what Linux alone has; returns an event loop, which Python makes otherwise there."""
    loop = asyncio.new_event_loop()
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, OF_OS), (socket, OF_SOCKET), (signal, OF_SIGNAL), (time, OF_TIME)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in ("poll", "epoll"):
        delattr(select, name)
    for name in OF_A_SOCKET:
        setattr(socket.socket, name, Absent())
    set_option = socket.socket.setsockopt

    def setsockopt(self: socket.socket, *arguments: object) -> None:
        if arguments[0] == socket.SOL_SOCKET and arguments[1] in KERNEL_TIMEOUTS:
            raise OSError("another form on this system")
        set_option(self, *arguments)  # type: ignore[call-overload]

    socket.socket.setsockopt = setsockopt  # type: ignore[assignment,method-assign]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(FOLDERS):
            raise FileNotFoundError(errno.ENOENT, "not on this system", arguments[0])

    is_dir = os.path.isdir
    os.path.isdir = lambda path: not str(path).startswith(FOLDERS) and is_dir(path)
    stat = os.stat

    def stat_of(path: object, *arguments: object, **options: object) -> os.stat_result:
        if isinstance(path, str | os.PathLike) and str(path).startswith(FOLDERS):
            raise FileNotFoundError(errno.ENOENT, "not on this system", path)
        return stat(path, *arguments, **options)  # type: ignore[arg-type]

    os.stat = stat_of  # type: ignore[assignment]
    sys.addaudithook(watch)
    sys.platform = "darwin"
    return loop


def main(host_url: str, host_token: str, ca: str, model: str) -> dict[str, object]:
    """Attach, load, call in all ways, detach."""
    loop = take_away()
    import elastic_inference as ei
    from elastic_inference.errors import ConnectError, DeadlineExceeded, EngineNotAvailable
    from elastic_inference.protocol.endpoint import Endpoint
    from elastic_inference.protocol.stream import Stream

    names = {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}}
    tls = ei.Tls(ca=ca) if ca else None
    half = ei.Accelerator.attach(
        "cpu.quarter", host=host_url, token=host_token, **({"tls": tls} if tls else {})
    )
    small, large = np.array([3], np.int32), np.arange(3_000_000, dtype=np.int32)
    with ei.EIPredictor(model, accelerator=half, **names) as predict:
        found = {
            "small": predict({"x": small})["y"].tolist(),
            "large": bool((predict({"x": large})["y"] == 2 * large).all()),
            "map": [
                each["y"].tolist() for each in predict.map([{"x": small + n} for n in range(3)], in_flight=2)
            ],
            "transport": predict.report.transport,
            "notes": [note for note in predict.report.notes if "shared memory" in note],
        }
        with ThreadPoolExecutor(4) as pool:
            found["threads"] = all(
                pool.map(lambda n: predict({"x": small + n})["y"][0] == 2 * (3 + n), range(40))
            )

        async def ask() -> list[int]:
            async with ei.AsyncEIPredictor(model, accelerator=half, **names) as ask_one:
                return list((await ask_one({"x": small}))["y"].tolist())

        found["async"] = loop.run_until_complete(ask())
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as silent:  # whose kernel takes connections, and nobody answers
        stream = Stream(Endpoint.parse(f"tcp:127.0.0.1:{silent.getsockname()[1]}").connect(5.0))
        stream.set_timeout(0.2)
        try:
            stream.wait()
        except DeadlineExceeded as error:
            found["deadline"] = str(error)
        stream.close()
    loop.close()
    try:
        ei.EIPredictor(model, accelerator=ei.Accelerator.embedded(), **names)
    except EngineNotAvailable as error:
        found["embedded"] = str(error)
    try:
        ei.EIPredictor(model, address="unix:/tmp/x.sock", **names)
    except ConnectError as error:
        found["unix"] = str(error)
    return found


if __name__ == "__main__":
    del builtins, selectors, ssl, subprocess, tempfile  # imported for what Python takes of the system then
    print(json.dumps(main(*sys.argv[1:])))
