"""TensorFlow itself, imported when first needed and without its greetings; shared by graphs and Keras models."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType

from elastic_inference.engines.quiet import quiet_stderr
from elastic_inference.engines.registry import engine_named


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
        raise engine_named("tensorflow").not_installed(error) from error
    tf.get_logger().setLevel("ERROR")
    return tf
