"""Keras models on an accelerator: EIKerasModel."""

from elastic_inference.keras.model import EIKerasModel

__all__ = ["EIKerasModel"]
