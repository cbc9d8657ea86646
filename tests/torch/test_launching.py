"""Programs that were made quicker to launch compute what they computed before, bit for bit."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from elastic_inference.engines.torch.launching import hasten
from tests.torch.models import Counter, Encoder, Nested, Recurrent, nn, seeded, torch


class Layers(nn.Module):
    """One of each operation that has a quicker function."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(4, 4, 3, padding=1)
        self.plane = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.space = nn.Conv3d(1, 2, 3)
        self.normal = nn.BatchNorm2d(4)
        self.groups = nn.GroupNorm(2, 4)
        self.layer = nn.LayerNorm(8)
        self.embed = nn.Embedding(10, 8, padding_idx=0)
        self.last = nn.Linear(8, 3)

    def forward(self, image: Any, ids: Any) -> Any:
        f = nn.functional
        x = f.relu_(self.groups(torch.relu(self.normal(self.plane(image)))))
        x = f.max_pool2d(f.avg_pool2d(f.hardswish(x, inplace=True), 2), 2, padding=1)
        x = f.adaptive_avg_pool2d(x, (2, 4))
        x = self.line(x.flatten(2))
        y = self.space(image[:, None])
        z = self.layer(self.embed(ids))
        z = f.gelu(f.scaled_dot_product_attention(z, z, z, is_causal=True), approximate="tanh")
        return x, y, self.last(torch.matmul(z, z.transpose(1, 2)) @ z)


class Alike(nn.Module):
    """Two weights whose paths differ in a dot alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.register_buffer("a_weight", torch.rand(2))

    def forward(self, x: Any) -> Any:
        return self.a(x) + self.a_weight


STATE = (torch.rand(2, 2, 16), torch.rand(2, 2, 16))
CASES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "layers": (Layers, (torch.rand(2, 3, 24, 24), torch.randint(0, 10, (2, 5))), {}),
    "alike": (Alike, (torch.rand(3, 2),), {}),
    "encoder": (Encoder, (torch.randint(0, 100, (2, 7)), torch.zeros(2, 7, dtype=torch.bool)), {}),
    "recurrent": (Recurrent, (torch.rand(2, 5, 8), STATE), {}),
    "nested": (Nested, ({"x": torch.rand(2, 4), "ids": torch.arange(2)},), {"scale": (torch.tensor(1.5),)}),
}


@pytest.mark.parametrize("name", CASES)
def test_answers_are_the_same_bits(name: str) -> None:
    make, args, kwargs = CASES[name]
    with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(seeded(make), args, kwargs)
        plain, hastened = exported.module(), exported.module()
    hasten(torch, hastened)
    with torch.inference_mode():
        torch.testing.assert_close(hastened(*args, **kwargs), plain(*args, **kwargs), rtol=0, atol=0)
    assert "self._weight_" in hastened.code or not list(plain.parameters())
    assert "getattr(self." not in hastened.code
    if name == "layers":
        for operation in ("conv1d", "conv2d", "conv3d", "batch_norm", "linear", "relu_", "embedding"):
            assert f"aten.{operation}." in plain.code
            assert f"aten.{operation}." not in hastened.code


def test_a_buffer_that_changes_is_the_same_buffer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.export(Counter().eval(), (torch.zeros(2),)).module()
    hasten(torch, module)
    for number in (1, 2):
        torch.testing.assert_close(module(torch.zeros(2)), torch.full((2,), float(number)))
    assert [float(buffer) for buffer in module.buffers()] == [2.0]
