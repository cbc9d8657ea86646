"""EIPredictor under the name by which Amazon's package had it."""

from elastic_inference.client.predictor import EIPredictor

__all__ = ["EIPredictor"]
