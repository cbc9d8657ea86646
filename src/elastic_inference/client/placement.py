"""Where a predictor computes: at an address, on a host's accelerator, or embedded in this machine."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from elastic_inference.client import embedded
from elastic_inference.client.connection import Address, ConnectionPool
from elastic_inference.client.host_session import (
    ACCELERATOR_VARIABLE,
    HOST_VARIABLE,
    TOKEN_VARIABLE,
    HostSession,
)
from elastic_inference.client.hosted import acquire
from elastic_inference.client.visible import VISIBLE_VARIABLE, choose
from elastic_inference.errors import InvalidInput, PredictorClosed
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.tls import client_context


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


class Place:
    """An accelerator that can be reached, and the end of it.

    Attributes:
        explain: The error to raise where it has ended for good; None while it may come back.
    """

    def __init__(
        self, pool: ConnectionPool, explain: Callable[[], Exception | None], release: Callable[[], None]
    ) -> None:
        self.pool = pool
        self._explain = explain
        self._release = release
        self._is_closed = False

    def explain(self) -> Exception | None:
        """The error to raise where the accelerator will not answer any more; None while it may come back."""
        if self._is_closed:
            return PredictorClosed("the predictor was closed during this call")
        return self._explain()

    def close(self) -> None:
        """Close the connections and give the accelerator back; closing twice is fine."""
        if not self._is_closed:
            self._is_closed = True
            self.pool.close()
            self._release()


def find(wanted: Wanted) -> Place:
    """Find, attach or start the accelerator.

    Raises:
        InvalidInput: The arguments contradict each other.
        AcceleratorNotFound: None of that id is attached and visible.
        ElasticInferenceError: It cannot be started or attached.
    """
    if wanted.address is not None:
        return _at_address(wanted, wanted.address)
    if _names_a_host(wanted):
        return _on_host(wanted)
    choose(wanted.accelerator_id, ["embedded"])
    options = embedded.EmbeddedOptions(num_threads=wanted.num_threads, cache_dir=wanted.cache_dir)
    accelerator = embedded.acquire(options)
    return Place(
        ConnectionPool(accelerator.address),
        accelerator.explain,
        lambda: embedded.release(options, accelerator),
    )


def _names_a_host(wanted: Wanted) -> bool:
    """An ordinal alone does not: a program written for one accelerator counts the embedded one."""
    return (
        wanted.host is not None
        or wanted.accelerator_type is not None
        or (isinstance(wanted.accelerator_id, str) and not wanted.accelerator_id.isdigit())
        or any(os.environ.get(name) for name in (HOST_VARIABLE, ACCELERATOR_VARIABLE))
    )


def _at_address(wanted: Wanted, text: str) -> Place:
    if wanted.host is not None or wanted.accelerator_id is not None or wanted.accelerator_type is not None:
        raise InvalidInput(
            "address names the accelerator: host, accelerator_id and accelerator_type must be None"
        )
    token = wanted.token if wanted.token is not None else os.environ.get(TOKEN_VARIABLE)
    address = Address(Endpoint.parse(text), token, tls_context(wanted))
    return Place(ConnectionPool(address), lambda: None, lambda: None)


def _on_host(wanted: Wanted) -> Place:
    if wanted.accelerator_type is not None:
        if wanted.accelerator_id is not None:
            raise InvalidInput("accelerator_type attaches a new accelerator: accelerator_id must be None")
        accelerator_id, token = None, wanted.token
    else:
        accelerator_id, token = _chosen(wanted)
    hosted = acquire(
        host=wanted.host,
        token=token,
        accelerator_type=wanted.accelerator_type,
        accelerator_id=accelerator_id,
        tls_ca=wanted.tls_ca,
        tls_cert=wanted.tls_cert,
        tls_key=wanted.tls_key,
    )
    try:
        address = Address(Endpoint.parse(hosted.address), hosted.token, tls_context(wanted))
    except BaseException:
        hosted.close()
        raise
    return Place(ConnectionPool(address), hosted.explain, hosted.close)


def _chosen(wanted: Wanted) -> tuple[str, str | None]:
    """The accelerator among those attached, and its token.

    Attached are those that EI_ACCELERATOR names, with their tokens in EI_TOKEN in the same order, or else those that
    the host shows to the token.
    """
    attached = _listed(ACCELERATOR_VARIABLE)
    tokens = _listed(TOKEN_VARIABLE) if wanted.token is None else [wanted.token]
    first_token = tokens[0] if tokens else None
    by_id = isinstance(wanted.accelerator_id, str) and not wanted.accelerator_id.isdigit()
    if by_id and wanted.accelerator_id not in attached and os.environ.get(VISIBLE_VARIABLE) is None:
        return str(wanted.accelerator_id), first_token
    if not attached:
        session = HostSession(
            wanted.host,
            first_token,
            tls_ca=wanted.tls_ca,
            tls_cert=wanted.tls_cert,
            tls_key=wanted.tls_key,
        )
        attached = [value["accelerator_id"] for value in session.request("GET", "/v1/accelerators")]
    chosen = choose(wanted.accelerator_id, attached)
    if len(tokens) != len(attached):
        return chosen, first_token
    return chosen, tokens[attached.index(chosen)]


def _listed(name: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def tls_context(wanted: Wanted) -> ssl.SSLContext | None:
    """The TLS context of the caller's files, None where none is named; InvalidInput where one cannot be read."""
    if wanted.tls_ca is None and wanted.tls_cert is None:
        return None
    return client_context(wanted.tls_ca, wanted.tls_cert, wanted.tls_key)
