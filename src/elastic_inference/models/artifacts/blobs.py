"""Whole files, each by the SHA-256 of its content, in a folder that several processes share.

    blobs/<sha256>      whole files
    arriving/<sha256>   uploads that are under way; arriving/made-*: what a living process writes
    open/<process>/     what a living process uses: hard links to blobs. The process holds the folder locked.

A blob has a second name exactly while somebody uses it, so the least recently used ones without are those that can go.
A file gets its place by one rename, and is looked at again by its hash when it is used: a process killed at any moment
leaves nothing that counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from elastic_inference.models.artifacts import locks
from elastic_inference.models.artifacts.modes import PRIVATE, Modes
from elastic_inference.models.artifacts.room import Room

DISK_RESERVE_BYTES = 256 << 20
UPLOAD_EXPIRY_SECONDS = 3600.0
_MADE = "made-"
_STEP_BYTES = 64 << 10  # that a file grows by before it asks for room: engines write a few bytes at a time
_FRESH_SECONDS = 60.0  # between making a folder or file and locking it


class BlobFolder:
    """The files of one store.

    Args:
        directory: Created when something is put into it.
        limit_bytes: What all files together may hold; None: no limit.
        reserve_bytes: What stays free on the disk.
        wall_clock: Seconds since 1970, as files have them.
        modes: With which rights files are made.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int | None = None,
        reserve_bytes: int = DISK_RESERVE_BYTES,
        wall_clock: Callable[[], float] = time.time,
        modes: Modes = PRIVATE,
    ) -> None:
        self.modes = modes
        self.directory = directory
        self.blobs = directory / "blobs"
        self.arriving = directory / "arriving"
        self._open = directory / "open"
        self.wall_clock = wall_clock
        self.room = Room(directory, limit_bytes, reserve_bytes, self._sizes, self.make_room)
        self._own: tuple[Path, int] | None = None
        self._lock = threading.Lock()

    def make(self) -> None:
        """Make the folders; raises OSError where that cannot be."""
        for folder in (self.blobs, self.arriving, self._open):
            folder.mkdir(mode=self.modes.folder, parents=True, exist_ok=True)

    def size(self, sha256: str) -> int | None:
        """Return the size of a whole file; None where it is not here."""
        try:
            return (self.blobs / sha256).stat().st_size
        except OSError:
            return None

    def touch(self, sha256: str) -> None:
        """Note that a file is used now."""
        with contextlib.suppress(OSError):
            self.modes.touch(self.blobs / sha256, self.wall_clock())

    def link(self, sha256: str, name: str) -> Path:
        """Use a file: it has this name too, within this process's own folder, until `unlink`; OSError where not.

        Args:
            name: A relative path; one that is there already stays.
        """
        path = self.own_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.link(self.blobs / sha256, path)
        self.touch(sha256)
        return path

    def own_folder(self) -> Path:
        """Return this process's folder, made when first needed, and again where somebody removed it."""
        with self._lock:
            if self._own is not None and locks.is_file(self._own[1], self._own[0]):
                return self._own[0]
            self._let_go()
            self._open.mkdir(mode=self.modes.folder, parents=True, exist_ok=True)
            path = self._open / secrets.token_hex(8)
            path.mkdir(mode=self.modes.folder)
            self._own = path, locks.keep(path)
            return path

    def _let_go(self) -> None:
        if self._own is not None:
            os.close(self._own[1])
            self._own = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[WrittenFile]:
        """Write a file, which gets its place at the end of the block, `keep`; what is left otherwise is removed."""
        self.arriving.mkdir(mode=self.modes.folder, parents=True, exist_ok=True)
        path = self.arriving / f"{_MADE}{secrets.token_hex(8)}"
        with WrittenFile(path, self.room, self.modes.file) as file:
            yield file

    def keep(self, file: WrittenFile) -> str:
        """Give a file of `writing` its place; return its SHA-256."""
        file.finish()
        sha256 = sha256_of(file.path)
        self.place(file.path, sha256)
        self.room.arrived(file.path.name, sha256, file.num_bytes)
        return sha256

    def move(self, file: WrittenFile, path: Path) -> None:
        """Give a file of `writing` another place than among the blobs, in one step."""
        file.finish()
        os.replace(file.path, path)
        self.room.arrived(file.path.name, path.name, file.num_bytes)

    def place(self, path: Path, sha256: str) -> None:
        """Make a whole file, whose content has this hash, a blob."""
        self.blobs.mkdir(mode=self.modes.folder, parents=True, exist_ok=True)
        self.modes.seal(path)
        os.replace(path, self.blobs / sha256)
        self.touch(sha256)

    def drop(self, sha256: str) -> None:
        """Remove a file, such as a damaged one; whoever uses it keeps its own name of it."""
        with contextlib.suppress(OSError):
            (self.blobs / sha256).unlink()
            self.room.give_back(sha256)

    def make_room(self, num_bytes: int) -> None:
        """Remove what nobody uses, the least recently used first, until so many bytes are free."""
        with contextlib.suppress(OSError):
            self.clean()
            unused = []
            for path in self.blobs.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    if stat.st_nlink == 1:
                        unused.append((stat.st_mtime, stat.st_size, path))
            for _, size, path in sorted(unused):
                if num_bytes <= 0:
                    return
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    num_bytes -= size

    def clean(self) -> None:
        """Remove what processes left that have ended, and uploads with which nobody has gone on for an hour."""
        now = self.wall_clock()
        for folder in _listed(self._open):
            if now - _changed(folder) > _FRESH_SECONDS and not locks.is_kept(folder):
                shutil.rmtree(folder, ignore_errors=True)
        for path in _listed(self.arriving):
            age = now - _changed(path)
            is_made = path.name.startswith(_MADE)
            if age > (_FRESH_SECONDS if is_made else UPLOAD_EXPIRY_SECONDS) and not locks.is_kept(path):
                with contextlib.suppress(OSError):
                    path.unlink()
        self.room.forget_promises(lambda name: not (self.arriving / name).exists())

    def close(self) -> None:
        """Let go of all that this process uses; closing twice is fine."""
        with self._lock:
            own = self._own
            self._let_go()
        if own is not None:
            shutil.rmtree(own[0], ignore_errors=True)

    def _sizes(self) -> dict[str, int]:
        return {
            path.name: size
            for folder in (self.blobs, self.arriving, *_listed(self.directory / "entries"))
            for path in _listed(folder)
            if (size := _size(path)) is not None
        }


