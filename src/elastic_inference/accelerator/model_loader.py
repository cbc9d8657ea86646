"""From a model's files to one that predicts: engine, warm-up, proof, and what may run together."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from elastic_inference.accelerator import expectations, load_errors, recorded_choice
from elastic_inference.accelerator.batching.model import ModelBatching
from elastic_inference.accelerator.config import describe_recording
from elastic_inference.accelerator.load_request import LoadRequest
from elastic_inference.accelerator.model_entry import ModelEntry
from elastic_inference.accelerator.proofs import Loaded, Proofs
from elastic_inference.accelerator.recording import Recordings
from elastic_inference.accelerator.seen_shapes import SeenShapes
from elastic_inference.engines import choices, select
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.engines.stages import Stage, begin, told_to
from elastic_inference.engines.warm_up import warm_up
from elastic_inference.errors import InvalidInput
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.proof import Mode


class ModelLoader:
    """Loads one model at a time. Safe for several threads.

    Args:
        options: Engine options of the accelerator; a load may choose engine and precision.
        memory_limit_bytes: For the error when a model cannot fit; None: no limit.
        proofs: Decides which models are compared with their reference; None: none is.
        recordings: Keep inputs of requests, by which a precision is chosen; None: none are kept.
    """

    def __init__(
        self,
        options: EngineOptions,
        memory_limit_bytes: int | None = None,
        proofs: Proofs | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        self._options = options
        self._memory_limit_bytes = memory_limit_bytes
        self._proofs = proofs
        self._recordings = recordings
        self._lock = threading.Lock()

    def load(self, entry: ModelEntry, request: LoadRequest, package: ModelPackage) -> LoadedModel:
        """Load, warm up and begin to prove a model; writes into its entry what came of that.

        Raises:
            ElasticInferenceError: Whatever went wrong, as its client may be told.
        """
        model: LoadedModel | None = None
        entry.reason = Stage.WAITING.value
        try:
            with self._lock, told_to(entry.is_at):
                load_errors.check_size(package, self._memory_limit_bytes)
                signature = SignatureRequest.from_json(request.signature)
                mode = Mode.parse(request.proof)
                batching = request.batch_options()
                options = request.options(self._options)
                model, note = self._selected(package, signature, options)
                entry.awaits_choice = (
                    options.precision == "auto" and choices.find(package, signature, options) is None
                )
                expectations.check(model.signature, request.expects)
                entry.shapes = SeenShapes(
                    options.store, {"model": package.content_hash, "signature": signature.key()}
                )
                seen = entry.shapes.recall()
                begin(Stage.WARMING_UP)
                entry.warm_up_seconds, entry.warm_up_note = warm_up(model, request.warm_up, seen)
                if self._proofs is not None:
                    if mode is Mode.BEFORE:
                        begin(Stage.PROVING)
                    shapes = request.warm_up if isinstance(request.warm_up, Mapping) else {}
                    self._proofs.begin(Loaded(model, package, signature, options, shapes), mode, entry.proof)
            entry.batching = ModelBatching.of(model, batching)
            self._record(entry, model, signature, note)
            return model
        except Exception as error:
            if model is not None:
                model.close()
            told = load_errors.told(error, package, self._memory_limit_bytes)
            raise request.labelled(told, package) from error

    def can_choose(self, entry: ModelEntry, request: LoadRequest) -> bool:
        """Choose a loaded model's precision by recorded requests that were too few when it was loaded; it goes on.

        Returns:
            Whether one is chosen now, here or by `ei compile`, so that another load would take it.
        """
        if not entry.awaits_choice:
            return False
        asked = (entry.package, SignatureRequest.from_json(request.signature))
        options, recordings = request.options(self._options), self._recordings
        with entry.choosing(), self._lock, told_to(entry.chooses):
            is_chosen = choices.find(*asked, options) is not None
            if not is_chosen and (recordings is None or not recorded_choice.is_enough(recordings, *asked)):
                return False
            entry.awaits_choice = False
            return is_chosen or (
                recordings is not None
                and not recorded_choice.prepare(recordings, *asked, options, self._memory_limit_bytes)
            )

    def _selected(
        self, package: ModelPackage, signature: SignatureRequest, options: EngineOptions
    ) -> tuple[LoadedModel, str]:
        """Load a model, in a precision that recorded requests chose where that is asked for and none is chosen yet.

        Returns:
            The model, and why recorded requests chose nothing; "" where they did, or need not.
        """
        if self._recordings is None:
            return select.load(package, signature, options), ""
        note = recorded_choice.prepare(
            self._recordings, package, signature, options, self._memory_limit_bytes
        )
        try:
            return select.load(package, signature, options), note
        except InvalidInput as error:
            if not note:
                raise
            raise InvalidInput(f"{error}. {note}") from error

    def _record(self, entry: ModelEntry, model: LoadedModel, signature: SignatureRequest, note: str) -> None:
        """Keep inputs of the model's requests from now on where that is allowed; the report says so."""
        if self._recordings is None:
            return
        entry.recording = self._recordings.begin(entry.package, signature)
        entry.proof.record(entry.recording.saw)
        notes = [note] if note else []
        notes += [f"Recording: {text}." for text in describe_recording(self._recordings.most).values()]
        model.report = replace(model.report, notes=(*model.report.notes, *notes))

    def unloaded(self, entry: ModelEntry) -> None:
        """Forget what was recorded for a model that is gone, unless another load of it goes on."""
        recording, entry.recording = entry.recording, None
        if recording is not None and self._recordings is not None:
            self._recordings.end(recording)

    def close(self) -> None:
        """End what is being proved; closing twice is fine."""
        if self._proofs is not None:
            self._proofs.close()
