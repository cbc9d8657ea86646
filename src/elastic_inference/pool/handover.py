"""Bringing an accelerator's models to where it moves, while it goes on answering: by the words that a client would use.

Accelerators run what others wrote, so of what lies in their folders only plain files of their own user are read: never
what a link leads to.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from elastic_inference.client.connection import MAX_JSON_BYTES, Address, ConnectionPool
from elastic_inference.client.upload import upload
from elastic_inference.deadline import Deadline
from elastic_inference.errors import ElasticInferenceError, InvalidInput
from elastic_inference.host.processes.folders import AcceleratorFolder
from elastic_inference.models.package import ModelFile, ModelFormat, ModelPackage
from elastic_inference.protocol.endpoint import Endpoint

logger = logging.getLogger(__name__)

_RECORDS = ("loaded",)  # in an accelerator's store, as its model table writes them
_BLOBS = ("blobs",)  # among its artifacts


def hand_over(folder: AcceleratorFolder, uid: int, to: Address, deadline: Deadline) -> dict[str, str]:
    """Send an accelerator's models to another one, and let that load them.

    Args:
        uid: Whose files may be read.
        to: The other one.

    Returns:
        For each model that was loaded here why it is not there, "" where it is: its clients load it themselves.
    """
    connections = ConnectionPool(to)
    told: dict[str, str] = {}
    try:
        for name, load in _loads(folder.store, uid):
            try:
                _bring(name, load, folder.artifacts, uid, connections, deadline)
                told[name] = ""
            except (ElasticInferenceError, OSError, ValueError, TypeError, KeyError) as error:
                told[name] = f"{error}"
                logger.warning("model not handed over", extra={"model": name, "why": str(error)})
    finally:
        connections.close()
    return told


def _bring(
    name: str,
    load: Mapping[str, Any],
    artifacts: Path,
    uid: int,
    connections: ConnectionPool,
    deadline: Deadline,
) -> None:
    described = load["package"]
    files = tuple(
        ModelFile(each["path"], int(each["size_bytes"]), each["sha256"]) for each in described["files"]
    )

    for file in files:
        if not re.fullmatch(r"[0-9a-f]{64}", file.sha256):
            raise InvalidInput(f"sha256 {file.sha256!r:.80} is not 64 hexadecimal digits")

    def open_blob(file: ModelFile) -> BinaryIO:
        return _open_own(artifacts, (*_BLOBS, file.sha256), uid)

    package = ModelPackage(ModelFormat(described["format"]), artifacts, files)
    upload(connections, package, None, deadline, open_blob)
    with connections.connection(deadline) as connection:
        body = json.dumps({"parameters": load}).encode()
        connection.call("POST", f"/v2/repository/models/{quote(name, safe='')}/load", body)


def _loads(store: Path, uid: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and parameters of each model that a client loaded; models of a folder are there everywhere."""
    for name in sorted(_names(store, uid)):
        if name.startswith(".") or "@" in name:
            continue
        with contextlib.suppress(OSError, ValueError), _open_own(store, (*_RECORDS, name), uid) as file:
            load = json.loads(file.read(MAX_JSON_BYTES))
            if isinstance(load, dict) and isinstance(load.get("package"), dict):
                yield name, load


def _names(store: Path, uid: int) -> list[str]:
    try:
        directory = _open(store, _RECORDS, uid, os.O_DIRECTORY)
    except FileNotFoundError:
        return []
    except (OSError, InvalidInput) as error:
        logger.warning("no model handed over", extra={"folder": str(store), "why": str(error)})
        return []
    try:
        return os.listdir(directory)
    finally:
        os.close(directory)


def _open_own(root: Path, parts: tuple[str, ...], uid: int) -> BinaryIO:
    descriptor = _open(root, parts, uid, os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInput(f"{'/'.join(parts)!r:.120} of the accelerator is not a plain file")
    return os.fdopen(descriptor, "rb")


def _open(root: Path, parts: tuple[str, ...], uid: int, flags: int) -> int:
    """Open what lies below `root` step by step, so that no step is a link; all of it must be the user's."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    for number, part in enumerate(parts):
        if "/" in part or part in ("", ".", ".."):
            os.close(descriptor)
            raise InvalidInput(f"{part!r:.120} is not a file's name")
        kind = flags if number == len(parts) - 1 else os.O_DIRECTORY
        try:
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
        if os.fstat(descriptor).st_uid != uid:
            os.close(descriptor)
            raise InvalidInput(f"{part!r:.120} is not of the accelerator's user")
    return descriptor


def endpoint_between_hosts(endpoints: list[str]) -> str:
    """Return the endpoint by which another host reaches an accelerator: a Unix socket serves its own machine."""
    return next((text for text in endpoints if Endpoint.parse(text).kind != "unix"), endpoints[0])
