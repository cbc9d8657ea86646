"""Where the versions of a model stand, in TensorFlow Serving's words."""

from __future__ import annotations

from typing import NamedTuple

from elastic_inference.accelerator.inference import Inference
from elastic_inference.errors import ModelNotFound
from elastic_inference.protocol.status import GrpcCode

_STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNAVAILABLE": "END"}


class VersionState(NamedTuple):
    """One version; `code` is OK unless it cannot be served."""

    version: int
    state: str
    code: GrpcCode
    message: str


def states_of(inference: Inference, name: str, version: str = "") -> list[VersionState]:
    """Return a model's versions, the newest first; raises ModelNotFound where there is none.

    Args:
        version: Only this one; "": all of them.
    """
    rows = [row for row in inference.index() if row["name"] == name and version in ("", row["version"])]
    if not rows:
        what = (
            f"version {version} of model {name!r:.200}" if version else f"any versions of model {name!r:.200}"
        )
        raise ModelNotFound(f"Could not find {what}")
    rows = [row for row in rows if row["version"]] or rows  # what is wrong with labels is no version's state
    found = [_state_of(row["version"], row["state"], row["reason"]) for row in rows]
    return sorted(found, key=lambda state: -state.version)


def _state_of(version: str, state: str, reason: str) -> VersionState:
    is_failure = state == "UNAVAILABLE" and reason != "unloaded"
    code = GrpcCode.UNKNOWN if is_failure else GrpcCode.OK
    return VersionState(int(version or 0), _STATES[state], code, reason if is_failure else "")
