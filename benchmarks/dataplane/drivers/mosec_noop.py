"""mosec: its Rust server, one Python worker that views the body as an array and answers four bytes."""

from __future__ import annotations

import sys

from benchmarks.dataplane.drivers.drive import free_port, server
from benchmarks.dataplane.drivers.http_bytes import drive_http, is_ready


def serve() -> None:
    """Be the server; mosec reads its own options from the command line."""
    from mosec import Server

    from benchmarks.dataplane.drivers.mosec_worker import Noop

    mosec = Server()
    mosec.append_worker(Noop, num=1)
    mosec.run()


def main() -> None:
    """Drive, or be the server where mosec's options are given."""
    if len(sys.argv) > 1:
        serve()
        return
    port = free_port()
    command = [sys.executable, "-m", __spec__.name, "--address", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "error"]
    with server(command, lambda: is_ready(port, "/inference")):
        drive_http(port, "/inference")


if __name__ == "__main__":
    main()
