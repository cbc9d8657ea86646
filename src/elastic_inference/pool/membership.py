"""A host's side of its pool: it joins, reports, and stops its accelerators when it was not answered for too long.

What it holds is its pool's to say. So it joins with nothing: whatever an earlier run or an earlier admission left is
ended first, by the kernel where it must be, before the accelerators' fence is opened again.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from elastic_inference.errors import (
    AcceleratorNotFound,
    ElasticInferenceError,
    Fenced,
    InvalidInput,
    PermissionDenied,
    ProtocolError,
)
from elastic_inference.host.host import Host
from elastic_inference.limits.fence import FenceKeeper, boot_seconds
from elastic_inference.pool.lifeline import Lifeline, LifelineHolder
from elastic_inference.pool.member_api import PoolGate
from elastic_inference.pool.offer import HostOffer
from elastic_inference.pool.versions import PROTOCOL, Version
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json

logger = logging.getLogger(__name__)

JOIN_PAUSE_SECONDS = 0.3
JOIN_SECONDS = 10.0
_MAX_ENDS = 16


class Membership:
    """Keeps a host in its pool, in a thread of its own.

    Args:
        pool_url: Where the pool's control API is.
        join_token: By which a host may join.
        node_id: The Ray node; "" where Ray does not start this host.
        tls: For a pool that speaks TLS.
    """

    def __init__(
        self, host: Host, pool_url: str, join_token: str, node_id: str, tls: ssl.SSLContext | None
    ) -> None:
        self.gate = PoolGate()
        self._host = host
        self._pool = Endpoint.parse(pool_url)
        self._pool_url = pool_url
        self._token = join_token
        self._node_id = node_id
        self._tls = tls
        self._fence: FenceKeeper
        self._lifeline: LifelineHolder
        self._url = ""
        self._epoch = 0
        self._report_seconds = JOIN_PAUSE_SECONDS
        self._lease_seconds = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="membership", daemon=True)

    def prepare(self) -> None:
        """Close the fence, before the host opens and finds what an earlier run left."""
        self._host.folder.make()
        self._fence = FenceKeeper(self._host.folder.fence)

    def start(self, url: str) -> None:
        """Begin, as soon as the host answers at this URL."""
        self._url = url
        # Never closed: that this process has ended is all that its end says.
        self._lifeline = LifelineHolder(Endpoint.parse(url).host)
        self._thread.start()

    def close(self) -> None:
        """Leave: the pool places elsewhere what is here. The host ends its accelerators itself."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)
        self._fence.close_now()
        self.gate.close()
        with contextlib.suppress(ElasticInferenceError):
            self._ask(f"/v1/pool/hosts/{self._host.host_id}/leave", {"epoch": self._epoch}, 2.0)

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                pause = self._step()
            except Exception as error:  # a host must keep its word whatever happens
                logger.exception("membership failed", extra={"why": str(error)})
                pause = JOIN_PAUSE_SECONDS

    def _step(self) -> float:
        """Report or join; seconds until the next time."""
        if not self._epoch:
            return self._join()
        left = self._fence.left_seconds()
        if left <= 0:
            self._give_up("the pool did not answer for as long as this host's lease lasts")
            return 0.0
        began = boot_seconds()
        try:
            self._report(began, min(left, max(2 * self._report_seconds, self._lease_seconds / 3)))
        except (Fenced, AcceleratorNotFound) as error:
            self._give_up(str(error))
            return 0.0
        except ElasticInferenceError as error:
            logger.warning("report to the pool failed", extra={"pool": self._pool_url, "why": str(error)})
            return min(0.1, max(0.0, self._fence.left_seconds()))
        return max(0.0, began + self._report_seconds - boot_seconds())

    def _report(self, began: float, timeout_seconds: float) -> None:
        answer = self._ask(
            f"/v1/pool/hosts/{self._host.host_id}/report", {"epoch": self._epoch}, timeout_seconds
        )
        # From when it was sent: the pool counts from when it answered, which is later.
        self._fence.open_until(began + float(answer["lease_seconds"]))
        self.gate.admit(int(answer["pool_epoch"]), self._epoch)

    def _join(self) -> float:
        if not self._has_nothing():
            return JOIN_PAUSE_SECONDS
        body = {
            "host_id": self._host.host_id,
            "node_id": self._node_id,
            "url": self._url,
            "token": self._host.folder.operator_token.read_text().strip(),
            "offer": offer_of(self._host, self._lifeline.lifeline).to_json(),
        }
        began = boot_seconds()
        try:
            answer = self._ask("/v1/pool/hosts", body, JOIN_SECONDS)
            epoch = int(answer["epoch"])
            self._report_seconds = float(answer["report_seconds"])
            self._lease_seconds = float(answer["lease_seconds"])
            tenants = {str(name): float(since) for name, since in answer["tenants"].items()}
        except (InvalidInput, PermissionDenied) as error:
            logger.error(
                "the pool does not take this host", extra={"pool": self._pool_url, "why": str(error)}
            )
            return 10 * JOIN_PAUSE_SECONDS
        except (ElasticInferenceError, KeyError, TypeError, ValueError, AttributeError) as error:
            logger.warning("joining failed", extra={"pool": self._pool_url, "why": str(error)})
            return JOIN_PAUSE_SECONDS
        self._forget_all_but(tenants)
        self._epoch = epoch
        self._fence.open_until(began + self._lease_seconds)
        self.gate.admit(int(answer["pool_epoch"]), epoch)
        logger.info("joined", extra={"pool": self._pool_url, "epoch": epoch})
        return self._report_seconds

    def _forget_all_but(self, tenants: dict[str, float]) -> None:
        """Forget tenants that the pool has no more: whoever has such a name later is another one."""
        for tenant in self._host.service.tenancy.list_all():
            if tenants.get(tenant.name) != tenant.created_at:
                with contextlib.suppress(ElasticInferenceError):
                    self._host.service.tenants.remove(tenant.name)

    def _give_up(self, why: str) -> None:
        logger.warning("given up by the pool: accelerators end", extra={"why": why})
        self._fence.close_now()
        self.gate.close()
        self._epoch = 0
        self._has_nothing()

    def _has_nothing(self) -> bool:
        """End what is here; True where nothing is left."""
        service = self._host.service
        records = service.list_all()
        if records:
            with ThreadPoolExecutor(min(len(records), _MAX_ENDS), "end") as pool:
                list(pool.map(self._end, [record.accelerator_id for record in records]))
        return not service.list_all()

    def _end(self, accelerator_id: str) -> None:
        try:
            self._host.service.detach(accelerator_id, 0.0)
        except AcceleratorNotFound:
            pass
        except ElasticInferenceError as error:
            extra = {"accelerator_id": accelerator_id, "why": str(error)}
            logger.warning("an accelerator is not ended yet", extra=extra)

    def _ask(self, path: str, body: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
        answer = request_json(
            self._pool,
            "POST",
            path,
            body,
            token=self._token,
            timeout_seconds=timeout_seconds,
            tls=self._tls,
        )
        if not isinstance(answer, dict):
            raise ProtocolError(f"{self._pool_url} answered {answer!r:.80}, so it is not a pool")
        return answer


def offer_of(host: Host, lifeline: Lifeline) -> HostOffer:
    """Return what a host tells its pool."""
    features = {f"{device.kind}:{device.model}" for device in host.settings.devices}
    features |= {precision for device in host.settings.devices for precision in device.tflops}
    return HostOffer(
        version=Version(host.version, PROTOCOL),
        capacity=host.service.capacity,
        catalogue=host.service.catalogue,
        devices=tuple(host.settings.devices),
        features=frozenset(features),
        sharing={device.name: host.settings.sharing(device) for device in host.settings.devices},
        lifeline=lifeline,
    )
