"""A real detector on real photographs: OpenVINO in float32 finds what TensorFlow finds, within 1e-3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.agreement import Criterion, Kind, Pair, judge
from tests.engines.conftest import Load
from tests.shared import shared_path

DETECTIONS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
REQUEST = SignatureRequest(
    input_names={"inputs": "image_tensor:0"}, output_names={name: f"{name}:0" for name in DETECTIONS}
)


@pytest.mark.parametrize(
    ("name", "num_rewrites"), [("ssd_mobilenet_v2_coco_2018_03_29", 2), ("ssdlite_mobilenet_v2_coco_tfjs", 1)]
)
def test_same_detections_as_tensorflow(load: Load, name: str, num_rewrites: int) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("tensorflow")
    path = shared_path(f"assets/models/{name}.pb")
    ours, reference = (load(path, REQUEST, engine=engine) for engine in ("auto", "tensorflow"))
    assert ours.report.engine == "openvino"
    assert ["runs as one operation" in note for note in ours.report.notes] == [True] * num_rewrites
    assert ours.signature.outputs["detection_boxes"].shape == (None, 100, 4)
    for photo_name in ("dog_bicycle_truck.jpg", "jetson_peds_0.jpg", "torchserve_3dogs.jpg"):
        photo = cv2.imread(str(shared_path(f"assets/photos/{photo_name}")))[None, :, :, ::-1]
        found, expected = (
            model.predict({"inputs": np.ascontiguousarray(photo)}) for model in (ours, reference)
        )
        assert {alias: (a.dtype, a.shape) for alias, a in found.items()} == {
            alias: (a.dtype, a.shape) for alias, a in expected.items()
        }
        sure = _sure(expected)
        assert sure.any(), photo_name
        assert (_sure(found) == sure).all()
        np.testing.assert_allclose(found["detection_scores"], expected["detection_scores"], atol=1e-3)
        np.testing.assert_array_equal(found["detection_classes"][sure], expected["detection_classes"][sure])
        np.testing.assert_allclose(
            found["detection_boxes"][sure], expected["detection_boxes"][sure], atol=1e-3
        )


def test_bfloat16_finds_the_same_in_a_large_picture(load: Load) -> None:
    """Rows and columns beyond 256 must not be rounded where a picture is resized, nor corners of boxes."""
    cv2 = pytest.importorskip("cv2")
    path = shared_path("assets/models/ssd_mobilenet_v2_coco_2018_03_29.pb")
    ours, exact = (load(path, REQUEST, engine="openvino", precision=p) for p in ("bf16", "fp32"))
    if ours.report.precision != "bf16":
        pytest.skip(ours.report.notes[0])
    assert sum("that resizes images runs as one operation" in note for note in ours.report.notes) == 1
    assert not [
        note for note in ours.report.notes if "as it is written" in note
    ]  # else only who names the engine has it
    pairs = []
    for name in ("dog_bicycle_truck.jpg", "jetson_peds_0.jpg", "darknet_horses.jpg"):
        photo = np.ascontiguousarray(cv2.imread(str(shared_path(f"assets/photos/{name}")))[None, :, :, ::-1])
        pairs.append(Pair(name, *(model.predict({"inputs": photo}) for model in (ours, exact))))
    judged = judge(Criterion.of(Kind.DETECTIONS), pairs)
    assert judged.agrees, judged
    assert judged.figures["num_objects"] >= 6


def _sure(detections: dict[str, Any]) -> Any:
    return detections["detection_scores"] > 0.3
