"""LitServe: one API whose request is the raw body; it views it as an array and answers four bytes.

An annotation makes FastAPI hand over the body unparsed; the default would be JSON. Its ZeroMQ transport
(`fast_queue`) was not measured.
"""

from __future__ import annotations

import sys

from benchmarks.dataplane.drivers.drive import free_port, server
from benchmarks.dataplane.drivers.http_bytes import drive_http, is_ready


def serve(port: int, fast_queue: bool) -> None:
    """Be the server."""
    from litserve import LitServer

    from benchmarks.dataplane.drivers.litserve_api import Noop

    litserve = LitServer(Noop(), accelerator="cpu", timeout=60, fast_queue=fast_queue)
    litserve.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)


def main() -> None:
    """Drive, or be the server where a port is given."""
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]), fast_queue="--fast-queue" in sys.argv)
        return
    port = free_port()
    with server([sys.executable, "-m", __spec__.name, str(port)], lambda: is_ready(port, "/predict")):
        drive_http(port, "/predict")


if __name__ == "__main__":
    main()
