"""Sending a model's files to an accelerator: once, in chunks, resumed where an earlier try ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from elastic_inference.client.connection import Connection, ConnectionPool
from elastic_inference.deadline import NO_DEADLINE, Deadline
from elastic_inference.errors import InvalidInput, ProtocolError
from elastic_inference.models.package import ModelFile, ModelPackage

Progress = Callable[[int, int], None]
"""Called with bytes sent so far and bytes in all."""

CHUNK_BYTES = 4 << 20
CHUNK_SECONDS = 60.0  # 4 MiB at half a Mbit/s


def upload(
    pool: ConnectionPool,
    package: ModelPackage,
    progress: Progress | None = None,
    deadline: Deadline = NO_DEADLINE,
    open_file: Callable[[ModelFile], BinaryIO] | None = None,
) -> None:
    """Send those files of a model that the accelerator does not have.

    Args:
        deadline: Of the whole upload; without one each chunk alone is bounded.
        open_file: Opens one of them; None: below the package's root, by its path.

    Raises:
        InvalidInput: A file changed while it was sent.
        CapacityExceeded: The accelerator has no room.
        DeadlineExceeded, TransportError: It took too long or broke; calling again goes on where it ended.
    """

    def open_here(file: ModelFile) -> BinaryIO:
        return open(package.root / file.path, "rb")

    sent = 0
    for file in package.files:
        before = sent

        def report(position: int, before: int = before) -> None:
            if progress is not None:
                progress(before + position, package.size_bytes)

        with pool.connection(deadline.within(CHUNK_SECONDS)) as connection:
            _send(connection, file, open_file or open_here, report, deadline)
        sent += file.size_bytes
        report(file.size_bytes)


def _send(
    connection: Connection,
    file: ModelFile,
    open_file: Callable[[ModelFile], BinaryIO],
    report: Callable[[int], None],
    deadline: Deadline,
) -> None:
    path = f"/v2/blobs/{file.sha256}"
    answer = _progress(connection.call("GET", path, ok=(200, 404)))
    if answer["is_whole"]:
        return
    with open_file(file) as source:
        while not answer["is_whole"]:
            # Where others send the same file, it stands further on each time. At least the last byte goes out, since
            # it is the request that has the accelerator check the whole.
            position = min(int(answer["num_bytes"]), max(file.size_bytes - 1, 0))
            chunk = _read_chunk(source, file, position)
            deadline.check("the end of the upload")
            connection.stream.set_deadline(deadline.within(CHUNK_SECONDS))
            headers = {}
            if chunk:
                headers["Content-Range"] = f"bytes {position}-{position + len(chunk) - 1}/{file.size_bytes}"
            answer = _progress(connection.call("PUT", path, chunk, headers))
            report(int(answer["num_bytes"]))


def _progress(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what an accelerator says of a file; a proxy's own 404 says something else."""
    if not isinstance(answer.get("num_bytes"), int) or "is_whole" not in answer:
        raise ProtocolError(f"what answers for model files is not an accelerator: {answer!r:.200}")
    return answer


def _read_chunk(source: BinaryIO, file: ModelFile, position: int) -> bytes:
    source.seek(position)
    chunk = source.read(min(CHUNK_BYTES, file.size_bytes - position))
    if not chunk and file.size_bytes:
        raise InvalidInput(
            f"model file {source.name} became shorter than {file.size_bytes} bytes while it was sent"
        )
    return chunk
