"""A region of shared memory, made known to the accelerator at the other end of a connection."""

from __future__ import annotations

import contextlib
import json
import os

from elastic_inference.client.connection import Connection
from elastic_inference.protocol.shared_memory import Region, peer_uid


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
