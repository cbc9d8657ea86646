"""Uploaded model files, each by the SHA-256 of its content, and models put together from them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from elastic_inference.accelerator.keyed_locks import KeyedLocks
from elastic_inference.accelerator.room import Room
from elastic_inference.errors import CapacityExceeded, ElasticInferenceError, InvalidInput, ModelNotFound
from elastic_inference.models.package import ModelFile, ModelFormat, ModelPackage
from elastic_inference.units import format_bytes

_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_FILES = 10_000
DISK_RESERVE_BYTES = 256 << 20
UPLOAD_EXPIRY_SECONDS = 3600.0


class ModelStore:
    """Files below one directory: `blobs/<sha256>`, `uploads/<sha256>` while they arrive, `models/<hash>/...`.

    Args:
        directory: Created if absent.
        limit_bytes: What all blobs together may hold; None: no limit.
        reserve_bytes: What stays free on the disk, for the host's own state, logs and answers.
        wall_clock: Seconds since 1970, as files have them.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int | None = None,
        reserve_bytes: int = DISK_RESERVE_BYTES,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._blobs = directory / "blobs"
        self._uploads = directory / "uploads"
        self._models = directory / "models"
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._arriving = KeyedLocks()  # not the store's own lock, because a slow client may hold one for long
        for folder in (self._blobs, self._uploads, self._models):
            folder.mkdir(parents=True, exist_ok=True)
        # Counted once and kept: to look at every file at every upload is quadratic in their number.
        held = {f.name: f.stat().st_size for folder in (self._blobs, self._uploads) for f in folder.iterdir()}
        self._room = Room(self._blobs, limit_bytes, reserve_bytes, held)

    def num_bytes(self, sha256: str) -> tuple[int, bool]:
        """How much of a blob is here, and whether it is whole."""
        blob = self._blobs / _checked_sha256(sha256)
        if blob.exists():
            return blob.stat().st_size, True
        partial = self._uploads / sha256
        return (partial.stat().st_size if partial.exists() else 0), False

    def append(
        self, sha256: str, offset: int, total: int, chunks: Callable[[int], memoryview], length: int
    ) -> tuple[int, bool]:
        """Take the next bytes of a blob. Bytes that are here already are skipped: several clients may send one blob.

        Args:
            offset: Where these bytes belong; at most where the upload stands.
            total: Size of the whole blob.
            chunks: Gives the next bytes, at most as many as asked for; its view is valid until the next call.
            length: How many bytes come.

        Returns:
            How much of the blob is here now, and whether it is whole and its hash was right.

        Raises:
            InvalidInput: The offset is beyond where the upload stands, or the hash is wrong: such a blob is dropped.
            CapacityExceeded: The store's limit or the disk does not allow that much.
        """
        path = self._uploads / _checked_sha256(sha256)
        if offset + length > total:
            raise InvalidInput(f"blob {sha256}: bytes {offset} to {offset + length} exceed its size {total}")
        with self._arriving.hold(sha256):
            present, is_whole = self.num_bytes(sha256)
            if is_whole:
                return present, True
            if offset > present:
                raise InvalidInput(f"blob {sha256}: the upload stands at byte {present}, not {offset}")
            self._expire_uploads()
            self._room.take(sha256, total, present)
            try:
                self._write(path, chunks, present - offset, length)
            except OSError as error:
                if isinstance(error, ElasticInferenceError):
                    raise
                raise CapacityExceeded(
                    f"blob {sha256} cannot be stored: {error.strerror}",
                    requested=format_bytes(length),
                    available=format_bytes(shutil.disk_usage(self._blobs).free),
                ) from error
            present = path.stat().st_size
            if present < total:
                return present, False
            self._finish(path, sha256)
            return present, True

    @staticmethod
    def _write(path: Path, chunks: Callable[[int], memoryview], num_known: int, length: int) -> None:
        with open(path, "ab") as file:
            while length:
                view = chunks(length)
                length -= len(view)
                file.write(view[num_known:])
                num_known = max(0, num_known - len(view))

    def _expire_uploads(self) -> None:
        """Remove what nobody has gone on sending for an hour."""
        oldest = self._wall_clock() - UPLOAD_EXPIRY_SECONDS
        for path in self._uploads.iterdir():
            with self._arriving.unless_held(path.name) as is_free, contextlib.suppress(FileNotFoundError):
                if is_free and path.stat().st_mtime < oldest:
                    path.unlink()
                    self._room.give_back(path.name)

    def _finish(self, path: Path, sha256: str) -> None:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != sha256:
            path.unlink()
            self._room.give_back(sha256)
            raise InvalidInput(f"blob {sha256}: the bytes that arrived have SHA-256 {digest.hexdigest()}")
        os.replace(path, self._blobs / sha256)
        self._room.arrived(sha256)

    def package(self, description: Mapping[str, Any]) -> ModelPackage:
        """Put a model together from blobs; hard links, so nothing is copied.

        Args:
            description: `{"format", "files": [{"path", "size_bytes", "sha256"}]}`.

        Raises:
            InvalidInput: The description is malformed or a path leads out of the model.
            ModelNotFound: A blob is not here.
        """
        try:
            model_format = ModelFormat(description["format"])
            files = tuple(_checked_file(entry) for entry in description["files"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"model description is malformed: {error}") from error
        if not 0 < len(files) <= MAX_FILES or len({f.path for f in files}) != len(files):
            raise InvalidInput(f"a model has 1 to {MAX_FILES} files, each path once; {len(files)} are given")
        package = ModelPackage(model_format, Path(), files)
        root = self._models / package.content_hash
        with self._lock:
            if not root.exists():
                self._link(files, root)
        return ModelPackage(model_format, root, files)

    def _link(self, files: Sequence[ModelFile], root: Path) -> None:
        for file in files:
            blob = self._blobs / file.sha256
            if not blob.exists() or blob.stat().st_size != file.size_bytes:
                raise ModelNotFound(f"file {file.path!r} ({file.sha256}) was not uploaded")
        partial = root.with_name(root.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for file in files:
                target = partial / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(self._blobs / file.sha256, target)
            os.replace(partial, root)
        except OSError as error:  # a name too long, or a file where another one's folder must be
            raise InvalidInput(f"the model's files cannot be laid out: {error.strerror}") from error


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
