"""An accelerator of a host for as long as a predictor lives: attached and kept by heartbeats, or found by its id."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass

from elastic_inference.client.accelerator import Attach, HostAccess
from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.deadline import Deadline
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


@dataclass(frozen=True)
class Hosted:
    """An accelerator of a host.

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

    def explain(self, deadline: Deadline) -> Exception | None:
        if self._ended is None and not self._stop.is_set():
            try:
                self._session.describe(
                    self.attachment.accelerator_id,
                    token=self.token,
                    deadline=deadline.within(_EXPLAIN_SECONDS),
                )
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
