"""Which models of a folder are served: what is found there is loaded, what is gone or replaced is unloaded.

One that cannot be loaded keeps no other from being served; why it cannot, the index and the log say.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.model_table import ModelTable
from elastic_inference.accelerator.repository import layout
from elastic_inference.accelerator.repository.intake import load_of
from elastic_inference.accelerator.repository.layout import FoundModel, FoundVersion, Stamp
from elastic_inference.accelerator.repository.model_settings import ModelSettings
from elastic_inference.errors import ElasticInferenceError, InvalidInput, ModelNotFound, ModelNotReady

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
"""Called with models done and models in all."""


class Place(NamedTuple):
    """A version of a model."""

    name: str
    version: str


class Try(NamedTuple):
    """What was loaded, or could not be: the same is not tried again."""

    stamp: Stamp
    settings: ModelSettings


@dataclass(frozen=True)
class Absent:
    """A version, or a model whose version is "", that is not served.

    Attributes:
        is_coming: Whether it is still to be loaded.
    """

    place: Place
    reason: str
    is_coming: bool = False


class Repository:
    """The models of one folder in the table. Safe for several threads; one changes models at a time.

    Args:
        models: Where they are served.
        store: Takes their files.
        folder: Of all models.
        defaults: Engine and precision of models that name none, as a LoadRequest has them.
        device: What computes.
    """

    def __init__(
        self,
        models: ModelTable,
        store: ModelStore,
        folder: Path,
        defaults: Mapping[str, Any],
        device: str,
    ) -> None:
        self._models = models
        self._store = store
        self._folder = folder
        self._defaults = defaults
        self._device = device
        self._lock = threading.RLock()
        self._found: dict[str, FoundModel] = {}
        self._tried: dict[Place, Try] = {}  # what was loaded, or could not be
        self._reasons: dict[Place, str] = {}
        self._unloaded: set[str] = set()  # by command, until a command loads them
        self._sent: set[str] = set()  # by command with their files, in place of what the folder has
        self._overrides: dict[str, Mapping[str, Any]] = {}  # by command, settings before those of the folder
        self._seen: dict[
            str, Mapping[int, FoundVersion]
        ] = {}  # at the last look, perhaps still being written
        self._coming: list[str] = []
        self.is_loaded = False
        models.why_absent = self.why_absent

    def load_all(self, progress: Progress = lambda _done, _total: None) -> None:
        """Load what the folder holds; raises InvalidInput where it cannot be read."""
        with self._lock:
            found = self._scan()
            self._seen = {name: model.versions for name, model in found.items()}
            self._coming = list(found)
            progress(0, len(found))
            for done, model in enumerate(found.values(), 1):
                self._serve(model)
                self._coming.remove(model.name)
                progress(done, len(found))
            self.is_loaded = True

    def poll(self) -> None:
        """Bring what is served in line with the folder; what changed since the last look waits for the next one."""
        with self._lock:
            try:
                found = self._scan()
            except InvalidInput as error:  # the folder is away: what is served stays
                log.warning("the folder of models cannot be read", extra={"error": str(error)})
                return
            for name in self._found.keys() - found.keys() - self._sent:
                log.info("a model's files are gone", extra={"model": name})
                self._take_away(self._found.pop(name))
            for name, model in found.items():
                if self._seen.get(name) == model.versions and name not in self._unloaded | self._sent:
                    self._serve(model)
            self._seen = {name: model.versions for name, model in found.items()}

    def load(self, name: str, settings: Mapping[str, Any] | None = None) -> None:
        """Load a model by command, as its files are now.

        Args:
            settings: Fields of ModelSettings that go before those of the folder; None: there are none.

        Raises:
            ModelNotFound: The folder holds no such model.
            ElasticInferenceError: Why not all of its versions that are wanted can be loaded.
        """
        with self._lock:
            model = layout.scan(self._folder, self._device).get(name)
            if model is None:
                raise ModelNotFound(
                    f"failed to load {name!r:.200}: the folder of models has none of that name"
                )
            if settings is not None:
                model = model.with_settings(settings)
            if name in self._sent:
                self._sent.discard(name)
                self._forget_tries(name)
            self._unloaded.discard(name)
            for place in [place for place in self._reasons if place.name == name]:
                self._tried.pop(place, None)  # what failed is tried again
            errors = self._serve(model)
            if errors:
                raise errors[0]
            self._overrides.pop(name, None)
            if settings is not None:
                self._overrides[name] = settings

    def configure(self, wanted: Mapping[str, tuple[str, Mapping[str, Any] | None]]) -> None:
        """Serve these models of the folder and no others.

        Args:
            wanted: By name, the folder that each is to come from, "" for whichever it has here, and fields of
                ModelSettings that go before its own, None for none.

        Raises:
            InvalidInput: A folder is not that of the model here.
            ModelNotFound: A model is not in the folder; nothing has changed.
            ElasticInferenceError: Why one could not be loaded; the others were.
        """
        with self._lock:
            found = layout.scan(self._folder, self._device)
            for name, (folder, _) in wanted.items():
                if name not in found:
                    raise ModelNotFound(f"the folder of models has none called {name!r:.200}")
                if folder and Path(folder).resolve() != found[name].path.resolve():
                    raise InvalidInput(
                        f"base_path {folder!r:.200} of {name!r:.80}: models of this folder alone are served; its "
                        f"own is {found[name].path}"
                    )
            errors = []
            for name, (_, settings) in wanted.items():
                try:
                    self.load(name, settings)
                except ElasticInferenceError as error:
                    errors.append(error)
            for name in found.keys() - wanted.keys():
                self.unload(name)
            if errors:
                raise errors[0]

    def _scan(self) -> dict[str, FoundModel]:
        found = layout.scan(self._folder, self._device)
        for name in self._overrides.keys() & found.keys():
            if not found[name].problem:
                found[name] = found[name].with_settings(self._overrides[name])
        return found

    def set_aside(self, name: str) -> None:
        """Leave a name to models that clients sent, until `load` takes it back."""
        with self._lock:
            self._sent.add(name)
            self._unloaded.discard(name)
            self._forget_tries(name)
            for place in [place for place in self._reasons if place.name == name]:
                del self._reasons[place]

    def unload(self, name: str) -> None:
        """Unload all versions of a model by command; it comes back by `load` alone."""
        with self._lock:
            self._unloaded.add(name)
            self._sent.discard(name)
            self._take_away(self._found.get(name) or FoundModel(name, self._folder, {}))

    def has(self, name: str) -> bool:
        """Whether the folder holds a model of this name, or held it at the last look."""
        return name in self._found or name in layout.scan(self._folder, self._device)

    def absent(self) -> list[Absent]:
        """Return what is in the folder and not served, with the reason."""
        found = [Absent(place, reason) for place, reason in list(self._reasons.items())]
        found += [Absent(Place(name, ""), "unloaded") for name in sorted(self._unloaded & self._found.keys())]
        return found + [Absent(Place(name, ""), "", is_coming=True) for name in list(self._coming)]

    def note(self, name: str) -> str:
        """Return why the whole folder is the model of this name; "" where it is not."""
        model = self._found.get(name)
        return "" if model is None or name in self._sent else model.note

    def why_absent(self, name: str, version: str) -> ElasticInferenceError | None:
        """Return what whoever asks for a model that is not served is told; None where the folder has none."""
        if name in self._coming:
            return ModelNotReady(f"model {name!r:.200} is still to be loaded")
        reasons = [
            reason
            for place, reason in list(self._reasons.items())
            if place.name == name and version in ("", place.version)
        ]
        if reasons:
            return ModelNotReady(f"Request for unknown model: {name!r:.200} cannot be served: {reasons[0]}")
        if name in self._unloaded:
            return ModelNotFound(f"Request for unknown model: {name!r:.200} was unloaded")
        return None

    def _serve(self, model: FoundModel) -> list[ElasticInferenceError]:
        """Load and unload versions until those are served that should be; returns what went wrong."""
        before = self._found.get(model.name)
        if model.note and (before is None or before.note != model.note):
            log.info(model.note, extra={"model": model.name})
        self._found[model.name] = model
        self._forget(model)
        if model.problem:
            error = InvalidInput(model.problem)
            self._fail(Place(model.name, ""), error)
            return [error]
        errors = []
        wanted = model.settings.choose(list(model.versions))
        for number in wanted:
            try:
                self._load(model, number)
            except ElasticInferenceError as error:
                self._fail(Place(model.name, str(number)), error)
                errors.append(error)
        if not errors:  # else what was served before goes on
            errors = self._label(model, wanted)
        if not errors:
            self._drop(model.name, keep={str(number) for number in wanted})
        return errors

    def _label(self, model: FoundModel, served: Collection[int]) -> list[ElasticInferenceError]:
        labels = model.settings.labels
        absent = [
            f"{label!r:.80} of version {number}" for label, number in labels.items() if number not in served
        ]
        if absent:
            error = InvalidInput(
                f"labels of {model.name!r} are of versions that are not served: {', '.join(absent)}; served are "
                f"{', '.join(map(str, served)) or 'none'}"
            )
            self._fail(Place(model.name, ""), error)
            return [error]
        self._models.versions.label(model.name, {label: str(number) for label, number in labels.items()})
        return []

    def _load(self, model: FoundModel, number: int) -> None:
        files = model.versions.get(number)
        if files is None:
            have = ", ".join(map(str, sorted(model.versions)))
            raise ModelNotFound(f"version {number} is to be served, the folder has {have}")
        place = Place(model.name, str(number))
        this = Try(files.stamp, replace(model.settings, versions=1, labels={}))
        if self._tried.get(place) == this and self._models.versions.key(*place) is not None:
            return
        if self._tried.get(place) == this and place in self._reasons:
            raise InvalidInput(self._reasons[place])
        self._tried[place] = this
        if files.problem:
            raise ModelNotFound(files.problem)
        self._models.load_version(*place, load_of(files.path, model.settings, self._store, self._defaults))
        self._reasons.pop(place, None)

    def _fail(self, place: Place, error: ElasticInferenceError) -> None:
        if self._reasons.get(place) != str(error):
            about = {"model": place.name, "version": place.version, "error": str(error)}
            log.error("a model cannot be served", extra=about)
        self._reasons[place] = str(error)

    def _forget(self, model: FoundModel) -> None:
        """Forget why versions failed that are not in the folder any more."""
        there = {Place(model.name, str(number)) for number in model.versions}
        if model.problem:
            there.add(Place(model.name, ""))
        for place in [place for place in self._reasons if place.name == model.name and place not in there]:
            del self._reasons[place]

    def _take_away(self, model: FoundModel) -> None:
        self._forget(FoundModel(model.name, model.path, {}))
        self._drop(model.name, keep=set())

    def _drop(self, name: str, keep: set[str]) -> None:
        for version in self._models.versions.all(name):
            if version not in keep:
                self._models.unload_version(name, version)
        self._forget_tries(name, keep)

    def _forget_tries(self, name: str, keep: Collection[str] = ()) -> None:
        for place in [place for place in self._tried if place.name == name and place.version not in keep]:
            del self._tried[place]
