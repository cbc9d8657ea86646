"""Serves a host's control API until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.control import Served
from elastic_inference.host.doors.admission import DoorLimits
from elastic_inference.host.doors.app import Addition, make_app
from elastic_inference.host.doors.connections import Listener
from elastic_inference.host.doors.feed import Feed
from elastic_inference.host.processes.folders import TlsFiles
from elastic_inference.limits.processes import raise_descriptor_limit
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.settings import asks_for_traces
from elastic_inference.telemetry import tracer_provider

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 5
_BACKLOG = 1024  # connections that the kernel keeps until the loop takes them


def serve(
    host: Served,
    listen: Endpoint,
    *,
    on_ready: Callable[[str], None],
    keep_running: bool = False,
    addition: Addition | None = None,
) -> None:
    """Open a host, serve it until SIGTERM or SIGINT, and close it; SIGHUP reads the TLS files again.

    It listens before it opens, so that clients of a host that is started again wait and are not refused.

    Args:
        addition: Paths beside the host's own.
        on_ready: Called with the host's URL as soon as it answers.
        keep_running: Whether the accelerators go on when the host ends.

    Raises:
        ConnectError: The address is taken or may not be used.
        InvalidInput: The state directory or the TLS files cannot be used.
    """
    provider = _tracer_provider(host) if asks_for_traces() else None
    limits = DoorLimits.within(raise_descriptor_limit())
    with listen.listen(_BACKLOG) as sock:
        if listen.kind == "unix":
            os.chmod(listen.path, 0o666)  # the bearer token says who may
        signal.signal(signal.SIGHUP, _ignore)  # until there is something to read again
        host.open()
        # uvicorn raises the signal that ended it once more; without a handler it would end us before we close.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)
        feed = Feed(host, limits.num_listeners)
        try:
            _Server(
                host,
                _config(host, limits, provider, feed, addition),
                limits,
                feed,
                lambda: on_ready(_url(listen, sock, host.certificates.files)),
            ).run([sock])
        finally:
            host.close(host.keeps_running(otherwise=keep_running))
            if provider is not None:
                provider.shutdown()
            if listen.kind == "unix":
                os.unlink(listen.path)


def _tracer_provider(host: Served) -> Any:
    attributes = {"service.name": "elastic-inference-host", "service.version": host.version}
    return tracer_provider(attributes)


class _Server(uvicorn.Server):
    def __init__(
        self,
        host: Served,
        config: uvicorn.Config,
        limits: DoorLimits,
        feed: Feed,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._host = host
        self._limits = limits
        self._feed = feed
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen in our own way: uvicorn's bounds neither connections nor their time."""
        listeners = [
            Listener(
                sock, self.config, self.server_state, self._limits, lambda: self._host.certificates.context
            )
            for sock in sockets or ()
        ]
        self.servers = listeners  # type: ignore[assignment]  # it closes them and waits for their end
        for listener in listeners:
            listener.open()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._begin_reload)
        self.started = True
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of the page first: else the end would wait for browsers that wait for it."""
        self._feed.close()
        await super().shutdown(sockets)

    def _begin_reload(self) -> None:
        # In a thread: accelerators are asked to reload too, and one may hang.
        threading.Thread(target=self._reload, name="reload", daemon=True).start()

    def _reload(self) -> None:
        try:
            self._host.reload()
        except ElasticInferenceError as error:
            logger.error("not reloaded, and as before", extra={"why": str(error)})


def _config(
    host: Served, limits: DoorLimits, tracer_provider: Any, feed: Feed, addition: Addition | None
) -> uvicorn.Config:
    config = uvicorn.Config(
        make_app(host, limits, tracer_provider, feed, addition),
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=round(limits.idle_seconds),
        timeout_graceful_shutdown=_GRACE_SECONDS,
        lifespan="off",
    )
    config.load()
    return config


def _url(listen: Endpoint, sock: socket.socket, tls: TlsFiles | None) -> str:
    if listen.kind == "unix":
        return f"unix:{listen.path}"
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{'http' if tls is None else 'https'}://{host}:{sock.getsockname()[1]}"


def _ignore(number: int, frame: FrameType | None) -> None:
    """Take note of nothing: the server has ended already."""
