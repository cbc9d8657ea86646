"""Models on their way in: files that arrive in parts, and packages put together from them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from elastic_inference.errors import CapacityExceeded, ElasticInferenceError, InvalidInput, ModelNotFound
from elastic_inference.models.artifacts import locks
from elastic_inference.models.artifacts.blobs import UPLOAD_EXPIRY_SECONDS, sha256_of
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from elastic_inference.models.package import ModelFile, ModelFormat, ModelPackage
from elastic_inference.units import format_bytes

log = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RECEIVED = "received"
_LAID_OUT = "models"
MAX_FILES = 10_000


class ModelStore:
    """What clients send, in the artifact store, and the models that this process has laid out of it.

    Args:
        artifacts: Where the files lie; other accelerators may share it.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self.artifacts = artifacts
        self._blobs = artifacts.blobs
        self._received: dict[
            str, float
        ] = {}  # files that clients count on, and since when; each has a link of ours
        self._num_users: dict[str, int] = {}  # of a model that is laid out, by its content
        self._lock = threading.Lock()
        self._blobs.make()

    def num_bytes(self, sha256: str) -> tuple[int, bool]:
        """How much of a file is here, and whether it is whole; one that is stays until its model is loaded.

        A whole file is looked at by its hash: a damaged one is dropped, and the client sends it again.
        """
        if self._receive(_checked_sha256(sha256)):
            return self._size(sha256) or 0, True
        partial = self._blobs.arriving / sha256
        try:
            return partial.stat().st_size, False
        except OSError:
            return 0, False

    def _size(self, sha256: str) -> int | None:
        published = self.artifacts.published
        size = self._blobs.size(sha256)
        return published.blobs.size(sha256) if size is None and published is not None else size

    def _receive(self, sha256: str) -> bool:
        """Keep a whole file from being removed, and see that it is what its name says; False where it is not here."""
        if sha256 in self._received and self._received_path(sha256).exists():
            return True
        if self._blobs.size(sha256) is None:
            return self._is_published(sha256)
        try:
            is_right = sha256_of(self._blobs.link(sha256, f"{_RECEIVED}/{sha256}")) == sha256
        except OSError:  # removed in this moment
            return False
        if is_right:
            self._received[sha256] = self._blobs.wall_clock()
            return True
        self._give_up(sha256)
        self._blobs.drop(sha256)
        return False

    def _is_published(self, sha256: str) -> bool:
        published = self.artifacts.published
        try:
            return published is not None and sha256_of(published.blobs.blobs / sha256) == sha256
        except OSError:
            return False

    def _received_path(self, sha256: str) -> Path:
        return self._blobs.own_folder() / _RECEIVED / sha256

    def _give_up(self, sha256: str) -> None:
        self._received.pop(sha256, None)
        with contextlib.suppress(OSError):
            self._received_path(sha256).unlink()

    def append(
        self, sha256: str, offset: int, total: int, chunks: Callable[[int], memoryview], length: int
    ) -> tuple[int, bool]:
        """Take the next bytes of a file. Bytes that are here already are skipped: several clients may send one file.

        Args:
            offset: Where these bytes belong; at most where the upload stands.
            total: Size of the whole file.
            chunks: Gives the next bytes, at most as many as asked for; its view is valid until the next call.
            length: How many bytes come.

        Returns:
            How much of the file is here now, and whether it is whole and its hash was right.

        Raises:
            InvalidInput: The offset is beyond where the upload stands, or the hash is wrong: such a file is dropped.
            CapacityExceeded: The store's limit or the disk does not allow that much.
        """
        _checked_sha256(sha256)
        if offset + length > total:
            raise InvalidInput(f"blob {sha256}: bytes {offset} to {offset + length} exceed its size {total}")
        try:
            self._expire()
            with self._arriving(sha256) as path:
                return self._append(path, sha256, offset, total, chunks, length)
        except OSError as error:
            if isinstance(error, ElasticInferenceError):
                raise
            raise CapacityExceeded(
                f"blob {sha256} cannot be stored: {error.strerror}",
                requested=format_bytes(length),
                available=format_bytes(_free_bytes(self._blobs.directory)),
            ) from error

    def _append(
        self,
        path: Path,
        sha256: str,
        offset: int,
        total: int,
        chunks: Callable[[int], memoryview],
        length: int,
    ) -> tuple[int, bool]:
        if self._receive(sha256):
            path.unlink()
            return self._size(sha256) or 0, True
        present = path.stat().st_size
        if offset > present:
            raise InvalidInput(f"blob {sha256}: the upload stands at byte {present}, not {offset}")
        self._blobs.room.take(sha256, total, present)
        _write(path, chunks, present - offset, length)
        present = path.stat().st_size
        if present < total:
            return present, False
        self._finish(path, sha256)
        return present, True

    @contextlib.contextmanager
    def _arriving(self, sha256: str) -> Iterator[Path]:
        """Hold the file of an upload, of which several clients and processes may send parts, for one part."""
        path = self._blobs.arriving / sha256
        path.parent.mkdir(mode=self._blobs.modes.folder, parents=True, exist_ok=True)
        while True:
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, self._blobs.modes.file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if locks.is_file(file, path):  # else it became a blob meanwhile
                    yield path
                    return
            finally:
                os.close(file)

    def _expire(self) -> None:
        """Forget what nobody has gone on sending, or loaded, for an hour."""
        oldest = self._blobs.wall_clock() - UPLOAD_EXPIRY_SECONDS
        for sha256, since in list(self._received.items()):
            if since < oldest:
                self._give_up(sha256)
        self._blobs.clean()

    def _finish(self, path: Path, sha256: str) -> None:
        found = sha256_of(path)
        if found != sha256:
            path.unlink()
            self._blobs.room.give_back(sha256)
            raise InvalidInput(f"blob {sha256}: the bytes that arrived have SHA-256 {found}")
        self._blobs.place(path, sha256)
        self._blobs.room.arrived(sha256)
        with contextlib.suppress(OSError):
            self._blobs.link(sha256, f"{_RECEIVED}/{sha256}")
            self._received[sha256] = self._blobs.wall_clock()

    def package(self, description: Mapping[str, Any]) -> ModelPackage:
        """Put a model together from files, which stay until as many calls of `release`; nothing is copied.

        Args:
            description: `{"format", "files": [{"path", "size_bytes", "sha256"}]}`.

        Raises:
            InvalidInput: The description is malformed or a path leads out of the model.
            ModelNotFound: A file is not here.
        """
        try:
            model_format = ModelFormat(description["format"])
            files = tuple(_checked_file(entry) for entry in description["files"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"model description is malformed: {error}") from error
        if not 0 < len(files) <= MAX_FILES or len({f.path for f in files}) != len(files):
            raise InvalidInput(f"a model has 1 to {MAX_FILES} files, each path once; {len(files)} are given")
        package = ModelPackage(model_format, Path(), files)
        with self._lock:
            root = self._blobs.own_folder() / _LAID_OUT / package.content_hash
            if not root.exists():
                self._lay_out(files, root)
            self._num_users[root.name] = self._num_users.get(root.name, 0) + 1
        return ModelPackage(model_format, root, files)

    def remember(self, package: ModelPackage, label: str | None) -> None:
        """Write down what a model that was loaded consists of, and what its user calls it, for `ei model`."""
        why_not = self.artifacts.put(Kind.MODEL, {"model": package.content_hash}, package.described(label))
        if why_not:
            log.warning("a model is not listed", extra={"why": why_not})

    def release(self, package: ModelPackage) -> None:
        """Give back what `package` returned: after the last user of its content the store may remove the files."""
        with self._lock:
            num_left = self._num_users.pop(package.content_hash, 0) - 1
            if num_left > 0:
                self._num_users[package.content_hash] = num_left
            else:
                shutil.rmtree(package.root, ignore_errors=True)

    def _lay_out(self, files: Sequence[ModelFile], root: Path) -> None:
        for file in files:
            if not self._receive(file.sha256) or self._size(file.sha256) != file.size_bytes:
                raise ModelNotFound(f"file {file.path!r} ({file.sha256}) was not uploaded")
        partial = root.with_name(root.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for file in files:
                target = partial / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._place(file.sha256, target)
            os.replace(partial, root)
        except OSError as error:  # a name too long, or a file where another one's folder must be
            shutil.rmtree(partial, ignore_errors=True)
            raise InvalidInput(f"the model's files cannot be laid out: {error.strerror}") from error
        for file in files:
            self._give_up(file.sha256)

    def _place(self, sha256: str, target: Path) -> None:
        if self._received_path(sha256).exists():
            os.link(self._received_path(sha256), target)
            return
        assert self.artifacts.published is not None
        # Another user's file: the kernel may refuse a link to it, and onnxruntime follows no symbolic one.
        shutil.copyfile(self.artifacts.published.blobs.blobs / sha256, target)


def _write(path: Path, chunks: Callable[[int], memoryview], num_known: int, length: int) -> None:
    with open(path, "ab") as file:
        while length:
            view = chunks(length)
            length -= len(view)
            file.write(view[num_known:])
            num_known = max(0, num_known - len(view))


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _checked_sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise InvalidInput(f"{text!r:.100} is not a SHA-256 in 64 hexadecimal digits")
    return text


def _checked_file(entry: Mapping[str, Any]) -> ModelFile:
    path, size = entry["path"], entry["size_bytes"]
    if not isinstance(path, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidInput(f"model file {entry!r:.200} needs a path and a size")
    parts = PurePosixPath(path).parts
    if (
        not parts
        or len(path) > 500
        or path != "/".join(parts)
        or any(part in ("..", ".", "/") or "\\" in part or not part.isprintable() for part in parts)
    ):
        raise InvalidInput(f"model file path {path!r:.200} must be relative and stay within the model")
    return ModelFile(path, size, _checked_sha256(entry["sha256"]))
