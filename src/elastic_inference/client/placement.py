"""Finding, attaching or starting the accelerator that an `Accelerator` value names; what it is stands there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from elastic_inference import settings
from elastic_inference.client import embedded, hosted
from elastic_inference.client.accelerator import (
    Accelerator,
    At,
    Attach,
    Embedded,
    FromEnvironment,
    HostAccess,
    OfId,
)
from elastic_inference.client.connection import Address, ConnectionPool
from elastic_inference.client.host_session import HostSession, tls_in_force
from elastic_inference.client.visible import choose
from elastic_inference.deadline import Deadline
from elastic_inference.errors import InvalidInput, PredictorClosed
from elastic_inference.protocol.endpoint import Endpoint

CONNECT_SECONDS = 10.0
POOLED_CONNECT_SECONDS = 2.0


class Place:
    """An accelerator that can be reached, and the end of it."""

    def __init__(
        self,
        pool: ConnectionPool,
        explain: Callable[[Deadline], Exception | None],
        release: Callable[[], None],
    ) -> None:
        self.pool = pool
        self._explain = explain
        self._release = release
        self._is_closed = False

    def explain(self, deadline: Deadline) -> Exception | None:
        """Return the error to raise where the accelerator will not answer any more; None while it may come back."""
        if self._is_closed:
            return PredictorClosed("the predictor was closed during this call")
        return self._explain(deadline)

    def close(self) -> None:
        """Close the connections and give the accelerator back; closing twice is fine."""
        if not self._is_closed:
            self._is_closed = True
            self.pool.close()
            self._release()


def find(accelerator: Accelerator, cache_dir: str | Literal[False] | None = None) -> Place:
    """Find, attach or start the accelerator.

    Args:
        cache_dir: Where an embedded one keeps models; see LoadOptions.

    Raises:
        AcceleratorNotFound: None of that id is attached and visible.
        ElasticInferenceError: It cannot be started or attached.
    """
    if isinstance(accelerator, FromEnvironment):
        accelerator = from_environment(accelerator)
    if isinstance(accelerator, At):
        return _at_address(accelerator)
    if isinstance(accelerator, Attach):
        return _on_host(accelerator.host, lambda: hosted.attach(accelerator))
    if isinstance(accelerator, OfId):
        chosen, token = _chosen(accelerator)
        access = HostAccess(accelerator.host.url, token, accelerator.host.tls)
        return _on_host(access, lambda: hosted.find(access, chosen))
    if isinstance(accelerator, Embedded):
        return _embedded(accelerator, cache_dir)
    raise InvalidInput(f"{accelerator!r} names no accelerator process")


def from_environment(accelerator: FromEnvironment) -> OfId | Embedded:
    """Return what the environment names; an ordinal alone names no host, and counts the embedded one.

    Raises:
        InvalidInput: It goes with none of both.
    """
    if settings.HOST.get() is not None or settings.ACCELERATOR.get():
        if accelerator.allow_unsafe_operations:
            raise InvalidInput(
                f"allow_unsafe_operations is for an embedded accelerator, but {settings.HOST.name} names a host, whose "
                "operator decides"
            )
        return OfId(accelerator.ordinal, accelerator.host)
    for name in ("token", "tls"):
        if getattr(accelerator.host, name) is not None:
            raise InvalidInput(
                f"{name} is given, but no accelerator that it could be for: give address, host or accelerator_type "
                f"too, or set {settings.HOST.name}"
            )
    choose(accelerator.ordinal, ["embedded"])
    return Embedded(accelerator.threads, allow_unsafe_operations=accelerator.allow_unsafe_operations)


def _embedded(accelerator: Embedded, cache_dir: str | Literal[False] | None) -> Place:
    embedded.check_system()
    limit_bytes = settings.store_limit_bytes()
    if cache_dir is None and limit_bytes:
        cache_dir = str(settings.store_dir())
    options = embedded.EmbeddedOptions(
        num_threads=accelerator.threads,
        artifacts_dir=cache_dir or None,
        store_limit_bytes=limit_bytes or None,
        allow_unsafe_operations=accelerator.allow_unsafe_operations,
        record_requests=settings.RECORD_REQUESTS.get() or 0,
    )
    process = embedded.acquire(options)
    return Place(ConnectionPool(process.address), process.explain, lambda: embedded.release(options, process))


def _at_address(accelerator: At) -> Place:
    endpoint = Endpoint.parse(accelerator.address)
    token = accelerator.token if accelerator.token is not None else _first(settings.TOKEN.get())
    tls = tls_in_force(accelerator.tls, endpoint)
    return Place(ConnectionPool(Address(endpoint, token, tls)), lambda _: None, lambda: None)


def _on_host(access: HostAccess, acquire: Callable[[], hosted.Hosted]) -> Place:
    found = acquire()
    try:

        def address_of(text: str) -> Address:
            endpoint = Endpoint.parse(text)
            return Address(endpoint, found.token, tls_in_force(access.tls, endpoint))

        # A pool may have placed it elsewhere meanwhile, so there is no use in long waits for one machine.
        is_pooled = found.attachment.placement is not None
        seconds = POOLED_CONNECT_SECONDS if is_pooled else CONNECT_SECONDS
        pool = ConnectionPool(address_of(found.address), seconds)
        found.follow(pool, address_of)
    except BaseException:
        found.close()
        raise
    return Place(pool, found.explain, found.close)


def _chosen(accelerator: OfId) -> tuple[str, str | None]:
    """Return the accelerator among those attached, and its token.

    Attached are those that EI_ACCELERATOR names, with their tokens in EI_TOKEN in the same order, or else those that
    the host shows to the token.
    """
    access = accelerator.host
    attached = list(settings.ACCELERATOR.get() or ())
    tokens = [access.token] if access.token is not None else list(settings.TOKEN.get() or ())
    wanted = accelerator.accelerator_id
    is_visible_unset = settings.VISIBLE_DEVICES.get() is None
    if not accelerator.is_ordinal and wanted not in attached and is_visible_unset:
        token = _first(tokens)
        return HostSession(access.url, token, tls=access.tls).find_id(str(wanted)), token
    if not attached:
        shown = HostSession(access.url, _first(tokens), tls=access.tls).request("GET", "/v1/accelerators")
        attached = [value["accelerator_id"] for value in shown]
    chosen = choose(wanted, attached)
    return chosen, tokens[attached.index(chosen)] if len(tokens) == len(attached) else _first(tokens)


def _first(tokens: list[str] | tuple[str, ...] | None) -> str | None:
    return tokens[0] if tokens else None
