"""EIKerasModel against Keras itself: the same data, nesting, batches and values."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ei_for_tf.python.keras.ei_keras import EIKerasModel
from elastic_inference.errors import InvalidInput

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

RNG = np.random.default_rng(3)
X = RNG.random((70, 6), dtype=np.float32)
A, B = RNG.random((70, 6), dtype=np.float32), RNG.random((70, 4), dtype=np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Live Keras models and their files: one to one, two to two in lists, two to two in dicts, an .h5 file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        keras.utils.set_random_seed(5)
        plain = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(3, "softmax")]
        )
        a, b = keras.Input((6,), name="zebra"), keras.Input((4,), name="ant")
        joined = keras.layers.concatenate([keras.layers.Dense(5)(a), b])
        first, second = keras.layers.Dense(2, name="zoo")(joined), keras.layers.Dense(3, name="arc")(joined)
        listed = keras.Model([a, b], [first, second])
        named = keras.Model({"left": a, "right": b}, {"one": first, "two": second})
        folder = tmp_path_factory.mktemp("keras")
        made = {}
        for name, model in (("plain", plain), ("listed", listed), ("named", named)):
            model.save(folder / f"{name}.keras")
            made[name] = (model, folder / f"{name}.keras")
        listed.save(folder / "old.h5")
        made["old"] = (listed, folder / "old.h5")
    return made


@pytest.fixture(scope="module")
def keeper(models: dict[str, tuple[Any, Path]]) -> Iterator[EIKerasModel]:
    with EIKerasModel(models["plain"][1]) as model:
        yield model


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = [ours[key] for key in theirs], list(theirs.values())
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
        return
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def batches(size: int = 30) -> Iterator[np.ndarray]:
    for start in range(0, len(X), size):
        yield X[start : start + size]


@pytest.mark.parametrize("batch_size", [None, 1, 32, 70, 1000])
def test_arrays_are_cut_into_batches_with_a_smaller_last_one(
    models: dict[str, Any], keeper: EIKerasModel, batch_size: int | None
) -> None:
    assert_same(
        keeper.predict(X, batch_size=batch_size),
        models["plain"][0].predict(X, batch_size=batch_size, verbose=0),
    )


def test_steps_end_arrays_and_endless_generators(models: dict[str, Any], keeper: EIKerasModel) -> None:
    def endless() -> Iterator[tuple[np.ndarray]]:
        while True:
            yield (X[:10],)

    model = models["plain"][0]
    assert_same(keeper.predict(X, batch_size=8, steps=3), model.predict(X, batch_size=8, steps=3, verbose=0))
    assert_same(keeper.predict(endless(), steps=4), model.predict(endless(), steps=4, verbose=0))


def test_generators_with_and_without_targets(models: dict[str, Any], keeper: EIKerasModel) -> None:
    wanted = models["plain"][0].predict(X, verbose=0)
    assert_same(keeper.predict(batches()), wanted)
    assert_same(keeper.predict((x, np.zeros(len(x))) for x in batches()), wanted)
    assert_same(keeper.predict((x, np.zeros(len(x)), np.ones(len(x))) for x in batches()), wanted)
    with pytest.raises(InvalidInput, match="batch_size must be None"):
        keeper.predict(batches(), batch_size=4)


def test_keras_sequences_and_tensorflow_datasets(models: dict[str, Any], keeper: EIKerasModel) -> None:
    import tensorflow as tf

    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 7

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return X[index * 10 : index * 10 + 10], np.zeros(10)

    wanted = models["plain"][0].predict(X, verbose=0)
    assert_same(keeper.predict(Batches()), wanted)
    assert_same(keeper.predict(tf.data.Dataset.from_tensor_slices(X).batch(16)), wanted)
    assert_same(keeper.predict(tf.constant(X)), wanted)


@pytest.mark.usefixtures("keeper")
@pytest.mark.parametrize("name", ["listed", "old"])
def test_several_inputs_and_outputs_in_lists(models: dict[str, Any], name: str) -> None:
    model, path = models[name]
    with EIKerasModel(path) as ours:
        wanted = model.predict([A, B], verbose=0)
        assert_same(ours.predict([A, B]), wanted)
        assert_same(ours.predict({"ant": B, "zebra": A}), model.predict({"ant": B, "zebra": A}, verbose=0))
        assert_same(ours.predict_on_batch([A[:2], B[:2]]), model.predict_on_batch([A[:2], B[:2]]))
        with pytest.raises(ValueError, match="2 inputs"):
            ours.predict([A])
        with pytest.raises(ValueError, match="different numbers of samples"):
            ours.predict([A, B[:3]])


@pytest.mark.usefixtures("keeper")
def test_several_inputs_and_outputs_in_dicts(models: dict[str, Any]) -> None:
    model, path = models["named"]
    with EIKerasModel(path) as ours:
        x = {"right": B, "left": A}
        assert_same(ours.predict(x, batch_size=9), model.predict(x, batch_size=9, verbose=0))


@pytest.mark.usefixtures("keeper")
def test_a_live_model_is_saved_for_the_time_of_its_use(models: dict[str, Any]) -> None:
    with EIKerasModel(models["listed"][0]) as ours:
        folder = Path(ours._folder.name)  # type: ignore[union-attr]
        assert folder.exists()
        assert_same(ours.predict([A, B]), models["listed"][0].predict([A, B], verbose=0))
    assert not folder.exists()


def test_no_data_is_an_error(keeper: EIKerasModel) -> None:
    with pytest.raises(ValueError, match="no data"):
        keeper.predict(X[:0])


def test_the_client_of_a_file_imports_neither_tensorflow_nor_keras(models: dict[str, Any]) -> None:
    code = (
        "import sys, numpy; from elastic_inference.keras import EIKerasModel\n"
        "with EIKerasModel(sys.argv[1]) as m: print(m.predict(numpy.ones((2, 6))).shape)\n"
        "assert not {'tensorflow', 'keras', 'h5py', 'openvino'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(models["plain"][1])],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == "(2, 3)", done.stderr
