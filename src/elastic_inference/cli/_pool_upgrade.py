"""`ei pool upgrade`: the pool service and its hosts, one after another, with the code that is installed by now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import typer

from elastic_inference.cli._pool_hosts import (
    LOOK_SECONDS,
    PoolHost,
    find_host,
    list_hosts,
    set_draining,
    wait_empty,
)
from elastic_inference.cli._support import Progress
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.rendering import Block, Column, Output, Table
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import (
    AcceleratorBusy,
    CapacityExceeded,
    ElasticInferenceError,
    InvalidInput,
    StartFailed,
    TransportError,
)

_RENEWAL_SECONDS = 90.0  # of an answer that waits for a successor with everything loaded


@dataclass(frozen=True)
class UpgradedHost:
    """A host that was started again."""

    host_id: str
    earlier_version: str
    version: str
    num_moved: int
    seconds: float

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("HOST", lambda host: host.host_id),
        Column("FROM", lambda host: host.earlier_version),
        Column("TO", lambda host: host.version),
        Column("MOVED", lambda host: host.num_moved, "d"),
        Column("SECONDS", lambda host: host.seconds, ".1f"),
    )


@dataclass
class Upgraded:
    """What `ei pool upgrade` did.

    Attributes:
        earlier_version, version: Of the pool service.
        lost: Hosts that do not answer, which were left out.
    """

    earlier_version: str
    version: str
    lost: Sequence[str]
    hosts: list[UpgradedHost] = field(default_factory=list)

    def blocks(self) -> Iterable[Block]:
        """Show each host, and the pool service."""
        yield Table(UpgradedHost.COLUMNS, self.hosts)
        yield f"the pool service has version {self.version}, before {self.earlier_version}"
        if self.lost:
            yield f"warning: lost hosts were left out: {', '.join(self.lost)}"


def upgrade(
    said: Output,
    access: HostAccess,
    hosts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HOST]...", help="Only these, as `ei pool hosts` lists them; by default all."
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="For each host to be emptied, and to come back."),
    ] = 600.0,
) -> Upgraded:
    """Start the pool service and its hosts again, one after another, with the code that is installed by now.

    Install the new version on all machines first. Each host is emptied (its accelerators move, and no call fails),
    started again, and takes accelerators again when it has joined. It ends at the first host that is not as it
    should be, and says what was done. Refused before anything is touched: versions that cannot be parts of one pool,
    and an installation that cannot start.

    \b
    Examples:
      ei pool upgrade --host http://pool:8500
      ei pool upgrade 3f2a --timeout 60 --json
    """
    if not 0 < timeout < float("inf"):
        raise InvalidInput(f"--timeout {timeout} must be above 0, and finite")
    session = access.open()
    known = [find_host(session, each) for each in hosts or ()] or list_hosts(session)
    wanted = [host for host in known if host.state != "lost"]
    lost = [host.host_id for host in known if host.state == "lost"]
    if hosts and lost:
        raise InvalidInput(
            f"nothing was touched: host {lost[0]} is lost; it begins with what is installed by itself"
        )
    with Progress("upgrading", "hosts", said.as_json) as progress:
        version = _check(session, wanted)
        done = Upgraded(str(session.request("GET", "/v1/pool")["version"]), version, lost)
        _renew_service(session, version, timeout)
        for number, host in enumerate(wanted):
            progress.update(number, len(wanted))
            with _telling(done, wanted):
                done.hosts.append(_renew_host(session, host, version, timeout))
        progress.update(len(wanted), len(wanted))
    return done


def _check(session: HostSession, hosts: Sequence[PoolHost]) -> str:
    """See that what is installed everywhere is one version that can start, and be a part of this pool; that version."""
    found = {"the pool service": "/v1/pool/installed"}
    found |= {f"host {host.host_id}": f"/v1/pool/hosts/{host.host_id}/installed" for host in hosts}
    versions: dict[str, str] = {}
    for what, path in found.items():
        try:
            told = session.request("GET", path, timeout_seconds=_RENEWAL_SECONDS)
        except ElasticInferenceError as error:
            raise type(error)(f"nothing was touched: {what}: {error}") from error
        if told["protocol"] != told["running"]:
            raise InvalidInput(
                f"nothing was touched: where {what} runs, version {told['version']} is installed, which speaks another "
                f"protocol ({told['protocol']}) than this pool ({told['running']}), so they cannot run side by side; "
                "stop the pool (`ei pool stop`), and start it with the same version everywhere"
            )
        versions[what] = str(told["version"])
    if len(set(versions.values())) > 1:
        shown = ", ".join(f"{version} for {what}" for what, version in versions.items())
        raise InvalidInput(
            f"nothing was touched: unlike versions are installed: {shown}; install one everywhere"
        )
    return next(iter(versions.values()))


def _renew_service(session: HostSession, version: str, timeout_seconds: float) -> None:
    before = session.request("POST", "/v1/pool/renew", {}, timeout_seconds=_RENEWAL_SECONDS)["pool_epoch"]

    def is_taken_over() -> bool:
        told = session.request("GET", "/v1/pool")
        return bool(told["pool_epoch"] > before and told["version"] == version)

    _wait(
        is_taken_over,
        timeout_seconds,
        f"the pool service's successor of version {version} (see its pool.log)",
    )


def _renew_host(session: HostSession, host: PoolHost, version: str, timeout_seconds: float) -> UpgradedHost:
    """Empty a host, start it again, and see that it is what it was; as it was where that cannot begin."""
    began = time.monotonic()
    was_ready = find_host(session, host.host_id).state == "ready"
    num_devices = len(host.devices)
    is_ended = False
    try:
        set_draining(session, host.host_id, True)
        current = find_host(session, host.host_id)
        num_moved = len(current.accelerator_ids)
        with Progress(f"draining {host.host_id}", "accelerators", is_silent=True) as quiet:
            wait_empty(session, current, timeout_seconds, quiet, "it takes new ones again")
        _wait(lambda: _is_told(session, current), timeout_seconds, f"the last calls of host {host.host_id}")
        is_ended = True
        _wait(
            lambda: _is_back(session, current, version),
            timeout_seconds,
            f"host {host.host_id} of version {version} to come back (see host.log in its folder on its machine)",
        )
        if len(find_host(session, host.host_id).devices) < num_devices:
            raise StartFailed(f"host {host.host_id} came back with fewer devices than before")
    except BaseException:
        if was_ready and not is_ended:
            with contextlib.suppress(ElasticInferenceError):
                set_draining(session, host.host_id, False)
        raise
    set_draining(session, host.host_id, not was_ready)  # as its operator had it
    return UpgradedHost(host.host_id, host.version, version, num_moved, time.monotonic() - began)


def _is_told(session: HostSession, host: PoolHost) -> bool:
    """Order a host to be started again; False while calls of accelerators that have moved still end there."""
    try:
        session.request("POST", f"/v1/pool/hosts/{host.host_id}/renew", {})
    except AcceleratorBusy:
        return False
    except InvalidInput:  # it has ended, and an earlier order's answer was lost
        if find_host(session, host.host_id).state == "draining":
            raise
    return True


def _is_back(session: HostSession, before: PoolHost, version: str) -> bool:
    now = find_host(session, before.host_id)
    return now.epoch > before.epoch and now.version == version and now.state in ("ready", "draining")


def _wait(is_done: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Wait, asking again where the pool service does not answer for a moment; StartFailed after that time."""
    deadline = time.monotonic() + timeout_seconds
    why = ""
    while True:
        try:
            if is_done():
                return
        except TransportError as error:
            why = f": {error}"
        if time.monotonic() > deadline:
            raise StartFailed(f"waited {timeout_seconds:g} s in vain for {what}{why}")
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def _telling(done: Upgraded, wanted: Sequence[PoolHost]) -> Iterator[None]:
    """Say with an error what was done before it, and what was not."""
    try:
        yield
    except ElasticInferenceError as error:
        text = f"{error}; {_state(done, wanted)}"
        if isinstance(error, CapacityExceeded):
            raise CapacityExceeded(text, requested=error.requested, available=error.available) from error
        raise type(error)(text) from error
    except KeyboardInterrupt:
        import sys

        print(f"interrupted; {_state(done, wanted)}", file=sys.stderr)
        raise


def _state(done: Upgraded, wanted: Sequence[PoolHost]) -> str:
    names = ", ".join(host.host_id for host in done.hosts) or "none"
    left = ", ".join(host.host_id for host in wanted[len(done.hosts) + 1 :]) or "none"
    return (
        f"upgraded are the pool service and hosts: {names}; stopped at {wanted[len(done.hosts)].host_id}; not touched: "
        f"{left}; `ei pool upgrade` begins anew, and can be given the hosts that are left"
    )
