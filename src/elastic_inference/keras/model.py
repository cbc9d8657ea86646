"""EIKerasModel: `predict` of a Keras model, computed by an EIPredictor.

With a path, numpy and the standard library are enough on this side; a live model is saved to a temporary file first.
How inputs and outputs are nested stands in `structure`, how data becomes batches in `batches`.
"""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from elastic_inference.client.accelerator import Accelerator
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.prediction import Outputs
from elastic_inference.client.predictor import EIPredictor
from elastic_inference.errors import InvalidInput
from elastic_inference.keras.batches import array_batches, is_array_data, iterable_batches, unpack
from elastic_inference.keras.structure import Structure

__all__ = ["EIKerasModel"]

log = logging.getLogger(__name__)
DEFAULT_BATCH_SIZE = 32  # as in Keras
BATCHES_IN_FLIGHT = 2


class EIKerasModel:
    """A Keras model whose `predict` runs on an accelerator.

    Args:
        model: A `.keras` or `.h5` file, a SavedModel directory, or a live Keras model.
        accelerator, load: Where to compute and how to load, as EIPredictor has them.
        options: Further arguments of EIPredictor, such as `timeout_seconds`; its short keywords are taken too.

    Raises:
        ElasticInferenceError: As EIPredictor raises.
    """

    def __init__(
        self,
        model: Any,
        *,
        accelerator: Accelerator | None = None,
        load: LoadOptions | None = None,
        **options: Any,
    ) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(model, str | os.PathLike):
            path = Path(model)
        else:
            # It stays as long as the predictor, which sends it again to an accelerator that was started again.
            self._folder = tempfile.TemporaryDirectory(prefix="elastic-inference-")
            path = Path(self._folder.name) / "model.keras"
        try:
            if self._folder is not None:
                model.save(path)
            self.predictor = EIPredictor(path, accelerator=accelerator, load=load, **options)
            try:
                self._structure = Structure.read(
                    path, self.predictor.feed_tensors, self.predictor.fetch_tensors
                )
            except BaseException:
                self.predictor.close()
                raise
        except BaseException:
            self._remove_folder()
            raise

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = 0,  # noqa: ARG002
        steps: int | None = None,
        callbacks: Any = None,
        **_: Any,
    ) -> Any:
        """Predict all samples of `x` in batches.

        Args:
            x: An array, or several nested as the model's inputs are (list, tuple or dict by name); a generator, dataset
                or Keras Sequence of batches, each x, (x, y) or (x, y, weights).
            batch_size: Samples a request, for arrays; None means 32.
            verbose: Taken for compatibility; nothing is printed.
            steps: Batches after which to stop; None: when the data ends.
            callbacks: Not called; a warning is logged where there are any.
            _: `max_queue_size`, `workers` and `use_multiprocessing` of older Keras, which change nothing here.

        Returns:
            An array with all samples along axis 0, or several nested as the model's outputs are.

        Raises:
            InvalidInput: There is no data, or it does not fit the model's inputs.
            ElasticInferenceError: As a call of the predictor raises.
        """
        if callbacks:
            log.warning("EIKerasModel.predict does not call callbacks")
        batches = self._batches(x, batch_size)
        if steps is not None:
            batches = itertools.islice(batches, steps)
        results = list(self.predictor.map(batches, in_flight=BATCHES_IN_FLIGHT))
        if not results:
            raise InvalidInput("predict was given no data: it needs at least one batch")
        return self._structure.pack(
            {
                alias: np.concatenate([np.atleast_1d(result[alias]) for result in results])
                for alias in results[0]
            }
        )

    def predict_on_batch(self, x: Any) -> Any:
        """Predict one batch in one request."""
        outputs: Outputs = self.predictor(self._structure.feed(x))
        return self._structure.pack(outputs)

    def _batches(self, x: Any, batch_size: int | None) -> Iterator[dict[str, Any]]:
        if is_array_data(x):
            return array_batches(self._structure.feed(x), batch_size or DEFAULT_BATCH_SIZE)
        if batch_size is not None:
            raise InvalidInput(
                "batch_size must be None for a generator, dataset or Sequence, which make batches themselves"
            )
        batches: Iterable[Any] = iterable_batches(x)
        return (self._structure.feed(unpack(batch)) for batch in batches)

    def close(self) -> None:
        """End the predictor and remove the temporary file; twice is fine."""
        self.predictor.close()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> EIKerasModel:
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
