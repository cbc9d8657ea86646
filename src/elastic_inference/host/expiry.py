"""Detaches accelerators by itself, such as those whose leases have ended; one that hangs holds up no other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from elastic_inference.errors import AcceleratorBusy, AcceleratorNotFound
from elastic_inference.host.accounts.leases import LeaseBook

logger = logging.getLogger(__name__)

_MAX_AT_ONCE = 8


class Expiry:
    """Begins what the lease book says is due.

    Args:
        detach: Detaches an accelerator; takes as long as it takes.
    """

    def __init__(self, leases: LeaseBook, detach: Callable[[str], None]) -> None:
        self._leases = leases
        self._detach = detach
        self._under_way: set[str] = set()
        self._pool = ThreadPoolExecutor(_MAX_AT_ONCE, "expire")

    def look(self) -> None:
        """Begin to detach accelerators whose clients have vanished; waits for nothing."""
        for accelerator_id in self._leases.expired():
            self.begin(accelerator_id, "lease expired")

    def begin(self, accelerator_id: str, why: str) -> bool:
        """Begin to detach an accelerator; waits for nothing. False: that is under way already."""
        if accelerator_id in self._under_way:
            return False
        self._under_way.add(accelerator_id)
        logger.warning(why, extra={"accelerator_id": accelerator_id})
        self._pool.submit(self._expire, accelerator_id)
        return True

    def close(self) -> None:
        """Wait for what is under way, and begin nothing more."""
        self._pool.shutdown()

    def _expire(self, accelerator_id: str) -> None:
        try:
            self._detach(accelerator_id)
        except AcceleratorNotFound:
            self._leases.release(accelerator_id)
        except AcceleratorBusy:
            pass  # the next round sees to it
        except Exception:  # such as a database that is away: the next round tries again
            extra = {"accelerator_id": accelerator_id}
            logger.exception("an expired accelerator is not detached", extra=extra)
        finally:
            self._under_way.discard(accelerator_id)
