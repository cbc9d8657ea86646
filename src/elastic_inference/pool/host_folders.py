"""Which folder a host of a pool has on its machine: that of its node, or one that a node left which is gone.

Ray gives a node a new id each time it starts. A folder for each would never be used again, with all that is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from elastic_inference.pool.supervision import LOCK, is_held

_OWNER = "node.json"


@contextlib.contextmanager
def chosen_folder(root: Path, node_id: str) -> Iterator[Path]:
    """Give the folder of a node's host; nobody else chooses meanwhile, so take its lock before this ends.

    Args:
        root: Of all hosts; several machines may share it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(root / "choosing.lock", os.O_CREAT | os.O_RDWR, 0o600), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        machine = socket.gethostname()
        owners = {path.parent: _owner(path) for path in sorted(root.glob(f"*/{_OWNER}"))}
        mine = [folder for folder, owner in owners.items() if owner == (machine, node_id)]
        left = [folder for folder, owner in owners.items() if owner[0] == machine and not _is_used(folder)]
        # Its end: ids that Ray's provider of local nodes makes up differ there alone.
        folder = (mine or left or [root / node_id[-12:]])[0]
        folder.mkdir(exist_ok=True)
        partial = folder / f"{_OWNER}.partial"
        partial.write_text(json.dumps([machine, node_id]) + "\n")
        os.replace(partial, folder / _OWNER)
        yield folder


def _owner(path: Path) -> tuple[str, str]:
    with contextlib.suppress(OSError, ValueError):
        machine, node_id = json.loads(path.read_text())
        return str(machine), str(node_id)
    return "", ""


def _is_used(folder: Path) -> bool:
    """Whether an actor keeps a host there, or a host runs there that none keeps any more."""
    return is_held(folder / LOCK) or is_held(folder / "lock")
