"""The functions of `tf.contrib.predictor`, for code that called them: only a SavedModel can go to an accelerator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from elastic_inference.client.accelerator import Accelerator
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.predictor import EIPredictor
from elastic_inference.errors import UnsupportedModel

__all__ = ["from_contrib_estimator", "from_estimator", "from_saved_model"]


def from_saved_model(
    export_dir: str | os.PathLike[str],
    signature_def_key: str | None = None,
    signature_def: Any = None,
    input_names: Mapping[str, str] | None = None,
    output_names: Mapping[str, str] | None = None,
    tags: str | None = None,
    graph: Any = None,
    config: Any = None,
    *,
    accelerator: Accelerator | None = None,
    load: LoadOptions | None = None,
    **options: Any,
) -> EIPredictor:
    """Make a predictor of a SavedModel; `options` are further arguments of EIPredictor, such as `use_ei=False`."""
    return EIPredictor(
        export_dir,
        signature_def_key=signature_def_key,
        signature_def=signature_def,
        input_names=input_names,
        output_names=output_names,
        tags=tags,
        graph=graph,
        config=config,
        accelerator=accelerator,
        load=load,
        **options,
    )


def from_contrib_estimator(*_: object, **__: object) -> NoReturn:
    """Refuse: an estimator is Python code of this process."""
    _refuse()


def from_estimator(*_: object, **__: object) -> NoReturn:
    """Refuse: an estimator is Python code of this process."""
    _refuse()


def _refuse() -> NoReturn:
    raise UnsupportedModel(
        "an Estimator is code of this process and cannot be sent to an accelerator: write it with "
        "estimator.export_saved_model(directory, serving_input_receiver_fn) and give the directory to from_saved_model"
    )
