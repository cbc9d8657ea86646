"""From a model in float32 to one in int8, calibrated on samples by NNCF.

Box decoding, non-maximum suppression and whatever else comes after the last weights stays in float32: coordinates of a
picture do not fit 256 steps, and a detector that is quantized as a whole finds nothing. OpenVINO's TensorFlow front end
loses the names by which such parts are known, so they are told by their place and rank.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from elastic_inference.errors import EngineNotAvailable, InvalidInput, UnsupportedModel

Sample = Mapping[str, npt.NDArray[Any]]

_WEIGHTED = frozenset({
    "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul",
})  # fmt: skip
_PICTURE_RANK = 4  # from which a tensor is a map of features; boxes, scores and coordinates have fewer axes
_CORRECTION_SECONDS = 60.0
"""How long the thorough correction of biases may take: a prediction for each weighted operation and fifth sample.

It corrects each bias by what the layers before it give once they are quantized, the quick one by what they gave before.
ssd_mobilenet_v2's scores are then within 0.07 of fp32's in place of 0.11, which is refused. Faster R-CNN took 6 min.
"""
_THOROUGH = "In int8 each bias is corrected by what the quantized layers before it give."
_QUICK = (
    "In int8 biases are corrected by what the layers before gave in fp32: the thorough way would take about {:.0f} s, "
    "more than {:.0f}."
)
_NOT_COMPUTED = frozenset({"Constant", "Parameter", "Result"})


def quantized(model: ov.Model, samples: Sequence[Sample]) -> tuple[ov.Model, str]:
    """Return the model in int8, and a sentence that says how its biases were corrected.

    Args:
        model: In float32; is changed.
        samples: Arrays by tensor name of the model's inputs.

    Raises:
        EngineNotAvailable: NNCF is not installed.
        InvalidInput: There are no samples.
        UnsupportedModel: The model has nothing that can be quantized, or NNCF fails on it.
    """
    if not samples:
        raise InvalidInput("int8 needs samples to calibrate on, and there are none")
    nncf = _library()
    from openvino._offline_transformations import apply_moc_transformations

    # Scales and offsets of batch normalisation become part of the weights; NNCF corrects only what is.
    apply_moc_transformations(model, cf=True)
    left_out = kept_in_float(model)
    if left_out is None:
        raise UnsupportedModel(
            "the model has no convolution and no product with weights, so nothing of it gains from int8"
        )
    feeds = [_fed(model, sample) for sample in samples]
    num_weighted = sum(node.get_type_name() in _WEIGHTED for node in model.get_ops())
    with _quiet():
        try:
            seconds = correction_seconds(_prediction_seconds(model, feeds[0]), num_weighted, len(feeds))
            is_thorough = seconds <= _CORRECTION_SECONDS
            quantize = _quantizer(nncf, model)
            made = quantize(
                model=model,
                calibration_dataset=nncf.Dataset(feeds),
                fast_bias_correction=not is_thorough,
                subset_size=len(samples),
                preset=nncf.QuantizationPreset.MIXED,  # activations may be negative, as behind a linear bottleneck
                ignored_scope=nncf.IgnoredScope(names=left_out, validate=False),
            )
        except MemoryError:
            raise
        except Exception as error:  # NNCF's own classes have no common base
            raise UnsupportedModel(f"NNCF could not quantize the model: {error}") from error
    return made, _THOROUGH if is_thorough else _QUICK.format(seconds, _CORRECTION_SECONDS)


def correction_seconds(prediction_seconds: float, num_weighted: int, num_samples: int) -> float:
    """Return about how long the thorough correction takes: NNCF runs each part on every fifth sample."""
    return prediction_seconds * num_weighted * max(1, num_samples // 5)


def _quantizer(nncf: Any, model: ov.Model) -> Any:
    """Return what quantizes the model but not the bodies of its branches.

    For those NNCF wants samples that take either branch, which no set of photos does in a detector.
    """
    if any(node.get_type_name() == "If" for node in model.get_ops()):
        from nncf.openvino.quantization.quantize_model import native_quantize_impl

        return native_quantize_impl
    return nncf.quantize


def _prediction_seconds(model: ov.Model, feed: Mapping[str, npt.NDArray[Any]]) -> float:
    """Return how long a prediction takes in float32, the quicker of two."""
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        compiled(dict(feed))
        taken.append(time.perf_counter() - began)
    return min(taken)


def _fed(model: ov.Model, sample: Sample) -> dict[str, npt.NDArray[Any]]:
    """Return an array for each input of the model, by a name of it; what a sample leaves out is 0."""
    fed: dict[str, npt.NDArray[Any]] = {}
    for port in model.inputs:
        names = port.get_names()
        name = next((name for name in names if name in sample), None)
        if name is None and port.get_partial_shape().is_dynamic:
            raise InvalidInput(f"the samples have no value for tensor {min(names, default='')!r}")
        zeros = (
            None
            if name is not None
            else np.zeros(tuple(port.get_shape()), port.get_element_type().to_dtype())
        )
        fed[port.get_any_name()] = zeros if name is None else sample[name]  # type: ignore[assignment]
    return fed


def kept_in_float(model: ov.Model) -> list[str] | None:
    """Return the names of operations that stay in float32; None where there is nothing to quantize.

    Those that no weighted operation comes after, and all others but weighted ones whose tensors are no maps of
    features: between the stages of a two-stage detector boxes are decoded before more weights come.
    """
    nodes = model.get_ordered_ops()
    weighted = [node for node in nodes if node.get_type_name() in _WEIGHTED and _has_weights(node)]
    if not weighted:
        return None
    before = _with_all_before(weighted)
    names = {node.get_friendly_name() for node in weighted}
    return [
        name
        for node in nodes
        if node.get_type_name() not in _NOT_COMPUTED
        and (name := node.get_friendly_name()) not in names
        and (name not in before or _rank(node) < _PICTURE_RANK)
    ]


def _has_weights(node: Any) -> bool:
    """Whether one of its factors is constant; a product of two computed tensors is attention or box arithmetic."""
    return any(not _with_inputs(node.input_value(index).get_node()) for index in range(node.get_input_size()))


def _with_inputs(node: Any) -> bool:
    """Whether a tensor depends on the model's inputs."""
    stack, seen = [node], set()
    while stack:
        each = stack.pop()
        if each.get_type_name() == "Parameter":
            return True
        if each.get_friendly_name() not in seen:
            seen.add(each.get_friendly_name())
            stack += _sources(each)
    return False


def _with_all_before(nodes: Iterable[Any]) -> set[str]:
    stack, seen = list(nodes), set()
    while stack:
        node = stack.pop()
        if node.get_friendly_name() not in seen:
            seen.add(node.get_friendly_name())
            stack += _sources(node)
    return seen


def _sources(node: Any) -> list[Any]:
    return [node.input_value(index).get_node() for index in range(node.get_input_size())]


def _rank(node: Any) -> int:
    ranks = [node.get_output_partial_shape(index).rank for index in range(node.get_output_size())]
    return max((rank.get_length() for rank in ranks if rank.is_static), default=0)


def _library() -> Any:
    try:
        import nncf
    except ImportError as error:
        raise EngineNotAvailable(
            f"quantizing to int8 needs NNCF, which is not installed here ({error}); install elastic-inference[int8]"
        ) from error
    return nncf


class _quiet:  # noqa: N801  # read as a statement
    """NNCF tells of every operation that it leaves alone; only its errors count here."""

    def __enter__(self) -> None:
        self._log = logging.getLogger("nncf")
        self._level = self._log.level
        self._log.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._log.setLevel(self._level)
