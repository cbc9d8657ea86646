"""Write constraints.txt anew: the versions that this environment has of what the containers install.

python deploy/container/pin.py > deploy/container/constraints.txt
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("host", "onnx", "litert", "postgresql", "otel")


def wanted() -> list[str]:
    """Return what the package and the extras of the containers require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(text for extra in EXTRAS for text in optional[extra])]


def installed(requirements: Iterable[str], extras: Iterable[str] = ("",)) -> dict[str, str]:
    """Return versions by name of all that these requirements bring."""
    found: dict[str, str] = {}
    todo = [(Requirement(text), tuple(extras)) for text in requirements]
    done = set()
    while todo:
        requirement, outer = todo.pop()
        marker = requirement.marker
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if (name, frozenset(requirement.extras)) in done:
            continue
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in outer):
            continue
        done.add((name, frozenset(requirement.extras)))
        distribution = importlib.metadata.distribution(name)
        found[name] = distribution.version
        below = tuple(requirement.extras) or ("",)
        todo += [(Requirement(text), below) for text in distribution.requires or ()]
    return found


if __name__ == "__main__":
    print("# Versions with which the tests ran, on the Python of Debian 12 (3.11). Written by pin.py.")
    for name, version in sorted(installed(wanted()).items()):
        print(f"{name}=={version}")
