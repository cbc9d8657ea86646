"""EIKerasModel under the name by which Amazon's package had it."""

from elastic_inference.keras import EIKerasModel

__all__ = ["EIKerasModel"]
