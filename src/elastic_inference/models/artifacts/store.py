"""What was made of models, and is worth keeping between loads: by kind and key, and never trusted blindly.

An artifact is a small JSON description, and a blob where it is large. Everything here is a cache: what is absent,
damaged, of another version or cannot be written is a miss, and whoever asked makes it anew. Why something was not kept,
`put` says.

    entries/<kind>/<SHA-256 of the key>.json    the key in full, the description, and the blob's hash
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from elastic_inference.errors import CapacityExceeded
from elastic_inference.models.artifacts import locks
from elastic_inference.models.artifacts.blobs import BlobFolder, WrittenFile, sha256_of
from elastic_inference.models.artifacts.modes import PRIVATE, Modes

log = logging.getLogger(__name__)
Key = Mapping[str, Any]
"""What an artifact is made of and for: JSON values. "model" is the content hash of the model that it belongs to."""

MAX_ENTRIES = 10_000  # of one kind; the least recently used go
MAKING_SECONDS = 300.0  # to wait for who makes the same; then it is made twice


class Kind(Enum):
    """What is kept. Each kind's description is its maker's own."""

    MODEL = "model"  # which files a model consists of, and what its user calls it
    PLAN = "plan"  # how a signature is computed: what an engine worked out before it compiled
    COMPILED = "compiled"  # an engine's compiled model
    CALIBRATED = "calibrated"  # a model in lower precision
    PROOF = "proof"  # what a comparison with the reference came to
    DECISION = "decision"  # what was chosen of several, and why
    SHAPES = "shapes"  # input shapes that were called with


@dataclass(frozen=True)
class Artifact:
    """One thing that was kept.

    Attributes:
        about: Its description, as it was put.
        path: Its content, whose hash was right; None for one that is its description alone.
        size_bytes: Of the content.
        made_unix, used_unix: When it was put, and found last; seconds since 1970.
        is_published: Whether it comes from the operator's store.
    """

    kind: Kind
    key: Key
    about: Mapping[str, Any]
    path: Path | None
    sha256: str
    size_bytes: int
    made_unix: float
    used_unix: float
    is_published: bool = False

    def release(self) -> None:
        """Say that the content is not used any more, so that it may be removed; twice is fine."""
        if self.path is not None and self.path.parent.name == _USED:
            with contextlib.suppress(OSError):
                self.path.unlink()


_USED = "used"


class ArtifactStore:
    """Artifacts below one folder, which several processes of one user may share.

    Args:
        blobs: Where the contents lie.
        published: A store of the operator's that is read where this one lacks something, and never written.
        is_read_only: Whether this is such a one.
    """

    def __init__(
        self, blobs: BlobFolder, published: ArtifactStore | None = None, *, is_read_only: bool = False
    ) -> None:
        self.blobs = blobs
        self.published = published
        self._is_read_only = is_read_only
        self._entries = blobs.directory / "entries"
        self._locks = blobs.directory / "locks"

    @classmethod
    def at(
        cls,
        directory: Path,
        limit_bytes: int | None = None,
        published: Path | None = None,
        modes: Modes = PRIVATE,
    ) -> ArtifactStore:
        """Return the store in a folder, which is made when something is put into it."""
        shelf = None if published is None else cls(BlobFolder(published), is_read_only=True)
        return cls(BlobFolder(directory, limit_bytes, modes=modes), shelf)

    def why_unusable(self) -> str:
        """Make the store's folder; return why it cannot be used or should not be trusted, "" where all is well."""
        try:
            self.blobs.make()
            found = self.blobs.directory.stat()
        except OSError as error:
            return f"the store {self.blobs.directory} cannot be made: {error.strerror or error}"
        is_open = found.st_mode & 0o002 and not self.blobs.modes.is_shared
        if found.st_uid not in (os.geteuid(), 0) or is_open:
            return f"the store {self.blobs.directory} can be written by other users, who could put anything into it"
        if not os.access(self.blobs.blobs, os.W_OK):
            return f"the store {self.blobs.directory} cannot be written"
        return ""

    def get(self, kind: Kind, key: Key) -> Artifact | None:
        """Return what was kept under this key; None for a miss.

        Its content stays, whatever else is removed, until `release` or the end of this process.
        """
        found = self._read(self._path(kind, key), kind)
        if found is not None and dict(found.key) == _plain(key):
            used = found if found.path is None else self._in_use(found)
            if used is not None:
                self._touch(kind, key)
                return used
        return None if self.published is None else self.published.get(kind, key)

    def put(
        self,
        kind: Kind,
        key: Key,
        about: Mapping[str, Any],
        write: Callable[[WrittenFile], object] | None = None,
    ) -> str:
        """Keep something, in place of what was under this key.

        Args:
            about: JSON; what `ei model` shows, and what whoever finds it needs to know.
            write: Writes the content; None where there is none.

        Returns:
            Why it was not kept, "" where it was.
        """
        if self._is_read_only:
            return f"the store {self.blobs.directory} is read only"
        try:
            if write is None:
                self._write_entry(kind, key, about, "", 0)
                return ""
            with self.blobs.writing() as file:
                write(file)
                sha256 = self.blobs.keep(file)
            with self._using(sha256):  # else it might have to go for its own entry
                self._write_entry(kind, key, about, sha256, file.num_bytes)
            return ""
        except CapacityExceeded as error:
            return str(error)
        except OSError as error:
            return f"the store {self.blobs.directory} cannot be written: {error.strerror or error}"

    @contextlib.contextmanager
    def making(self, kind: Kind, key: Key) -> Iterator[None]:
        """For the block, keep others from making the same: they wait, and then find it.

        The lock goes with its holder. Where none can be had, several may make the same, and the last one's is kept.
        """
        with contextlib.suppress(OSError):
            self._locks.mkdir(mode=self.blobs.modes.folder, parents=True, exist_ok=True)
        with locks.holding(self._locks / _name_of(kind, key), MAKING_SECONDS, self.blobs.modes.file):
            yield

    def artifacts(self) -> list[Artifact]:
        """All that is kept, the published things after one's own; contents are not looked at."""
        own = [
            found
            for kind in Kind
            for path in sorted(self._folder(kind).glob("*.json"))
            if (found := self._read(path, kind)) is not None
        ]
        return own + ([] if self.published is None else self.published.artifacts())

    def remove(self, artifacts: list[Artifact]) -> int:
        """Remove artifacts, and contents that nothing else needs; return the bytes that this gave back.

        What a living process uses goes from the disk when it ends.
        """
        gone = {self._path(found.kind, found.key) for found in artifacts}
        for path in gone:
            path.unlink(missing_ok=True)
        needed = {sha256 for left in self.artifacts() for sha256 in contents_of(left)}
        removed = 0
        for sha256 in {sha256 for found in artifacts for sha256 in contents_of(found)} - needed:
            removed += self.blobs.size(sha256) or 0
            self.blobs.drop(sha256)
        return removed

    def publish(self, artifacts: list[Artifact], directory: Path) -> None:
        """Copy artifacts to a store that every user of the machine may read and only this one may write.

        Raises:
            CapacityExceeded: There is no room.
            OSError: It cannot be written.
        """
        shelf = ArtifactStore.at(directory)
        for found in artifacts:
            for sha256 in contents_of(found):
                if shelf.blobs.size(sha256) is None:
                    with shelf.blobs.writing() as file, open(self.blobs.blobs / sha256, "rb") as source:
                        shutil.copyfileobj(source, file)
                        shelf.blobs.keep(file)
            shelf._write_entry(found.kind, found.key, found.about, found.sha256, found.size_bytes)
        for path in (directory, *directory.rglob("*")):
            os.chmod(path, 0o755 if path.is_dir() else 0o444)

    def close(self) -> None:
        """Let go of all that this process uses."""
        self.blobs.close()

    def _folder(self, kind: Kind) -> Path:
        return self._entries / kind.value

    def _path(self, kind: Kind, key: Key) -> Path:
        return self._folder(kind) / f"{_name_of(kind, key)}.json"

    def _read(self, path: Path, kind: Kind) -> Artifact | None:
        try:
            value = json.loads(path.read_text())
            return Artifact(
                kind=kind,
                key=dict(value["key"]),
                about=dict(value["about"]),
                path=self.blobs.blobs / str(value["sha256"]) if value["sha256"] else None,
                sha256=str(value["sha256"]),
                size_bytes=int(value["size_bytes"]),
                made_unix=float(value["made_unix"]),
                used_unix=path.stat().st_mtime,
                is_published=self._is_read_only,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("an artifact cannot be read", extra={"path": str(path), "error": str(error)})
            return None

    def _touch(self, kind: Kind, key: Key) -> None:
        if not self._is_read_only:
            with contextlib.suppress(OSError):
                self.blobs.modes.touch(self._path(kind, key), self.blobs.wall_clock())

    def _in_use(self, found: Artifact) -> Artifact | None:
        """Keep its content from being removed, and then look at it; None where it is gone, or is not what was put."""
        used = self._linked(found)
        if used is None or used.path is None:
            return None
        try:
            if sha256_of(used.path) == found.sha256:
                return used
        except OSError:
            return None
        log.warning("an artifact is damaged", extra={"path": str(found.path)})
        used.release()
        if not self._is_read_only:
            self.blobs.drop(found.sha256)
        return None

    def _linked(self, found: Artifact) -> Artifact | None:
        if self._is_read_only:
            return found  # only its operator removes something there
        try:
            path = self.blobs.link(found.sha256, f"{_USED}/{secrets.token_hex(8)}")
        except FileNotFoundError:
            return None
        except OSError:
            return found  # a disk that may only be read, or has no links: nobody removes anything, or opening it tells
        return Artifact(**{**vars(found), "path": path})

    @contextlib.contextmanager
    def _using(self, sha256: str) -> Iterator[None]:
        path = self.blobs.link(sha256, f"{_USED}/{secrets.token_hex(8)}")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def _write_entry(
        self, kind: Kind, key: Key, about: Mapping[str, Any], sha256: str, size_bytes: int
    ) -> None:
        path = self._path(kind, key)
        path.parent.mkdir(mode=self.blobs.modes.folder, parents=True, exist_ok=True)
        value = {
            "key": dict(key), "about": dict(about), "sha256": sha256, "size_bytes": size_bytes,
            "made_unix": self.blobs.wall_clock(),
        }  # fmt: skip
        with self.blobs.writing() as file:
            file.write(json.dumps(value).encode())
            self.blobs.move(file, path)
        self._bound(path.parent)

    @staticmethod
    def _bound(folder: Path) -> None:
        with contextlib.suppress(OSError):
            paths = list(folder.iterdir())
            if len(paths) > MAX_ENTRIES:
                by_use = sorted((path.stat().st_mtime, path) for path in paths)
                for _, path in by_use[: len(paths) - MAX_ENTRIES * 9 // 10]:
                    path.unlink(missing_ok=True)


def contents_of(artifact: Artifact) -> set[str]:
    """Return the hashes of the files that an artifact needs: its own, and those of the model that it describes."""
    files = artifact.about.get("files", ()) if artifact.kind is Kind.MODEL else ()
    return {str(file["sha256"]) for file in files} | ({artifact.sha256} if artifact.sha256 else set())


def _name_of(kind: Kind, key: Key) -> str:
    text = json.dumps([kind.value, key], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(key: Key) -> dict[str, Any]:
    """Return a key as it comes back from JSON."""
    return dict(json.loads(json.dumps(key)))
