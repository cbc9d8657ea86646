"""A region of shared memory, made known to the accelerator at the other end of a connection."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence

from elastic_inference.client.connection import Connection
from elastic_inference.models.signature import Signature
from elastic_inference.protocol.heads import ALIGNMENT
from elastic_inference.protocol.shared_memory import Region, peer_uid
from elastic_inference.tensors import NUMPY_DTYPES

MOST_BYTES_AHEAD = 64 << 20
"""A larger region is made when a call needs it, not before."""


def bytes_ahead(signature: Signature, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return what the next call's inputs need of a region, as far as that can be told; else 0.

    Args:
        shapes: Those of an earlier call, by alias; {} where none is known. Then the model's own count, if none is open.
    """
    total = 0
    for alias in shapes or signature.required_inputs:
        spec = signature.inputs.get(alias)
        shape = shapes.get(alias, None if spec is None else spec.shape)
        if spec is None or shape is None or spec.base_dtype == "string":
            return 0
        sizes = [size for size in shape if size is not None]
        if len(sizes) < len(shape):
            return 0
        total += math.prod(sizes) * NUMPY_DTYPES[spec.base_dtype].itemsize + ALIGNMENT
    return total if total <= MOST_BYTES_AHEAD else 0


def register(connection: Connection, fresh: Region) -> None:
    """Register a region for as long as the connection lasts, and take its name away; closed where that fails.

    Raises:
        InvalidInput: The accelerator cannot open it.
    """
    try:
        server_uid = peer_uid(connection.stream.sock)
        if server_uid is not None and server_uid != os.geteuid():
            with contextlib.suppress(OSError):  # the accelerator's refusal is what the report then says
                fresh.grant(server_uid)
        body = {"key": fresh.key, "offset": 0, "byte_size": fresh.size_bytes, "bound_to_connection": True}
        path = f"/v2/systemsharedmemory/region/{fresh.key[1:]}/register"
        connection.call("POST", path, json.dumps(body).encode())
    except BaseException:
        fresh.close()
        raise
    finally:
        fresh.unlink()
