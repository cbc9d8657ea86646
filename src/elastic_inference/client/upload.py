"""Sending a model's files to an accelerator: once, in chunks, resumed where an earlier try ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO

from elastic_inference.client.connection import Connection, ConnectionPool
from elastic_inference.errors import DeadlineExceeded, InvalidInput
from elastic_inference.models.package import ModelFile, ModelPackage

Progress = Callable[[int, int], None]
"""Called with bytes sent so far and bytes in all."""

CHUNK_BYTES = 4 << 20
CHUNK_SECONDS = 60.0  # 4 MiB at half a Mbit/s


def upload(
    pool: ConnectionPool,
    package: ModelPackage,
    progress: Progress | None = None,
    deadline: float | None = None,
) -> None:
    """Send those files of a model that the accelerator does not have.

    Args:
        deadline: On the monotonic clock; None bounds only each chunk.

    Raises:
        InvalidInput: A file changed while it was sent.
        CapacityExceeded: The accelerator has no room.
        DeadlineExceeded, TransportError: It took too long or broke; calling again goes on where it ended.
    """
    sent = 0
    for file in package.files:
        before = sent

        def report(position: int, before: int = before) -> None:
            if progress is not None:
                progress(before + position, package.size_bytes)

        with pool.connection(CHUNK_SECONDS) as connection:
            _send(connection, package, file, report, deadline)
        sent += file.size_bytes
        report(file.size_bytes)


def _send(
    connection: Connection,
    package: ModelPackage,
    file: ModelFile,
    report: Callable[[int], None],
    deadline: float | None,
) -> None:
    path = f"/v2/blobs/{file.sha256}"
    answer = connection.call("GET", path, ok=(200, 404))
    with open(package.root / file.path, "rb") as source:
        while not answer["is_whole"]:
            # Where others send the same file, it stands further on each time. At least the last byte goes out, since
            # it is the request that has the accelerator check the whole.
            position = min(int(answer["num_bytes"]), max(file.size_bytes - 1, 0))
            chunk = _read_chunk(source, file, position)
            connection.stream.set_timeout(_chunk_seconds(deadline))
            headers = {}
            if chunk:
                headers["Content-Range"] = f"bytes {position}-{position + len(chunk) - 1}/{file.size_bytes}"
            answer = connection.call("PUT", path, chunk, headers)
            report(int(answer["num_bytes"]))


def _chunk_seconds(deadline: float | None) -> float:
    left = CHUNK_SECONDS if deadline is None else deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("no time was left to send the model")
    return min(left, CHUNK_SECONDS)


def _read_chunk(source: BinaryIO, file: ModelFile, position: int) -> bytes:
    source.seek(position)
    chunk = source.read(min(CHUNK_BYTES, file.size_bytes - position))
    if not chunk and file.size_bytes:
        raise InvalidInput(
            f"model file {source.name} became shorter than {file.size_bytes} bytes while it was sent"
        )
    return chunk
