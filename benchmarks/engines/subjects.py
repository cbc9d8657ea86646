"""Models that engines and precisions are compared on, pictures that judge them, and what their speed is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import shared_asset
from elastic_inference.engines.choosing import Samples
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.resolve import resolve_graph
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.video.photos import SampleSource, Scale
from elastic_inference.zoo import DETECTION_INPUT_NAMES, DETECTION_OUTPUT_NAMES

BEST_PROVED = "best proved"
"""A precision's name in `bounds`: whichever is fastest of those that agree with float32."""
Pictures = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Subject:
    """One model.

    Attributes:
        name: It and the size of its pictures.
        file: Of the shared assets.
        pictures: Folders and clips of the shared assets, and how many samples of each; the last one is timed.
        calls: How often a turn runs it.
        bounds: Precision -> how many times as fast as TensorFlow it must be and aims to be.
        is_random: Whether its weights are chance, so that only its speed means anything.
    """

    name: str
    file: str
    pictures: Pictures
    calls: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    scale: Scale | None = None
    is_random: bool = False

    @property
    def path(self) -> Path | None:
        """Of the model; None where it is not there."""
        return shared_asset(f"assets/models/{self.file}")

    @property
    def request(self) -> SignatureRequest:
        """What is asked of it."""
        return SignatureRequest(input_names=dict(self.inputs), output_names=dict(self.outputs))

    def samples(self, path: Path) -> Samples:
        """Its pictures, one of three held out to judge; none where the assets are not there."""
        signature = resolve_graph(ModelPackage.read(path), self.request).signature
        read = [
            SampleSource(source, {}, self.scale, most=most).read(signature)
            for relative, most in self.pictures
            if (source := shared_asset(f"assets/{relative}")) is not None
        ]
        return Samples(
            tuple(sample for each in read for sample in each.calibration),
            tuple(sample for each in read for sample in each.held_out),
        )


_SSD = "ssd_mobilenet_v2_coco_2018_03_29.pb"
_SSD_BOUNDS = {"fp32": (1.2, 2.0), BEST_PROVED: (1.5, 3.0)}
_DETECTOR = (DETECTION_INPUT_NAMES, DETECTION_OUTPUT_NAMES)
_720P = (("photos", 5), ("video/highway_720p.mp4", 12), ("video/dog_720p.mp4", 16))
_1080P = (("photos", 5), ("video/dog_1080p.mp4", 16))
SUBJECTS = (
    Subject(
        "Faster R-CNN 1080p", "faster_rcnn_resnet50_random.pb", (("video/dog_1080p.mp4", 6),), 1, *_DETECTOR,
        {"fp32": (1.05, 1.1), "bf16": (1.9, 2.1), "int8": (3.2, 3.6)}, is_random=True,
    ),
    Subject("ssd_mobilenet_v2 720p", _SSD, _720P, 8, *_DETECTOR, _SSD_BOUNDS),
    Subject("ssd_mobilenet_v2 1080p", _SSD, _1080P, 8, *_DETECTOR, _SSD_BOUNDS),
    Subject("ssdlite_mobilenet_v2 720p", "ssdlite_mobilenet_v2_coco_tfjs.pb", _720P, 8, *_DETECTOR),
    Subject(
        "efficientnet_lite0", "efficientnet_lite0_imagenet.pb", _720P, 20,
        {"images": "images:0"}, {"probs": "probs:0"}, scale=Scale.IMAGENET,
    ),
)  # fmt: skip
