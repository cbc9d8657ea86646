"""Modules with seeded random weights, and their files; whatever imports this needs PyTorch: `make test-torch`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: make test-torch")
nn = torch.nn


class Encoder(nn.Module):
    """Ids and a padding mask to sentence vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Any, padding: Any) -> Any:
        return self.encoder(self.embed(ids), src_key_padding_mask=padding).mean(1)


class Recurrent(nn.Module):
    """An LSTM that takes a state and gives the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, num_layers=2, batch_first=True)

    def forward(self, x: Any, state: Any) -> Any:
        return self.lstm(x, state)


class Nested(nn.Module):
    """Dictionaries, lists and tuples in and out, a constant and a None among them, and several dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, batch: Any, *, scale: Any) -> Any:
        y = self.linear(batch["x"]) * scale[0]
        half = y.to(torch.float16)
        return {"boxes": [y, half], "rest": (batch["ids"] + 1, y > 0, None, y.to(torch.bfloat16)), "seven": 7}


class Counter(nn.Module):
    """Changes a buffer in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.count.add_(1)
        return x + self.count


def seeded(make: Any) -> Any:
    """The module with weights of seed 0, in eval mode."""
    torch.manual_seed(0)
    return make().eval()


def export(module: Any, path: Path, args: tuple[Any, ...], kwargs: Any = None, dynamic: Any = None) -> Path:
    """Write a .pt2 file."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, args, kwargs, dynamic_shapes=dynamic), path)
    return path


def script(module: Any, path: Path) -> Path:
    """Write an archive of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), path)
    return path


def trace(module: Any, path: Path, args: tuple[Any, ...]) -> Path:
    """Write what one call runs as an archive of TorchScript."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, args), path)
    return path
