"""Which entry of the table a name and a version mean: a model that has versions answers by its newest one."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence

from elastic_inference.errors import InvalidInput, ModelNotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
FIRST = "1"  # the version of a model that was loaded without one


class Versions:
    """Entries' keys by name and version. Safe for several threads; looking up takes no lock.

    A key is `NAME@VERSION`, with `~2` and so on where its files were replaced: no model's own name holds these signs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, dict[str, str]] = {}
        self._newest: dict[str, str] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._num_keys = 0

    def key(self, name: str, version: str = "") -> str | None:
        """Return the key of a version, "" is the newest; None where there is none."""
        if not version:
            return self._newest.get(name)
        return self._keys.get(name, {}).get(version)

    def all(self, name: str) -> list[str]:
        """Return a name's versions, the newest last; none for a model that was loaded without one."""
        return sorted(self._keys.get(name, {}), key=int)

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Let versions of a model be called by these labels, and by no others, from now on."""
        self._labels[name] = dict(labels)

    def labelled(self, name: str, label: str) -> str:
        """Return the version that has a label; InvalidInput where none has, in TensorFlow Serving's words."""
        labels = self._labels.get(name, {})
        if label not in labels:
            have = ", ".join(labels) or "no labels"
            raise InvalidInput(f"Unrecognized servable version label: {label:.80}; {name!r:.200} has {have}")
        return labels[label]

    def new_key(self, name: str, version: str) -> str:
        """Return a key for an entry that nothing means yet."""
        with self._lock:
            self._num_keys += 1
            return f"{name}@{version}" + (f"~{self._num_keys}" if version in self._keys.get(name, {}) else "")

    def put(self, name: str, version: str, key: str) -> str | None:
        """Let a version mean an entry from now on; returns the key of the one that it meant before."""
        with self._lock:
            keys = dict(self._keys.get(name, {}))
            before = keys.get(version)
            keys[version] = key
            self._set(name, keys)
            return before

    def remove(self, name: str, key: str) -> None:
        """Forget the version that means this entry; fine where none does."""
        with self._lock:
            left = {v: k for v, k in self._keys.get(name, {}).items() if k != key}
            self._set(name, left)

    def _set(self, name: str, keys: dict[str, str]) -> None:
        if keys:
            self._keys[name] = keys
            self._newest[name] = keys[max(keys, key=int)]
        else:
            self._keys.pop(name, None)
            self._labels.pop(name, None)
            self._newest.pop(name, None)


def check_name(name: str) -> None:
    """Raise InvalidInput unless a model may have this name."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"model name {name!r:.80} must be 1 to 200 letters, digits, '.', '_' or '-'")


def of_key(key: str) -> tuple[str, str]:
    """Return name and version of an entry's key; a model without versions has the first."""
    name, _, version = key.partition("@")
    return name, version.partition("~")[0] or FIRST


def not_found(name: str, version: str, have: Sequence[str]) -> ModelNotFound:
    """Return the error for a model that is not here, or that is here in the versions of `have` and not in this one."""
    # Triton's own clients look for the words before the name.
    what = f"Request for unknown model: {name!r:.200}"
    if not have:
        return ModelNotFound(f"{what} is not on this accelerator")
    if not version.isdecimal():  # again their words
        what = f"failed to get model version from specified version string {version!r:.80}: {name!r:.200}"
    return ModelNotFound(f"{what} has version {', '.join(have)} only, not {version!r:.80}")
