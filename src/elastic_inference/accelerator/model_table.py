"""The models of this accelerator by name: loading, ready or failed, with what each has done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from elastic_inference.accelerator.aliases import MAX_ALIASES, Aliases
from elastic_inference.accelerator.load_records import LoadRecords, forget
from elastic_inference.accelerator.load_request import OF_THE_CLIENT, LoadRequest
from elastic_inference.accelerator.model_entry import ModelEntry, ModelState
from elastic_inference.accelerator.model_loader import ModelLoader
from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.other_signatures import OtherSignatures
from elastic_inference.accelerator.proofs import Proofs
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.accelerator.recording import Recordings
from elastic_inference.accelerator.versions import FIRST, Versions, check_name, not_found, of_key
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.errors import DeadlineExceeded, ElasticInferenceError, InvalidInput, ModelNotFound
from elastic_inference.models.package import ModelPackage

log = logging.getLogger(__name__)
RELOAD_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""Between the tries to load again what an earlier process of the accelerator had loaded."""
MAX_FAILED = 64  # entries of models that could not be loaded, whose reasons are kept; the oldest goes
MAX_UNLOADED = 64  # models that can be loaded again by their name alone; the oldest is forgotten


class ModelTable:
    """Models by name. Safe for several threads; one model loads at a time.

    Args:
        store: Where their files are.
        record_dir: Where it is written down what is loaded, so that `reload` can do it again.
        options: Engine options of this accelerator; a load may choose engine and precision.
        queue: Whose turn it is to use the device.
        memory_limit_bytes: For the error when a model cannot fit; None: no limit.
        proofs: Decides which models are compared with their reference; None: none is.
        recordings: Keep inputs of requests; None: none are kept.
    """

    def __init__(
        self,
        store: ModelStore,
        record_dir: Path,
        options: EngineOptions,
        queue: RequestQueue,
        memory_limit_bytes: int | None = None,
        proofs: Proofs | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        self._loader = ModelLoader(options, memory_limit_bytes, proofs, recordings)
        self._store = store
        self._queue = queue
        self._records = LoadRecords(record_dir)
        self._lock = threading.Lock()
        self._entries: dict[str, ModelEntry] = {}
        self.versions = Versions()
        self.why_absent: Callable[[str, str], ElasticInferenceError | None] = lambda _name, _version: None
        self._unloaded: dict[str, Mapping[str, Any]] = {}
        self._closing = threading.Event()
        self._recalled: list[tuple[ModelEntry, LoadRequest, ModelPackage]] = []
        self.others = OtherSignatures(store, self._load_new, self._end)
        self._aliases = Aliases(record_dir / ".aliases")

    def entries(self) -> list[ModelEntry]:
        """All models, in the order of loading."""
        with self._lock:
            return list(self._entries.values())

    def entry(self, name: str, version: str = "") -> ModelEntry:
        """Return a model in whatever state; ModelNotFound where there is none of that name and version.

        Args:
            version: "" is the newest.
        """
        entry = self._find(name, version) or self._find(self._aliases.target(name) or "", version)
        if entry is not None:
            return entry
        absent = self.why_absent(name, version)
        if absent is not None:
            raise absent
        is_here = version != "" and self._find(name, "") is not None
        raise not_found(name, version, self.versions.all(name) or [FIRST] if is_here else [])

    def _find(self, name: str, version: str) -> ModelEntry | None:
        entry = self._entries.get(name) if version in ("", FIRST) else None
        return entry or self._entries.get(self.versions.key(name, version) or "")

    def ready(self, name: str, timeout_seconds: float | None = None, version: str = "") -> ModelEntry:
        """Return a model, waited for while it loads.

        Args:
            version: "" is the newest.

        Raises:
            ModelNotFound: None of that name and version.
            DeadlineExceeded: It was still loading at the end of the time.
            ElasticInferenceError: What its loading failed with.
        """
        entry = None if version else self._entries.get(name)
        if entry is not None and entry.model is not None:
            return entry
        entry = self.entry(name, version)
        if not entry.settled.wait(timeout_seconds):
            raise DeadlineExceeded(f"model {name!r} was still loading after {timeout_seconds} s")
        if entry.model is None:
            raise entry.error or ModelNotFound(f"model {name!r} was unloaded")
        return entry

    def load(self, name: str, load: Mapping[str, Any]) -> ModelEntry:
        """Load a model, or find that it is loaded already.

        Args:
            load: The fields of a LoadRequest.

        Raises:
            InvalidInput: The name or a field is malformed, or another model has that name.
            ElasticInferenceError: Whatever the engine says; the entry stays as UNAVAILABLE with the reason.
        """
        check_name(name)
        if self._aliases.target(name) is not None:
            raise InvalidInput(
                f"{name!r} is an alias of {self._aliases.target(name)!r}; unload the alias first"
            )
        request = LoadRequest.of(load)
        load = {key: value for key, value in load.items() if key not in OF_THE_CLIENT}
        before = self._entries.get(name)
        if before is not None and not (
            dict(before.load) == load and self._loader.can_choose(before, request)
        ):
            before = None
        while True:
            entry = self._loaded(name, load, request, before)
            if entry.name in (name, request.own_name(name)):
                return entry
            # It is another predictor's alone; the next turn loads one for this one.

    def _loaded(
        self, name: str, load: Mapping[str, Any], request: LoadRequest, before: ModelEntry | None
    ) -> ModelEntry:
        """Return the entry of that load; a new one takes the place of `before`, whose requests finish."""
        package = self._store.package(request.package)
        with self._lock:
            entry = self._entries.get(request.own_name(name)) or self._entries.get(name)
            if (
                entry is not None
                and entry.state is not ModelState.UNAVAILABLE
                and dict(entry.load) != dict(load)
            ):
                self._store.release(package)
                raise InvalidInput(
                    f"model {name!r} is loaded already from other files or for another signature"
                )
            before = before if entry is before else None
            is_new = entry is before or entry is None or entry.state is ModelState.UNAVAILABLE
            if is_new:
                entry = self._entries[name] = ModelEntry(name, dict(load), package)
                self._unloaded.pop(name, None)
        assert entry is not None
        if is_new:
            try:
                self._load_new(entry, request)
            finally:
                if before is not None:
                    self._end(before)
        else:
            self._store.release(package)
        entry.settled.wait()
        return self.ready(entry.name)

    def load_version(self, name: str, version: str, load: Mapping[str, Any]) -> ModelEntry:
        """Load a version of a model; until it is ready, what was that version before answers, and then goes.

        Requests wait for the first version of a name; where it fails they are told why.

        Args:
            load: The fields of a LoadRequest.

        Raises:
            ElasticInferenceError: Whatever loading says; nothing has changed.
        """
        check_name(name)
        request = LoadRequest.of(load)
        package = self._store.package(request.package)
        key = self.versions.new_key(name, version)
        entry = ModelEntry(name, dict(load), package, version, key)
        with self._lock:
            self._entries[key] = entry
        if not self.versions.all(name):
            self.versions.put(name, version, key)
        try:
            self._load_new(entry, request)
        except ElasticInferenceError:
            self.versions.remove(name, key)
            with self._lock:
                self._entries.pop(key, None)
            raise
        before = self.versions.put(name, version, key)
        if before not in (None, key):
            self._take_away(before)
        return entry

    def unload_version(self, name: str, version: str) -> None:
        """Take a version away; requests that have their turn finish. Fine where there is none."""
        key = self.versions.key(name, version)
        if key is not None:
            self.versions.remove(name, key)
            self._take_away(key)

    def _load_new(self, entry: ModelEntry, request: LoadRequest) -> None:
        try:
            self._load_into(entry, request, entry.package)
        except ElasticInferenceError as error:
            self._fail(entry, entry.package, error)
            raise
        self._settle(entry, request, entry.package)

    def _settle(self, entry: ModelEntry, request: LoadRequest, package: ModelPackage) -> None:
        entry.settled.set()
        self._store.remember(package, request.label)
        self._record(entry)

    def _fail(self, entry: ModelEntry, package: ModelPackage, error: ElasticInferenceError) -> None:
        entry.error, entry.reason, entry.state = error, str(error), ModelState.UNAVAILABLE
        self._forget_old_failures()
        self._store.release(package)
        entry.settled.set()

    def _load_into(self, entry: ModelEntry, request: LoadRequest, package: ModelPackage) -> None:
        """Load a model and let requests run; whatever it fails with is an error that its client may be told."""
        model = self._loader.load(entry, request, package)
        self._set_apart(entry, model, request)
        entry.model, entry.state, entry.reason = model, ModelState.READY, ""
        log.info("model loaded", extra={"model": entry.key, "engine": model.report.engine})

    def _set_apart(self, entry: ModelEntry, model: LoadedModel, request: LoadRequest) -> None:
        """Give a model that keeps what a call changes the name of the one predictor that asked for it."""
        own_name = request.own_name(entry.name)
        if model.changes and request.instance is not None and not entry.name.endswith(f".{request.instance}"):
            with self._lock:
                self._entries[own_name] = self._entries.pop(entry.name)
                entry.name = own_name

    def _forget_old_failures(self) -> None:
        with self._lock:
            failed = [entry for entry in self._entries.values() if entry.state is ModelState.UNAVAILABLE]
            for entry in failed[:-MAX_FAILED]:
                del self._entries[entry.key]

    def _record(self, entry: ModelEntry) -> None:
        # With the lock held, since the next load of that name writes to the same place.
        with self._lock:
            if self._entries.get(entry.key) is entry:  # not unloaded meanwhile
                self._records.write(entry.key, entry.load)

    def unloaded(self) -> list[str]:
        """Names that `load_again` knows beside those of the entries."""
        with self._lock:
            return list(self._unloaded)

    def load_again(self, name: str) -> ModelEntry:
        """Return a model that is loaded, or load it from the files it had before it was unloaded, or failed.

        Raises:
            ModelNotFound: No model was loaded under that name, as far as is remembered.
            ElasticInferenceError: Whatever loading says.
        """
        with self._lock:
            entry = self._entries.get(name)
            load = self._unloaded.get(name) if entry is None else entry.load
        if load is None:
            raise ModelNotFound(
                f"failed to load {name!r:.200}: no model of that name is or was here; upload its files and "
                "give a package"
            )
        if entry is not None and entry.state is not ModelState.UNAVAILABLE:
            return self.ready(name)
        return self.load(name, load)

    def aliases(self) -> dict[str, str]:
        """Return the name that each alias stands for."""
        return self._aliases.all()

    def alias(self, alias: str, name: str) -> None:
        """Let a model be asked for by another name too; an alias that there is stands for this model from now on.

        Raises:
            InvalidInput: The alias is malformed, or a model's own name.
            ModelNotFound: There is no model of that name.
        """
        check_name(alias)
        target = self.entry(name).name
        if alias in self._entries or self.versions.all(alias):
            raise InvalidInput(f"{alias!r} is a model's own name; unload that model first")
        if not self._aliases.set(alias, target):
            raise InvalidInput(f"no more than {MAX_ALIASES} aliases can be set")

    def unload(self, name: str) -> None:
        """Take a model away, or an alias alone; ModelNotFound where there is neither.

        It waits for a turn, so the request that runs finishes; those that still wait get ModelNotFound.
        """
        if name not in self._entries and self._aliases.remove(name):
            return
        versions = self.versions.all(name)
        for version in versions:
            self.unload_version(name, version)
        if not versions:
            self._take_away(self.entry(name).key)

    def _take_away(self, key: str) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.settled.wait()
        with self._lock:
            if self._entries.get(key) is not entry:
                return  # another client was quicker
            del self._entries[key]
            self._records.remove(key)
            if entry.model is not None and key == entry.name:
                self._unloaded[key] = entry.load
                for oldest in list(self._unloaded)[:-MAX_UNLOADED]:
                    del self._unloaded[oldest]
        self._end(entry)

    def _end(self, entry: ModelEntry) -> None:
        """Free what an entry holds that nobody finds any more, and the other signatures of its model."""
        entry.settled.wait()
        with self._queue.turn(None, is_own_work=True):
            model, entry.model = entry.model, None
        self._loader.unloaded(entry)
        if model is not None:
            model.close()
        entry.shapes.keep()
        if entry.state is not ModelState.UNAVAILABLE:  # else it was given back when loading failed
            self._store.release(entry.package)
        self.others.forget(entry)

    def recall(self) -> None:
        """Know again what an earlier process of this accelerator had loaded; `reload` then loads it.

        Done before requests are served, so that they wait for their model. A record that cannot be read is left
        out: its client loads again.
        """
        for key, load in self._records.all():
            name, version = of_key(key)
            try:
                request = LoadRequest.of(load)
                package = self._store.package(request.package)
            except (OSError, ValueError, TypeError, AttributeError) as error:
                forget(key, error)
                continue
            entry = self._entries[key] = ModelEntry(name, load, package, version, key)
            if key != name:
                self.versions.put(name, version, key)
            self._recalled.append((entry, request, package))

    def reload(self) -> None:
        """Load what `recall` found, one after the other; their requests wait.

        All of it could be loaded before, so what fails is tried again for a while: there may have been no descriptors,
        memory or disk left for a moment.
        """
        for pause_seconds in (*RELOAD_PAUSES_SECONDS, None):
            recalled, self._recalled = self._recalled, []
            for one in recalled:
                entry, request, package = one
                try:
                    self._load_into(entry, request, package)
                except ElasticInferenceError as error:
                    extra = {"model": entry.name, "error": str(error)}
                    log.error("model could not be loaded again", extra=extra)
                    if pause_seconds is None:
                        self._fail(entry, package, error)
                    else:
                        self._recalled.append(one)
                else:
                    self._settle(entry, request, package)
            if not self._recalled or self._closing.wait(pause_seconds):
                return

    def close(self) -> None:
        """Free all models; closing twice is fine."""
        self._closing.set()
        self._loader.close()
        for entry in (*self.entries(), *self.others.entries()):
            entry.shapes.keep()
            if entry.model is not None:
                entry.model.close()
