"""Photos, clips and arrays as a model's inputs, and what is wrong with those that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec
from elastic_inference.video.photos import SampleSource, Scale, clip_pictures, letterboxed
from tests.video.clips import make_clip

ANY_PICTURE = TensorSpec("image_tensor:0", "uint8", (None, None, None, 3))
RED = np.full((20, 40, 3), (255, 0, 0), np.uint8)


def model(**inputs: TensorSpec) -> Signature:
    return Signature(inputs, {}, frozenset(inputs))


def write_photo(path: Path, pixels: Any = RED) -> Path:
    assert cv2.imwrite(str(path), pixels[:, :, ::-1])
    return path


def read(folder: Path, signature: Signature, scale: Scale | None = None, **shapes: tuple[int, ...]) -> Any:
    told: list[str] = []
    source = SampleSource(folder, shapes, scale, told.append)
    source.check()
    return source.read(signature), told


def only(folder: Path, signature: Signature, scale: Scale | None = None, **shapes: tuple[int, ...]) -> Any:
    samples, _ = read(folder, signature, scale, **shapes)
    (sample,) = samples.held_out
    (array,) = sample.arrays.values()
    return array


def test_photos_stay_as_they_are_where_any_size_will_do(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    array = only(tmp_path, model(inputs=ANY_PICTURE))
    assert (array.dtype, array.shape) == (np.uint8, (1, 20, 40, 3))
    np.testing.assert_array_equal(array[0], RED)


def test_two_of_three_calibrate_and_none_of_them_is_held_out(tmp_path: Path) -> None:
    for index in range(7):
        write_photo(tmp_path / f"{index}.png")
    samples, _ = read(tmp_path, model(inputs=ANY_PICTURE))
    assert [s.name for s in samples.held_out] == ["0.png", "3.png", "6.png"]
    assert [s.name for s in samples.calibration] == ["1.png", "2.png", "4.png", "5.png"]


def test_photos_are_fitted_whole_into_a_size_that_the_model_has(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    array = only(tmp_path, model(x=TensorSpec("x", "uint8", (None, 10, 10, 3))))
    assert array.shape == (1, 10, 10, 3)
    assert not array[0, :2].any()  # black above and below
    assert not array[0, 8:].any()
    np.testing.assert_array_equal(array[0, 3:7], np.full((4, 10, 3), (255, 0, 0)))
    named = only(tmp_path, model(inputs=ANY_PICTURE), inputs=(1, 30, 60, 3))
    assert named.shape == (1, 30, 60, 3)


@pytest.mark.parametrize(
    ("scale", "red"),
    [
        (Scale.BYTES, (255, 0, 0)),
        (Scale.UNIT, (1, 0, 0)),
        (Scale.SIGNED, (1, -1, -1)),
        (Scale.IMAGENET, (2.2489, -2.0357, -1.8044)),
    ],
)
def test_pixels_as_a_model_of_floats_takes_them(tmp_path: Path, scale: Scale, red: tuple[float, ...]) -> None:
    write_photo(tmp_path / "a.png")
    array = only(tmp_path, model(x=TensorSpec("x", "float32", (1, 3, 20, 40))), scale)  # channels first
    assert (array.dtype, array.shape) == (np.float32, (1, 3, 20, 40))
    np.testing.assert_allclose(array[0, :, 0, 0], red, atol=1e-3)


def test_what_is_assumed_of_floats_is_said(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    samples, told = read(tmp_path, model(x=TensorSpec("x", "float32", (1, 20, 40, 3))))
    assert samples.held_out[0].arrays["x"].max() == 1
    assert told == [
        "input 'x' takes float32: pixels from 0 to 1 are assumed; --pixels says otherwise, and .npy files hold "
        "whatever the model takes"
    ]


def test_arrays_with_and_without_their_axis_of_the_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 3), np.float32))
    np.save(tmp_path / "b.npy", np.ones((1, 4, 3), np.float32))
    samples, _ = read(tmp_path, model(x=TensorSpec("x", "float32", (None, 4, 3))))
    assert {s.arrays["x"].shape for s in (*samples.held_out, *samples.calibration)} == {(1, 4, 3)}


def test_arrays_of_several_inputs(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", ids=np.zeros((1, 7), np.int64), mask=np.ones((1, 7), np.int64), more=np.ones(1)
    )
    spec = TensorSpec("t", "int64", (None, 7))
    samples, _ = read(tmp_path, model(ids=spec, mask=spec))
    assert set(samples.held_out[0].arrays) == {"ids", "mask"}


def test_pictures_of_a_clip_are_spread_over_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", num_frames=10)
    assert [index for index, _ in clip_pictures(clip, 4)] == [0, 3, 6, 9]
    assert [index for index, _ in clip_pictures(clip, 2, num_frames=5)] == [0, 4]
    samples, _ = read(clip, model(inputs=ANY_PICTURE))
    assert len(samples.held_out) + len(samples.calibration) == 10
    assert samples.held_out[0].name == "picture 0 of clip.mp4"
    first, later = samples.held_out[0].arrays["inputs"], samples.held_out[-1].arrays["inputs"]
    assert not np.array_equal(first, later)  # each has pixels of its own


def test_letterbox_keeps_the_proportions() -> None:
    tall = letterboxed(np.full((100, 10, 3), 255, np.uint8), 50, 50)
    assert tall.shape == (50, 50, 3)
    assert (tall.any(axis=2).sum(axis=1) == 5).all()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, r"calibration folder .* has no photos \(\.jpg.*\) and no arrays"),
        ({"notes.txt": b"hello"}, "has no photos"),
        ({"a.jpg": b""}, r"photo .*a\.jpg cannot be decoded: it is damaged, or not a photo"),
        ({"a.jpg": b"\xff\xd8 no jpeg"}, "cannot be decoded"),
        ({"a.npy": b"\x93NUMPY"}, r"a\.npy cannot be read as an array of numpy"),
        ({"a.npz": b"PK"}, r"a\.npz cannot be read as an array of numpy"),
    ],
)
def test_files_that_are_no_samples(tmp_path: Path, content: dict[str, bytes], text: str) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match=text):
        read(tmp_path, model(inputs=ANY_PICTURE))


def test_nothing_there_and_no_clip(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file or folder"):
        SampleSource(tmp_path / "none", {}).check()
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(InvalidInput, match="not a video"):
        SampleSource(tmp_path / "text.txt", {}).check()


def test_arrays_of_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="cannot be read as an array of numpy"):
        read(tmp_path, model(x=TensorSpec("x", "float32", (1,))))


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((1, 4), np.float64), r"a\.npy is float64, and input 'x' takes float32"),
        (np.zeros((1, 5), np.float32), r"a\.npy has shape \[1, 5\], and input 'x' takes \[\?, 4\]"),
        (np.zeros((1, 2, 4), np.float32), r"has shape \[1, 2, 4\]"),
    ],
)
def test_wrong_shape_or_dtype(tmp_path: Path, array: Any, text: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InvalidInput, match=text):
        read(tmp_path, model(x=TensorSpec("x", "float32", (None, 4))))


def test_photos_for_a_model_that_takes_none(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match=r"input 'x' is int64\[1, 7\], which no photo is"):
        read(tmp_path, model(x=TensorSpec("x", "int64", (1, 7))))
    with pytest.raises(InvalidInput, match=r"a model with 2 inputs \(x, y\); give \.npz files"):
        read(tmp_path, model(x=ANY_PICTURE, y=ANY_PICTURE))


def test_file_that_lacks_an_input(tmp_path: Path) -> None:
    spec = TensorSpec("t", "float32", (None, 2))
    np.save(tmp_path / "a.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(InvalidInput, match="holds one array, and the model has 2 inputs: x, y"):
        read(tmp_path, model(x=spec, y=spec))
    (tmp_path / "a.npy").unlink()
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 2), np.float32))
    with pytest.raises(InvalidInput, match="has no array y; it has x"):
        read(tmp_path, model(x=spec, y=spec))


def test_scale_that_does_not_exist() -> None:
    with pytest.raises(InvalidInput, match="pixels 'yuv' is not one of unit, signed, imagenet, bytes"):
        Scale.parse("yuv")
