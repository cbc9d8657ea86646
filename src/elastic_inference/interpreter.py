"""Which Python runs a process of ours beside this one, such as an embedded accelerator, and what that may import.

`sys.executable` is not always one: in a frozen program or under uWSGI it is the program, which would start itself again
and again. And a child of `python -m` looks for modules in the current folder first, so a file `queue.py` there would
break it, or take it over, while it would not find what the program has in its own `sys.path` alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from elastic_inference import settings
from elastic_inference.errors import EngineNotAvailable

_IS_PYTHON = re.compile(r"(python|pypy)[\d.]*(\.exe)?", re.IGNORECASE)
_VERSION = "import sys; print(*sys.version_info[:2])"
_CHECK_SECONDS = 10.0
# The program's own modules come last: the standard library goes before a file of its name, as it does for the program
# after its first import of it.
_BOOT = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)) or sys.path; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(module: str) -> list[str]:
    """Return the command that runs a module of ours in a new process, isolated from the current folder.

    Raises:
        EngineNotAvailable: There is no Python, or this process is itself an embedded accelerator: what should have
            been a Python started the program again.
    """
    if settings.EMBEDDED.get() is not None:
        raise EngineNotAvailable(
            f"this program was started as an embedded accelerator of process {settings.EMBEDDED.get()}: what that took "
            "for Python is this program; set EI_PYTHON to the Python to use"
        )
    python, is_same_version = find_python()
    # What a frozen program imports lies in its own bundle, where another Python finds not even its standard library.
    paths = import_paths() if is_same_version and not _is_frozen() else []
    return _isolated(python, module, paths)


def sibling_command(module: str) -> list[str]:
    """Return the command that runs a module of ours on this process's own Python, which is one of ours already."""
    return _isolated(sys.executable, module, [path for path in sys.path if path])


def _isolated(python: str, module: str, paths: Sequence[str]) -> list[str]:
    return [python, "-I", "-c", _BOOT, json.dumps(list(paths)), module]


def environment() -> dict[str, str]:
    """Return the environment of the new process, which says whose accelerator it is."""
    return settings.with_variables(**{settings.EMBEDDED.name: str(os.getpid())})


def import_paths() -> list[str]:
    """Return where this program finds modules, absolute, without the current folder, the program's own folder last."""
    own_folder, *others = sys.path or [""]
    is_current = own_folder in ("", os.getcwd())
    kept = [path for path in others if path and path != os.getcwd()]
    return [*kept, *([] if is_current else [os.path.abspath(own_folder)])]


def find_python() -> tuple[str, bool]:
    """Return a Python that can be started, and whether it is of this one's version, so that it can load its packages.

    Raises:
        EngineNotAvailable: None was found, or EI_PYTHON names something else.
    """
    given = settings.PYTHON.get()
    if given is not None:
        version = _version_of(given)
        if version is None:
            raise EngineNotAvailable(f"environment variable EI_PYTHON={given!r} is not a Python that runs")
        return given, version == sys.version_info[:2]
    if _looks_like_python(sys.executable):
        return sys.executable, True
    for candidate in _candidates():
        if _version_of(candidate) == sys.version_info[:2]:
            return candidate, True
    raise EngineNotAvailable(
        f"sys.executable is {sys.executable!r}, which is not a Python, and none of version "
        f"{sys.version_info[0]}.{sys.version_info[1]} was found; set EI_PYTHON to the Python that has "
        "elastic-inference[host]"
    )


def _looks_like_python(path: str | None) -> bool:
    return bool(path) and not _is_frozen() and _IS_PYTHON.fullmatch(Path(str(path)).name) is not None


def _is_frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def _candidates() -> Iterator[str]:
    """Yield where the interpreter of this process may lie, nearest first; never `sys.executable` itself."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = getattr(sys, "_base_executable", None)
    if base and base != sys.executable and _IS_PYTHON.fullmatch(Path(base).name):
        yield base
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix)):
        for each in (name, "python3", "python"):
            yield str(Path(prefix) / "bin" / each)


def _version_of(python: str) -> Sequence[int] | None:
    try:
        found = subprocess.run(
            [python, "-I", "-c", _VERSION], capture_output=True, text=True, timeout=_CHECK_SECONDS, check=True
        )
        return tuple(map(int, found.stdout.split()))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
