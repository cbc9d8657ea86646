"""What the host of a storm stands on and loses: a small disk, a database of its own; why there is none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_BYTES = 768 << 20  # of which the models' store keeps 256 MiB free
_START_SECONDS = 60.0
_FILL_BLOCK = bytes(1 << 20)


@contextmanager
def small_disk() -> Iterator[tuple[Path, str | None]]:
    """A folder on a disk of its own, or on the usual one and why."""
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        os.chmod(folder, 0o755)  # accelerators run as users of their own
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", folder]
        if os.geteuid() != 0:
            yield Path(folder), "only root may mount a small disk"
        elif (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
            yield Path(folder), f"a small disk cannot be mounted: {done.stderr.strip()}"
        else:
            try:
                yield Path(folder), None
            finally:
                subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(_FILL_BLOCK)
        except OSError:
            return


class Database:
    """A PostgreSQL server of its own.

    Args:
        folder: An empty one, for its data and its socket.
    """

    def __init__(self, folder: Path) -> None:
        initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
        assert initdb is not None
        assert postgres is not None
        data = folder / "data"
        data.mkdir()
        self._socket = folder / ".s.PGSQL.5432"
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:  # as which PostgreSQL refuses to run
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            for path in (folder, data):
                shutil.chown(path, "nobody", "nogroup")
        command = [initdb, "-D", str(data), "-U", "ei", "-A", "trust", "-N"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **self._user)  # type: ignore[call-overload]
        self._folder = folder
        self._command = [postgres, "-D", str(data), "-k", str(folder), "-c", "listen_addresses="]
        self.url = f"postgresql+psycopg://ei@/postgres?host={folder}"
        self.start()

    def start(self) -> None:
        """Start the server and wait for its socket."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._user,  # type: ignore[arg-type]
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._socket.exists():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start in {self._folder}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Break off all connections and end, as in a crash: what was written is recovered at the next start."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_START_SECONDS)
        self._socket.unlink(missing_ok=True)


@contextmanager
def database() -> Iterator[tuple[Database | None, str | None]]:
    """A database server for the block, or none and why."""
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        yield None, f"PostgreSQL's {missing[0]} is not installed"
        return
    with tempfile.TemporaryDirectory(prefix="storm-pg-") as folder:
        server = Database(Path(folder))
        try:
            yield server, None
        finally:
            server.stop()
