"""Where the large test assets lie, which the repository does not hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("EI_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared_file(relative: str) -> Path | None:
    """The path of a shared asset, None where there is none."""
    path = _ROOT / relative
    return path if path.exists() else None


def shared_path(relative: str) -> Path:
    """The path of a shared asset; skips the test, saying which file is absent, where there is none."""
    path = shared_file(relative)
    if path is None:
        pytest.skip(f"needs the shared asset {relative}, which is not at {_ROOT} (set EI_SHARED)")
    return path
