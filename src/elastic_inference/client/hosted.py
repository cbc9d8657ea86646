"""An accelerator of a host for as long as a predictor lives: attached and kept by heartbeats, or found by its id."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from elastic_inference.client.accelerator import Attach, HostAccess
from elastic_inference.client.connection import Address, ConnectionPool
from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.deadline import NO_DEADLINE, Deadline
from elastic_inference.errors import (
    AcceleratorNotFound,
    ConnectError,
    ElasticInferenceError,
    PermissionDenied,
)

log = logging.getLogger(__name__)

_BEATS_PER_LEASE = 3  # two may be lost before the host takes the accelerator back
# A host that does not answer for so long tells nothing; the accelerator may serve on meanwhile.
_EXPLAIN_SECONDS = 5.0
# Between two looks whether a call waits, and for how long one may before a pool is asked whether it moved.
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Hosted:
    """An accelerator of a host, or of a pool of hosts, which may place it elsewhere while it is used.

    Attributes:
        address: The best of its endpoints from this machine, such as `unix:/run/a.sock`.
        token: For it.
    """

    attachment: Attachment
    address: str
    token: str
    _keeper: _Keeper

    def explain(self, deadline: Deadline) -> Exception | None:
        """Return the error to raise where the accelerator is no longer there; None where it may come back.

        Args:
            deadline: Of the call that waits for the answer.
        """
        return self._keeper.explain(deadline)

    def follow(self, pool: ConnectionPool, address_of: Callable[[str], Address]) -> None:
        """Move these connections to wherever a pool places the accelerator from now on.

        Args:
            address_of: Makes an address of an endpoint.
        """
        self._keeper.follow(pool, address_of)

    def close(self) -> None:
        """Detach it where `attach` attached it; twice is fine."""
        self._keeper.close()


def attach(accelerator: Attach) -> Hosted:
    """Attach an accelerator; it is detached at the end, or when this process has vanished.

    Raises:
        InvalidInput: There is no such type, or a value is beyond the host's limit.
        CapacityExceeded: The host cannot give that.
        ConnectError: It has no endpoint that can be reached from this machine.
    """
    session = HostSession.of(accelerator.host)
    attachment = session.attach(
        accelerator.accelerator_type,
        name=accelerator.name,
        lease_seconds=accelerator.lease_seconds,
        wait_seconds=accelerator.wait_seconds,
        priority=accelerator.priority,
        doors=accelerator.doors,
        tell=lambda place: log.warning(
            "waiting for %s at %s: %s", accelerator.accelerator_type, session.url, place
        ),
    )
    return _kept(_Keeper(session, attachment, attachment.token, is_ours=True))


def find(access: HostAccess, accelerator_id: str) -> Hosted:
    """Find an attached accelerator, which stays attached.

    Raises:
        AcceleratorNotFound: None of that id is visible to the token.
        ConnectError: It has no endpoint that can be reached from this machine.
    """
    session = HostSession.of(access)
    return _kept(_Keeper(session, session.describe(accelerator_id), session.token or "", is_ours=False))


def _kept(keeper: _Keeper) -> Hosted:
    try:
        endpoints = keeper.attachment.usable_endpoints()
        if not endpoints:
            raise ConnectError(
                f"accelerator {keeper.attachment.accelerator_id} serves at "
                f"{', '.join(keeper.attachment.endpoints)}, none of which can be reached from this machine"
            )
    except BaseException:
        keeper.close()
        raise
    keeper.start()
    return Hosted(keeper.attachment, endpoints[0], keeper.token, keeper)


class _Keeper:
    """Heartbeats in the background, and the end."""

    def __init__(self, session: HostSession, attachment: Attachment, token: str, is_ours: bool) -> None:
        self._session = session
        self.attachment = attachment
        self.token = token
        self._is_ours = is_ours
        self._stop = threading.Event()
        self._ended: Exception | None = None
        self._follows: tuple[ConnectionPool, Callable[[str], Address]] | None = None
        self._moving = threading.Lock()
        self._owner_pid = os.getpid()
        self._warning = ""
        self._warn(attachment.warning)

    def start(self) -> None:
        if self.attachment.lease_seconds is not None:
            # A daemon, so that a program that forgets to close can end; then the lease ends the accelerator.
            threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        assert self.attachment.lease_seconds is not None
        while not self._stop.wait(self.attachment.lease_seconds / _BEATS_PER_LEASE):
            try:
                _, warning = self._session.beat(self.attachment.accelerator_id, token=self.token)
                self._warn(warning)
            except (AcceleratorNotFound, PermissionDenied) as error:
                self._ended = self._gone(error)
                return
            except ElasticInferenceError as error:
                log.warning("heartbeat to %s failed: %s", self._session.url, error)

    def follow(self, pool: ConnectionPool, address_of: Callable[[str], Address]) -> None:
        self._follows = pool, address_of
        if self.attachment.placement is not None:
            threading.Thread(target=self._watch, args=(pool,), name="placement", daemon=True).start()

    def _watch(self, pool: ConnectionPool) -> None:
        """Ask where the accelerator is while a call waits for long: one that was cut off never says that it is."""
        while not self._stop.wait(_PATIENCE_SECONDS):
            began = pool.waits_since()
            if began is not None and time.monotonic() - began >= _PATIENCE_SECONDS:
                self.explain(NO_DEADLINE)

    def _move(self, found: Attachment) -> None:
        with self._moving:
            before = self.attachment.placement
            if (
                self._follows is None
                or before is None
                or found.placement is None
                or found.placement <= before
            ):
                return
            endpoints = found.usable_endpoints()
            if not endpoints:
                return  # it has no host at this moment
            self.attachment = replace(self.attachment, endpoints=found.endpoints, placement=found.placement)
            pool, address_of = self._follows
            log.info("accelerator %s serves at %s now", found.accelerator_id, endpoints[0])
            pool.move(address_of(endpoints[0]))

    def explain(self, deadline: Deadline) -> Exception | None:
        if self._ended is None and not self._stop.is_set():
            try:
                found = self._session.describe(
                    self.attachment.accelerator_id,
                    token=self.token,
                    deadline=deadline.within(_EXPLAIN_SECONDS),
                )
                self._move(found)
            except (AcceleratorNotFound, PermissionDenied) as error:
                self._ended = self._gone(error)
            except ElasticInferenceError:
                return None  # the host is away; the accelerator may serve on
        return self._ended

    def close(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        # A forked child shares the accelerator with its parent, whose it is to give back.
        if not self._is_ours or os.getpid() != self._owner_pid:
            return
        try:
            self._session.detach(self.attachment.accelerator_id, token=self.token)
        except (AcceleratorNotFound, PermissionDenied):
            pass
        except ElasticInferenceError as error:
            log.warning("accelerator not given back, its lease will end it: %s", error)

    def _warn(self, warning: str) -> None:
        """Say once what the host wants its user to know."""
        if warning and warning != self._warning:
            log.warning("%s says: %s", self._session.url, warning)
        self._warning = warning

    def _gone(self, error: Exception) -> AcceleratorNotFound:
        # The host forgets the token with the accelerator, so a refused token says the same.
        gone = AcceleratorNotFound(
            f"accelerator {self.attachment.accelerator_id} is no longer attached at {self._session.url}"
            + (f"; the host had said: {self._warning}" if self._warning else "")
        )
        gone.__cause__ = error
        return gone
