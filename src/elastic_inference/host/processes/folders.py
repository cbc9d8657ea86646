"""Where things of a host lie: one folder for the host, below it one for each accelerator."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.endpoint import Endpoint

logger = logging.getLogger(__name__)

GROUP_PREFIX = "elastic-inference-"  # of the control groups of a host, before its id


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for accelerators and the control API.

    Attributes:
        client_ca: When set, clients must show a certificate of this authority.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None


class HostFolder:
    """The host's own folder.

    Accelerators may pass through it but not list it: they run as other users, and a name they do not know is a
    name they cannot open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "state.db"
        self.operator_token = path / "operator.token"
        self.secret = path / "host.secret"
        self.tls = path / "tls"
        self.calendar = path / "calendar.json"
        self.host_id = path / "host.id"
        self.accelerators = path / "accelerators"
        self.homes = path / "homes"  # working directories of processes
        self.logs = path / "logs"
        self.tenants = path / "tenants"  # stores of models, one for each
        self.devices = path / "devices.json"
        self.audit = path / "audit.log"
        self.lock = path / "lock"
        self.fence = path / "fence"  # of a host of a pool
        self._unremoved: dict[Path, Callable[[], None]] = {}

    def make(self) -> None:
        """Make what is absent.

        Raises:
            InvalidInput: It cannot be made, or its path is too long for sockets.
        """
        Endpoint.parse(f"unix:{self.accelerator('eia-' + '0' * 32).socket}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            os.chmod(self.path, 0o711)
            self.accelerators.mkdir(exist_ok=True)
            os.chmod(self.accelerators, 0o711)
        except OSError as error:
            raise InvalidInput(f"state directory {self.path} cannot be made: {error}") from error

    def accelerator(self, accelerator_id: str) -> AcceleratorFolder:
        """Return the folder of one accelerator."""
        return AcceleratorFolder(self.accelerators / accelerator_id)

    def remove_tree(self, path: Path, then: Callable[[], None] = lambda: None) -> None:
        """Remove a folder and all in it, now or as soon as it can be; nothing there is fine.

        It cannot be, for one, while this process may open no more files.

        Args:
            then: Called once nothing is left.
        """
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            self._unremoved[path] = then
            logger.warning("not removed, and to be tried again", extra={"path": str(path)})
        else:
            self._unremoved.pop(path, None)
            then()

    def remove_again(self) -> None:
        """Try again to remove what could not be."""
        for path, then in tuple(self._unremoved.items()):
            self.remove_tree(path, then)


class AcceleratorFolder:
    """What one accelerator keeps over restarts of its process; it is its user's alone, but for its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "api.sock"
        self.store = path / "store"
        self.artifacts = path / "artifacts"
        self.tls = path / "tls"

    def make(self, uid: int | None, tls: TlsFiles | None) -> TlsFiles | None:
        """Make what is absent, for the user `uid` (None: our own).

        Returns:
            Copies of the TLS files that this user can read.
        """
        for path, mode in (
            (self.path, 0o711),
            (self.store, 0o700),
            (self.artifacts, 0o700),
            (self.tls, 0o700),
        ):
            path.mkdir(exist_ok=True)
            os.chmod(path, mode)
        if uid is not None:
            if self.path.lstat().st_uid != uid:
                _give_all(self.path, uid)
            for path in (self.store, self.artifacts, self.tls):
                _give(path, uid)
        return None if tls is None else self._copy(tls, uid)

    def open_socket(self) -> None:
        """Let other users connect: the bearer token says who may, not the file's mode."""
        os.chmod(self.socket, 0o666)

    def _copy(self, tls: TlsFiles, uid: int | None) -> TlsFiles:
        copies = [
            self._copy_one(path, uid) for path in (tls.cert, tls.key, tls.client_ca) if path is not None
        ]
        return TlsFiles(*copies)

    def _copy_one(self, path: Path, uid: int | None) -> Path:
        target = self.tls / path.name
        target.unlink(missing_ok=True)
        with open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400), "wb") as file:
            file.write(path.read_bytes())
        _give(target, uid)
        return target


def _give_all(path: Path, uid: int) -> None:
    """Make a user the owner of a folder and of all in it; the folder itself last, so that half of it is done again."""
    for directory, _, names in os.walk(path, topdown=False):
        for file in (Path(directory, name) for name in names):
            if file.lstat().st_nlink == 1:  # another name of it may be somewhere else, and somebody else's
                _give(file, uid)
        _give(Path(directory), uid)


def _give(path: Path, uid: int | None) -> None:
    if uid is not None:
        os.lchown(path, uid, uid)
