"""An accelerator of a host for as long as a predictor lives: attached and kept by heartbeats, or found by its id."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass

from elastic_inference.client.host_session import (
    ACCELERATOR_VARIABLE,
    DEFAULT_LEASE_SECONDS,
    Attachment,
    HostSession,
)
from elastic_inference.errors import (
    AcceleratorNotFound,
    ConnectError,
    ElasticInferenceError,
    InvalidInput,
    PermissionDenied,
)

log = logging.getLogger(__name__)

_BEATS_PER_LEASE = 3  # two may be lost before the host takes the accelerator back


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

    def explain(self) -> Exception | None:
        """The error to raise where the accelerator is no longer there; None where it may come back."""
        return self._keeper.explain()

    def close(self) -> None:
        """Detach it where `acquire` attached it; twice is fine."""
        self._keeper.close()


def acquire(
    *,
    host: str | None,
    token: str | None = None,
    accelerator_type: str | None = None,
    accelerator_id: str | int | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    name: str | None = None,
    lease_seconds: float = DEFAULT_LEASE_SECONDS,
) -> Hosted:
    """Attach an accelerator of a type, or find an attached one.

    Args:
        host: URL; None: EI_HOST, else the local default.
        token: The operator's to attach, the accelerator's to find it; None: EI_TOKEN.
        accelerator_type: Attach one of this type; it is detached at the end, or when this process has vanished.
        accelerator_id: Its id, or its ordinal among those that the token sees; None: EI_ACCELERATOR, else 0.

    Raises:
        InvalidInput: Type and id are both given, or a value is wrong.
        CapacityExceeded: The host cannot give that.
        AcceleratorNotFound: None of that id is visible.
        ConnectError: It has no endpoint that can be reached from this machine.
    """
    if accelerator_type is not None and accelerator_id is not None:
        raise InvalidInput("accelerator_type attaches a new accelerator: accelerator_id must be None")
    session = HostSession(host, token, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key)
    if accelerator_type is not None:
        attachment = session.attach(accelerator_type, name=name, lease_seconds=lease_seconds)
        own_token, is_ours = attachment.token, True
    else:
        attachment = _find(session, accelerator_id)
        own_token, is_ours = session.token or "", False
    keeper = _Keeper(session, attachment, own_token, is_ours)
    try:
        endpoints = attachment.usable_endpoints()
        if not endpoints:
            raise ConnectError(
                f"accelerator {attachment.accelerator_id} serves at {', '.join(attachment.endpoints)}, "
                "none of which can be reached from this machine"
            )
    except BaseException:
        keeper.close()
        raise
    keeper.start()
    return Hosted(attachment, endpoints[0], own_token, keeper)


def _find(session: HostSession, accelerator_id: str | int | None) -> Attachment:
    wanted = accelerator_id if accelerator_id is not None else os.environ.get(ACCELERATOR_VARIABLE, 0)
    if isinstance(wanted, str) and not wanted.isdigit():
        return session.describe(wanted)
    found = session.request("GET", "/v1/accelerators")
    ordinal = int(wanted)
    if not 0 <= ordinal < len(found):
        raise AcceleratorNotFound(
            f"no accelerator {ordinal}: this token sees {len(found)} at {session.url}, counted from 0"
        )
    return session.describe(found[ordinal]["accelerator_id"])


class _Keeper:
    """Heartbeats in the background, and the end."""

    def __init__(self, session: HostSession, attachment: Attachment, token: str, is_ours: bool) -> None:
        self._session = session
        self._attachment = attachment
        self._token = token
        self._is_ours = is_ours
        self._stop = threading.Event()
        self._ended: Exception | None = None
        self._owner_pid = os.getpid()

    def start(self) -> None:
        if self._attachment.lease_seconds is not None:
            # A daemon, so that a program that forgets to close can end; then the lease ends the accelerator.
            threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        assert self._attachment.lease_seconds is not None
        while not self._stop.wait(self._attachment.lease_seconds / _BEATS_PER_LEASE):
            try:
                self._session.heartbeat(self._attachment.accelerator_id, token=self._token)
            except (AcceleratorNotFound, PermissionDenied) as error:
                self._ended = self._gone(error)
                return
            except ElasticInferenceError as error:
                log.warning("heartbeat to %s failed: %s", self._session.url, error)

    def explain(self) -> Exception | None:
        if self._ended is None and not self._stop.is_set():
            try:
                self._session.describe(self._attachment.accelerator_id, token=self._token)
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
            self._session.detach(self._attachment.accelerator_id, token=self._token)
        except (AcceleratorNotFound, PermissionDenied):
            pass
        except ElasticInferenceError as error:
            log.warning("accelerator not given back, its lease will end it: %s", error)

    def _gone(self, error: Exception) -> AcceleratorNotFound:
        # The host forgets the token with the accelerator, so a refused token says the same.
        gone = AcceleratorNotFound(
            f"accelerator {self._attachment.accelerator_id} is no longer attached at {self._session.url}"
        )
        gone.__cause__ = error
        return gone
