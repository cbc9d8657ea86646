"""Attach a fraction of an accelerator to a CPU program over the network, by changing one line."""

from elastic_inference.client.predictor import EIPredictor
from elastic_inference.client.report import CallTiming, PredictorReport
from elastic_inference.errors import ElasticInferenceError, InvalidArgumentError

__all__ = ["CallTiming", "EIPredictor", "ElasticInferenceError", "InvalidArgumentError", "PredictorReport"]
