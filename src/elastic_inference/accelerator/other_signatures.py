"""Signatures of a loaded model beside the one that it was loaded with.

An engine computes one signature. Another one is loaded from the same files, by the same options, by the first request
for it, as a model of its own that goes with the one it belongs to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from elastic_inference.accelerator.load_request import LoadRequest
from elastic_inference.accelerator.model_entry import ModelEntry
from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.errors import DeadlineExceeded, ModelNotFound, SignatureNotFound, UnsupportedModel
from elastic_inference.models.definitions import Definition, definitions_of
from elastic_inference.models.signature import DEFAULT_SIGNATURE_KEY, SignatureRequest


class OtherSignatures:
    """Those of all models of a table. Safe for several threads.

    Args:
        store: Has the models' files.
        load: Loads a model; raises, and writes into its entry, what went wrong.
        free: Takes one away, once it is settled.
    """

    def __init__(
        self,
        store: ModelStore,
        load: Callable[[ModelEntry, LoadRequest], None],
        free: Callable[[ModelEntry], None],
    ) -> None:
        self._store = store
        self._load = load
        self._free = free
        self._lock = threading.Lock()
        self._entries: dict[ModelEntry, dict[str, ModelEntry]] = {}
        self._definitions: dict[ModelEntry, Mapping[str, Definition]] = {}

    def entries(self) -> list[ModelEntry]:
        """Return all that were asked for."""
        with self._lock:
            return [entry for own in self._entries.values() for entry in own.values()]

    def definitions(self, entry: ModelEntry) -> Mapping[str, Definition]:
        """Return what a loaded model's files define, by key; none where its format has no keys."""
        found = self._definitions.get(entry)
        if found is None:
            found = definitions_of(entry.package, _tags(entry))
            with self._lock:
                if entry.model is not None:  # else it is gone, and nobody would forget it
                    self._definitions[entry] = found
        return found

    def ready(self, entry: ModelEntry, key: str, timeout_seconds: float | None = None) -> ModelEntry:
        """Return what computes a signature of a loaded model, loaded where nobody asked for it before.

        Args:
            key: "" is the one that the model was loaded with; so is the usual key where the model defines none of
                that name.

        Raises:
            SignatureNotFound: The model defines no such signature; the words are TensorFlow Serving's.
            UnsupportedModel: Calls change the model, which has its signatures share what they change.
            DeadlineExceeded: It was still loading at the end of the time.
            ElasticInferenceError: What its loading failed with.
        """
        if key in ("", entry.signature_key):
            return entry
        other = self._entries.get(entry, {}).get(key)
        if other is None:
            if key not in self.definitions(entry):
                if key == DEFAULT_SIGNATURE_KEY:
                    return entry
                raise self._not_found(entry, key)
            if entry.loaded().changes:
                raise UnsupportedModel(self._changes_text(entry, key, entry.loaded().changes))
            other = self._loaded(entry, key)
        if not other.settled.wait(timeout_seconds):
            raise DeadlineExceeded(
                f"signature {key!r:.80} of {entry.name!r} was still loading after {timeout_seconds} s"
            )
        model = other.model
        if model is None:
            raise other.error or ModelNotFound(f"model {entry.name!r} was unloaded")
        if model.changes:
            raise UnsupportedModel(self._changes_text(entry, key, model.changes))
        return other

    @staticmethod
    def _changes_text(entry: ModelEntry, key: str, changes: tuple[str, ...]) -> str:
        return (
            f"signature {key!r:.80} of {entry.name!r} is not offered beside {entry.signature_key!r}: each would have "
            f"values of its own of what a call changes ({', '.join(changes)})"
        )

    def _not_found(self, entry: ModelEntry, key: str) -> SignatureNotFound:
        have = ", ".join(self.definitions(entry)) or entry.signature_key or "tensors that were named instead"
        return SignatureNotFound(f'Serving signature key "{key:.80}" not found. {entry.name!r} has {have}')

    def _loaded(self, entry: ModelEntry, key: str) -> ModelEntry:
        signature = SignatureRequest(signature_def_key=key, tags=_tags(entry))
        # What was said of the other signature's tensors does not hold for this one's.
        warm_up = entry.load.get("warm_up", True)
        load = {
            **{name: value for name, value in entry.load.items() if name != "expects"},
            "signature": signature.to_json(),
            "warm_up": warm_up if isinstance(warm_up, bool) else True,
        }
        request = LoadRequest.of(load)
        package = self._store.package(request.package)
        with self._lock:
            own = self._entries.setdefault(entry, {})
            other = own.get(key)
            is_new = other is None
            if other is None:
                own[key] = other = ModelEntry(entry.name, load, package, entry.version, f"{entry.key}#{key}")
        if not is_new:
            self._store.release(package)
            return other
        try:
            self._load(other, request)
        finally:
            if entry.model is None:  # it went meanwhile, perhaps before it could take this one along
                self.forget(entry)
        return other

    def forget(self, entry: ModelEntry) -> None:
        """Take away all that belong to a model which is gone."""
        with self._lock:
            self._definitions.pop(entry, None)
            own = self._entries.pop(entry, {})
        for other in own.values():
            self._free(other)


def _tags(entry: ModelEntry) -> str | None:
    return SignatureRequest.from_json(entry.load.get("signature", {})).tags
