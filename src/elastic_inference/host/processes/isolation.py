"""With which rights accelerator processes can run on this machine; found by trying."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from elastic_inference import settings
from elastic_inference.engines import registry
from elastic_inference.errors import InvalidInput


@dataclass(frozen=True)
class Isolation:
    """With which rights accelerator processes run.

    Attributes:
        python: The interpreter that runs them.
        python_path: Where it finds our packages, PYTHONPATH of the host among it; "" where it finds them by itself.
        uids: Users for them, one each; None: they run as the host's own user.
        statement: What is in force, and why not more; for `host status`.
    """

    python: str
    python_path: str
    uids: range | None
    statement: str


def find_isolation(directory: Path, uids: range) -> Isolation:
    """Find out by trying whether accelerators can run as users of their own.

    Args:
        directory: Where their folders will be; it must be reachable for them.
        uids: Users (and groups of the same numbers) that nothing else on this machine uses.
    """
    own_path = _own_path()
    if os.geteuid() != 0:
        user = os.geteuid()
        text = f"the host's own user (uid {user}), because the host is not root"
        return Isolation(sys.executable, os.pathsep.join(own_path), None, text)
    closed = [str(p) for p in (directory, *directory.parents) if not p.stat().st_mode & 0o001]
    if closed:
        text = f"root, because other users may not enter {closed[0]} (chmod o+x it, or choose --state-dir)"
        return Isolation(sys.executable, os.pathsep.join(own_path), None, text)
    package_root = Path(__file__).resolve().parents[3]
    installed = map(sysconfig.get_path, ("purelib", "platlib"))
    library_paths = dict.fromkeys((*own_path, str(package_root), *installed))
    python_path = os.pathsep.join(library_paths)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # An interpreter below /root, as pyenv puts it, is closed to others; the system's own of that version is not.
    for python in (sys.executable, f"/usr/local/bin/python{version}", f"/usr/bin/python{version}"):
        if _can_run(python, python_path, uids[0]):
            text = f"a user of its own for each (uids {uids[0]} to {uids[-1]}), no_new_privs, {python}"
            return Isolation(python, python_path, uids, text)
    text = f"root, because other users may not run {sys.executable} with this package"
    return Isolation(sys.executable, os.pathsep.join(own_path), None, text)


def _own_path() -> tuple[str, ...]:
    """Return the entries of PYTHONPATH, absolute, since accelerators have an environment and a folder of their own."""
    return tuple(os.path.abspath(entry) for entry in settings.PYTHONPATH.get() or ())


def _can_run(python: str, python_path: str, uid: int) -> bool:
    # Engines are looked at and not imported, which takes some of them ten seconds.
    libraries = [
        engine.requires for engine in registry.engines() if engine.requires and engine.is_installed()
    ]
    program = (
        "import importlib.util, elastic_inference.accelerator.process\n"
        f"for name in {libraries}: open(importlib.util.find_spec(name).origin).close()"
    )
    try:
        finished = subprocess.run(
            [python, "-P", "-c", program] if sys.version_info >= (3, 11) else [python, "-c", program],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            env={"PYTHONPATH": python_path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/"},
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return finished.returncode == 0


def parse_uids(text: str) -> range:
    """Read `60600-61099` as a range of users; 1000 at least, so that no service's own user is among them."""
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 1000 <= int(first) <= int(last) < 2**31):
        raise InvalidInput(f"uids {text!r} must be FIRST-LAST, such as 60600-61099, from 1000 on")
    return range(int(first), int(last) + 1)
