"""Models with seeded weights and their files; importing this needs PyTorch and torchvision."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.gpu.setting import Setting

FRAME = (1, 1080, 1920, 3)
SMALL_FRAME = (1, 96, 160, 3)
DETECTOR_OUTPUTS = ["boxes", "labels", "scores"]


class _Detector(torch.nn.Module):
    """A frame (1, H, W, 3) of uint8 to boxes, labels and scores."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frame = image[0].permute(2, 0, 1).to(torch.float32) / 255.0
        _, found = self.model([frame])
        return found[0]["boxes"], found[0]["labels"], found[0]["scores"]


class _Images(torch.nn.Module):
    """Images (N, 3, H, W) of uint8 to class scores."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.to(torch.float32) / 255.0)


class _Hungry(torch.nn.Module):
    """Takes as many MiB as its input says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        num_mebibytes = int(x.sum().item())
        taken = torch.ones([num_mebibytes, 1 << 18], dtype=torch.float32, device=x.device)
        return taken.sum() / float(1 << 18)


def frame_shape(setting: Setting) -> tuple[int, ...]:
    """Of the detector's input."""
    return SMALL_FRAME if setting.is_small else FRAME


def detector(setting: Setting) -> Path:
    """Faster R-CNN ResNet-50 FPN as TorchScript; SSDlite for a dry run."""

    def make() -> Any:
        names = torchvision.models.detection
        if setting.is_small:
            return names.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
        return names.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)

    path = setting.folder / "detector.pt"
    if not path.exists():
        _script(_Detector(torch.jit.script(_seeded(make))), path)
    return path


def detector_specs(setting: Setting) -> dict[str, str]:
    """What TorchScript does not say of its input."""
    return {"image": "uint8:" + ",".join(map(str, frame_shape(setting)))}


def classifier(setting: Setting, batch: int, *, is_script: bool = False) -> dict[str, Any]:
    """ResNet-50 for a load process, as .pt2 or as TorchScript."""
    side = 64 if setting.is_small else 224
    shape = (batch, 3, side, side)
    path = setting.folder / f"classifier{batch}.{'pt' if is_script else 'pt2'}"
    if not path.exists():
        small, large = torchvision.models.resnet18, torchvision.models.resnet50
        module = _Images(_seeded(lambda: (small if setting.is_small else large)(weights=None)))
        example = torch.zeros(shape, dtype=torch.uint8)
        (_script if is_script else _export)(module.eval(), path, example)
    specs = {"x": "uint8:" + ",".join(map(str, shape))} if is_script else None
    return {"model": str(path), "inputs": {}, "outputs": {}, "dtype": "uint8", "shape": shape, "specs": specs}


def hungry(setting: Setting) -> Path:
    """The model that takes memory."""
    path = setting.folder / "hungry.pt"
    if not path.exists():
        _script(_Hungry(), path)
    return path


def _seeded(make: Any) -> Any:
    torch.manual_seed(0)
    return make().eval()


def _script(module: Any, path: Path, _example: Any = None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(str(path))


def _export(module: Any, path: Path, example: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (example,)), path)
