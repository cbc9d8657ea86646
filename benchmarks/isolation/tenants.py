"""What the tenants of the benchmark run: models, and the clients that load them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.common import shared_asset
from benchmarks.isolation.load import LoadProcess, LoadSpec
from elastic_inference.client.host_session import Attachment

SATURATING_THREADS = 4


def classifier() -> dict[str, Any]:
    """The model of the well-behaved tenants: 7 ms of one core."""
    path = shared_asset("assets/models/efficientnet_lite0_imagenet.pb")
    if path is None:
        raise SystemExit("needs the shared asset models/efficientnet_lite0_imagenet.pb (set EI_SHARED)")
    return {
        "model": str(path),
        "inputs": {"images": "images:0"},
        "outputs": {"probs": "probs:0"},
        "dtype": "float32",
        "shape": (1, 224, 224, 3),
    }


def large_model() -> str:
    """The article's Faster R-CNN graph: 60 s of one core to load."""
    path = shared_asset("assets/models/faster_rcnn_resnet50_random.pb")
    if path is None:
        raise SystemExit("needs the shared asset models/faster_rcnn_resnet50_random.pb (set EI_SHARED)")
    return str(path)


def load(attachment: Attachment, model: dict[str, object], **changes: object) -> LoadProcess:
    """A client of this accelerator."""
    address = attachment.usable_endpoints()[0]
    return LoadProcess(LoadSpec(address=address, token=attachment.token, **model, **changes))  # type: ignore[arg-type]


@contextmanager
def closing(client: Any) -> Iterator[Any]:
    """End a load process with the block."""
    try:
        yield client
    finally:
        client.close()
