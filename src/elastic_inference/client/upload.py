"""Sending a model's files to an accelerator: once, in chunks, resumed where an earlier try ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from elastic_inference.client.connection import Connection, ConnectionPool
from elastic_inference.errors import InvalidInput
from elastic_inference.models.package import ModelFile, ModelPackage

Progress = Callable[[int, int], None]
"""Called with bytes sent so far and bytes in all."""

CHUNK_BYTES = 4 << 20
CHUNK_SECONDS = 60.0  # 4 MiB at half a Mbit/s


def upload(pool: ConnectionPool, package: ModelPackage, progress: Progress | None = None) -> None:
    """Send those files of a model that the accelerator does not have.

    Raises:
        InvalidInput: A file changed while it was sent, or the accelerator has no room.
        TransportError: The connection failed; calling again goes on where it ended.
    """
    sent = 0
    for file in package.files:
        before = sent

        def report(position: int, before: int = before) -> None:
            if progress is not None:
                progress(before + position, package.size_bytes)

        with pool.connection(CHUNK_SECONDS) as connection:
            _send(connection, package, file, report)
        sent += file.size_bytes
        report(file.size_bytes)


def _send(
    connection: Connection, package: ModelPackage, file: ModelFile, report: Callable[[int], None]
) -> None:
    path = f"/v2/blobs/{file.sha256}"
    known = connection.call("GET", path, ok=(200, 404))
    if known["is_whole"]:
        return
    position = int(known["num_bytes"])
    with open(package.root / file.path, "rb") as source:
        source.seek(position)
        while True:
            chunk = _read_chunk(source, file, position)
            connection.stream.set_timeout(CHUNK_SECONDS)
            end = position + len(chunk)
            headers = {"Content-Range": f"bytes {position}-{end - 1}/{file.size_bytes}"} if chunk else {}
            connection.call("PUT", path, chunk, headers)
            position = end
            report(position)
            if position == file.size_bytes:
                return


def _read_chunk(source: BinaryIO, file: ModelFile, position: int) -> bytes:
    chunk = source.read(min(CHUNK_BYTES, file.size_bytes - position))
    if not chunk and file.size_bytes:
        raise InvalidInput(
            f"model file {source.name} became shorter than {file.size_bytes} bytes while it was sent"
        )
    return chunk
