"""TensorFlow itself, imported when first needed and without its greetings; shared by graphs and Keras models."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType

from elastic_inference.engines.quiet import quiet_stderr
from elastic_inference.errors import EngineNotAvailable


@cache
def import_tensorflow() -> ModuleType:
    """TensorFlow, imported without its greetings.

    Raises:
        EngineNotAvailable: It is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with quiet_stderr():
            tf = import_module("tensorflow")
    except ImportError as error:
        raise EngineNotAvailable(
            f"engine tensorflow is not installed here ({error}); install elastic-inference[tensorflow]"
        ) from error
    tf.get_logger().setLevel("ERROR")
    return tf
