"""Stores of models that the accelerators of one tenant share, and nobody else reads: who is let in, user by user.

A tenant's store lies in a folder that only the host and the users of the tenant's accelerators may enter: POSIX access
control lists name them, because a process cannot join a group after it has started. Within, everything is open to
whoever is in.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Iterable
from pathlib import Path

from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.processes.folders import HostFolder

logger = logging.getLogger(__name__)

_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
# Tags of entries, as linux/posix_acl.h has them; and the id of those that name nobody.
_OWNER, _USER, _GROUP, _MASK, _OTHERS, _NOBODY = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF
_ALL, _ENTER = 7, 1


class TenantStores:
    """The tenants' stores of a host."""

    def __init__(self, folder: HostFolder, store: StateStore) -> None:
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()  # who is in is read and written as one

    def open(self) -> None:
        """Let in those who have accelerators now, and nobody whom an earlier run left there; drop what is nobody's."""
        self._folder.tenants.mkdir(mode=0o711, exist_ok=True)
        os.chmod(self._folder.tenants, 0o711)
        tenants = {record.tenant for record in self._store.list_all() if record.tenant}
        for path in self._folder.tenants.iterdir():
            with self._lock:
                self._let_in(path, self._uids(path.name) if path.name in tenants else [])

    def directory(self, record: AcceleratorRecord) -> Path | None:
        """Let an accelerator into its tenant's store, and return that; None where it must have one of its own.

        The record's user must be written down.
        """
        if not record.tenant:
            return None
        path = self._folder.tenants / record.tenant
        store = path / "artifacts"
        try:
            with self._lock:
                path.mkdir(mode=0o700, exist_ok=True)
                store.mkdir(mode=0o700, exist_ok=True)
                self._let_in(path, self._uids(record.tenant))
                os.chmod(store, 0o777)  # only now, and only for those whom the folder above lets in
        except OSError as error:  # such as a file system without access control lists
            extra = {"accelerator_id": record.accelerator_id, "tenant": record.tenant, "why": str(error)}
            logger.warning("the tenant's store cannot be shared; this accelerator has its own", extra=extra)
            return None
        return store

    def leave(self, record: AcceleratorRecord) -> None:
        """Let the user of an accelerator that has ended in no more; raises OSError, and it must keep its user then."""
        path = self._folder.tenants / record.tenant
        if record.tenant and path.exists():
            with self._lock:
                self._let_in(path, self._uids(record.tenant, but=record.accelerator_id))

    def remove(self, tenant: str) -> None:
        """Remove a tenant's store; its accelerators have ended."""
        self._folder.remove_tree(self._folder.tenants / tenant)

    def limit_bytes(self, record: AcceleratorRecord, per_memory: int) -> int:
        """Return what an accelerator's store may hold: by its memory, or by that of all of its tenant's."""
        mine = [r for r in self._store.list_all() if r.tenant == record.tenant] if record.tenant else [record]
        return per_memory * sum(each.kind.memory_bytes for each in mine)

    def _uids(self, tenant: str, but: str = "") -> list[int]:
        return sorted(
            record.uid
            for record in self._store.list_all()
            if record.tenant == tenant and record.accelerator_id != but and record.uid is not None
        )

    def _let_in(self, path: Path, uids: Iterable[int]) -> None:
        """Let exactly these users enter; without any, the folder's owner alone."""
        named = list(uids)
        if not named:
            if _ACL in os.listxattr(path):
                os.removexattr(path, _ACL)
            os.chmod(path, 0o700)
            return
        entries = [
            (_OWNER, _ALL, _NOBODY),
            *((_USER, _ENTER, uid) for uid in named),
            (_GROUP, 0, _NOBODY),
            (_MASK, _ENTER, _NOBODY),
            (_OTHERS, 0, _NOBODY),
        ]
        packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
        os.setxattr(path, _ACL, struct.pack("<I", _ACL_VERSION) + packed)