class WrittenFile(contextlib.AbstractContextManager["WrittenFile"]):
    """A file that is counted while it is written; only its holder sees it."""

    def __init__(self, path: Path, room: Room, mode: int = PRIVATE.file) -> None:
        self.path = path
        self.num_bytes = 0
        self._promised = 0
        self._room = room
        self._file = open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode), "wb")  # noqa: SIM115
        self._kept = locks.keep(path)

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it; CapacityExceeded where the store has no room for it."""
        size = memoryview(data).nbytes
        end = self._file.tell() + size
        if end > self._promised + _STEP_BYTES:
            self.take_room(end)
        self._file.write(data)
        self.num_bytes = max(self.num_bytes, end)
        return size

    def take_room(self, num_bytes: int) -> None:
        """Have room promised for so much; CapacityExceeded where there is none."""
        self._room.take(self.path.name, num_bytes, min(num_bytes, self.num_bytes))
        self._promised = num_bytes

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere, as files do."""
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """Return where the next byte goes."""
        return self._file.tell()

    def finish(self) -> None:
        """Hand all of it to the system, and have room for it."""
        self.take_room(self.num_bytes)
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        os.close(self._kept)
        self._room.give_back(self.path.name)
        self.path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content; raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        block = bytearray(1 << 20)
        while size := file.readinto(block):
            digest.update(memoryview(block)[:size])
    return digest.hexdigest()


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")
