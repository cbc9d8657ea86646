"""Where a predictor computes: at an address, on a host's accelerator, or embedded in this machine."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from elastic_inference.client import embedded
from elastic_inference.client.connection import Address, ConnectionPool
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.endpoint import Endpoint


@dataclass(frozen=True)
class Wanted:
    """What the caller said of the place; see EIPredictor's arguments of the same names."""

    address: str | None = None
    token: str | None = None
    host: str | None = None
    accelerator_id: str | int | None = None
    accelerator_type: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    num_threads: int | None = None
    cache_dir: str | None = None


@dataclass(frozen=True)
class Place:
    """An accelerator that can be reached.

    Attributes:
        explain: The error to raise where it has ended for good; None while it may come back.
        close: Give it back.
    """

    pool: ConnectionPool
    explain: Callable[[], Exception | None]
    close: Callable[[], None]


def find(wanted: Wanted) -> Place:
    """Find or start the accelerator.

    Raises:
        InvalidInput: The arguments contradict each other.
        ElasticInferenceError: It cannot be started, attached or found.
    """
    if wanted.address is not None:
        if (
            wanted.host is not None
            or wanted.accelerator_id is not None
            or wanted.accelerator_type is not None
        ):
            raise InvalidInput(
                "address names the accelerator: host, accelerator_id and accelerator_type must be None"
            )
        address = Address(Endpoint.parse(wanted.address), wanted.token, tls_context(wanted))
        return Place(ConnectionPool(address), lambda: None, lambda: None)
    options = embedded.EmbeddedOptions(num_threads=wanted.num_threads, cache_dir=wanted.cache_dir)
    accelerator = embedded.acquire(options)
    return Place(
        ConnectionPool(accelerator.address),
        accelerator.explain,
        lambda: embedded.release(options, accelerator),
    )


def tls_context(wanted: Wanted) -> ssl.SSLContext | None:
    """The TLS context of the caller's files, None where none is named; InvalidInput where one cannot be read."""
    if wanted.tls_ca is None and wanted.tls_cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=wanted.tls_ca)
        if wanted.tls_cert is not None:
            context.load_cert_chain(wanted.tls_cert, wanted.tls_key)
    except OSError as error:
        raise InvalidInput(
            f"TLS files {wanted.tls_ca}, {wanted.tls_cert}, {wanted.tls_key}: {error}"
        ) from error
    return context
