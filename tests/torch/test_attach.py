"""`attach`: a module in, a callable of its own signature out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from elastic_inference.errors import InvalidArgumentError, InvalidInput, PredictorClosed, UnsupportedModel
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from tests.torch.models import Nested, seeded, torch

BATCH = torch.export.Dim("batch", min=1, max=64)


class Values(NamedTuple):
    total: Any
    parts: dict[str, Any]


class Described(torch.nn.Module):
    """A text among the results, and other constants."""

    def forward(self, x: Any) -> Any:
        return {"scores": x * 2, "unit": "metres", "scale": (2, 0.5, True, None)}


class Many(torch.nn.Module):
    """Arguments by position and by name, with defaults; a class of this module out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: Any, mask: Any = None, *, scale: float = 2.0, extra: Any = None) -> Any:
        y = self.linear(x) * scale
        if mask is not None:
            y = y.masked_fill(mask, 0)
        if extra is not None:
            y = y + extra["bias"][0]
        return Values(y.sum(-1), {"y": y, "low": y.to(torch.bfloat16), "none": None, "rows": x.shape[0]})


def attached(module: Any, *args: Any, **options: Any) -> Any:
    from elastic_inference.torch import attach

    return attach(module, *args, num_threads=1, **options)


def equal(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_any_batch_and_nesting_comes_back_as_the_module_gives_it() -> None:
    module = seeded(Many)
    bias = {"bias": [torch.rand(3)]}
    shapes = {"x": {0: BATCH}, "mask": {0: BATCH}, "scale": None, "extra": {"bias": [None]}}
    example = (torch.rand(2, 4), torch.zeros(2, 3, dtype=torch.bool))
    with attached(module, example, {"scale": 3.0, "extra": bias}, dynamic_shapes=shapes) as remote:
        assert remote.report.engine == "torch"
        for batch in (1, 5):
            x, mask = torch.rand(batch, 4), torch.rand(batch, 3) > 0.5
            found = remote(x, mask=mask, scale=3.0, extra=bias)
            with torch.no_grad():
                equal(found, module(x, mask=mask, scale=3.0, extra=bias))
            assert type(found) is Values
            assert found.parts["rows"] == batch


def test_texts_and_other_constants_among_the_results_come_back() -> None:
    """torch 2.14 writes a text into a program and then cannot read it."""
    x = torch.rand(2, 4)
    for use_ei in (True, False):
        with attached(Described().eval(), (x,), use_ei=use_ei) as remote:
            found = remote(x)
        equal(found.pop("scores"), x * 2)
        assert found == {"unit": "metres", "scale": (2, 0.5, True, None)}


def test_the_store_lists_a_module_by_its_class(tmp_path: Path) -> None:
    with attached(Described().eval(), (torch.rand(2, 4),), cache_dir=str(tmp_path / "store")):
        pass
    stored = [each for each in ArtifactStore.at(tmp_path / "store").artifacts() if each.kind is Kind.MODEL]
    assert [each.about["name"] for each in stored] == ["Described.pt2"]


def test_arguments_that_do_not_fit_the_export() -> None:
    module = seeded(Many)
    shapes = {"x": {0: BATCH}, "mask": {0: BATCH}}
    with attached(
        module, (torch.rand(2, 4), torch.zeros(2, 3, dtype=torch.bool)), dynamic_shapes=shapes
    ) as remote:
        x, mask = torch.rand(2, 4), torch.zeros(2, 3, dtype=torch.bool)
        remote(x, mask)
        for args, kwargs, text in (
            ((x, mask), {"scale": 4.0}, r"exported with its default 2\.0"),
            ((x,), {}, "None that was a tensor"),
            ((x[:, :2], mask), {}, r"shape \(2, 2\)"),
            ((), {}, "missing a required argument"),
            (({"x": x}, mask), {}, r"argument 'x' is \{'x': \*\}, and was exported as \*"),
            ((x.tolist(), mask), {}, r"argument 'x' is \[\[\*, .*, and was exported as \*"),
            (
                (x.to("meta"), mask),
                {},
                r"argument 'x' cannot be sent as a tensor of torch.float32, .*meta",
            ),
            ((x.to_sparse(), mask), {}, r"argument 'x' cannot be sent as .*sparse"),
        ):
            with pytest.raises(InvalidInput, match=text):
                remote(*args, **kwargs)
        with pytest.raises(InvalidArgumentError, match="Guard failed"):
            remote(x, mask[:1])
    with pytest.raises(PredictorClosed):
        remote(x, mask)


def test_in_this_process_too() -> None:
    module = seeded(Nested)
    batch = {"x": torch.rand(2, 4), "ids": torch.arange(2)}
    scale = (torch.tensor(1.5),)
    with attached(module, (batch,), {"scale": scale}, use_ei=False) as local, torch.no_grad():
        equal(local(batch, scale=scale), module(batch, scale=scale))


class _Branches(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x if bool(x.sum() > 0) else -x


def test_the_example_of_the_document_runs() -> None:
    pytest.importorskip("torchvision")
    text = (Path(__file__).resolve().parents[2] / "docs/pytorch.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    values: dict[str, Any] = {}
    exec(code, values)
    assert values["scores"].shape == (8, 1000)


def test_what_cannot_be_exported_says_why() -> None:
    with pytest.raises(UnsupportedModel, match=r"torch\.export cannot export this module: .*data-dependent"):
        attached(_Branches().eval(), (torch.ones(2),))
    with pytest.raises(InvalidInput, match=r"a tuple of the arguments, such as \(x,\), not Tensor"):
        attached(_Branches().eval(), torch.ones(2))


def test_what_is_no_module_or_has_an_example_of_one_says_so() -> None:
    for wrong in (torch.nn.ReLU, lambda x: x):
        with pytest.raises(
            InvalidInput, match=r"must be a torch\.nn\.Module, such as Net\(\)\.eval\(\), not"
        ):
            attached(wrong, (torch.ones(2),))
    with pytest.raises(UnsupportedModel, match="give 2 or more"):
        attached(seeded(lambda: torch.nn.Linear(4, 3)), (torch.rand(1, 4),), dynamic_shapes=({0: BATCH},))


def test_a_module_in_training_mode_is_named() -> None:
    module = torch.nn.Dropout(0.5)
    with pytest.warns(UserWarning, match=r"training mode.*module\.eval\(\)"):
        remote = attached(module, (torch.ones(2),))
    remote.close()


def test_it_stands_in_the_place_of_a_module_within_another() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    x = torch.rand(3, 4)
    with torch.no_grad():
        wanted = network(x)
    backbone = network[0]
    with attached(backbone, (x,)) as remote:
        network[0] = remote
        with torch.no_grad():
            equal(network(x), wanted)
        assert len(list(network.parameters())) == 2  # of the other Linear
        assert remote.report.summary() in repr(network)
        assert not remote.training


def test_a_gradient_that_would_be_lost_is_named() -> None:
    with attached(seeded(lambda: torch.nn.Linear(4, 3)), (torch.rand(2, 4),)) as remote:
        x = torch.rand(2, 4, requires_grad=True)
        with pytest.warns(UserWarning, match="requires a gradient, and none passes through"):
            assert not remote(x).requires_grad
        with torch.no_grad():
            remote(x)


class _NoInputs(torch.nn.Module):
    def forward(self) -> Any:
        return torch.arange(3)


def test_a_module_without_inputs() -> None:
    with attached(seeded(_NoInputs), ()) as remote:
        for _ in range(2):
            equal(remote(), torch.arange(3))


def test_memory_of_any_layout_and_any_number_type() -> None:
    module = seeded(lambda: torch.nn.Linear(4, 3))
    shapes = ({0: torch.export.Dim("batch", min=0)},)
    with attached(module, (torch.rand(2, 4),), dynamic_shapes=shapes) as remote, torch.no_grad():
        for x in (
            torch.rand(4, 3).t(), torch.rand(1, 4).expand(5, 4), torch.rand(3, 8)[:, ::2], torch.rand(0, 4),
        ):  # fmt: skip
            equal(remote(x), module(x))
        equal(remote(torch.ones(2, 4, dtype=torch.float64)), module(torch.ones(2, 4)))
