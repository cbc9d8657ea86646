"""Photos, pictures of a clip or arrays of a folder as inputs of a model: what it is calibrated on and judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from elastic_inference.engines.choosing import Sample, Samples
from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec
from elastic_inference.video.source import VideoSource

Pixels = npt.NDArray[np.uint8]

MOST_SAMPLES = 36  # two of three calibrate, one is held out
MOST_BYTES = 512 << 20  # of all samples as the model takes them
CLIP_PICTURES = 600  # the first so many are looked at
_PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_ARRAYS = (".npy", ".npz")
_PICTURE_RANK = 4
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Scale(Enum):
    """What a model of floats takes for the pixels of a photo."""

    UNIT = "unit"  # 0 to 1
    SIGNED = "signed"  # -1 to 1
    IMAGENET = "imagenet"  # less ImageNet's mean, by its deviation
    BYTES = "bytes"  # 0 to 255

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Return the scale of this name; raises InvalidInput with all names."""
        try:
            return cls(text)
        except ValueError:
            names = ", ".join(scale.value for scale in cls)
            raise InvalidInput(f"pixels {text!r:.40} is not one of {names}") from None

    def of(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Return float32 of the same shape, channels last."""
        values = pixels.astype(np.float32)
        if self is Scale.BYTES:
            return values
        values /= np.float32(255)
        if self is Scale.UNIT:
            return values
        if self is Scale.SIGNED:
            return np.asarray(values * 2 - 1, np.float32)
        return np.asarray((values - _IMAGENET_MEAN) / _IMAGENET_DEVIATION, np.float32)


@dataclass(frozen=True)
class SampleSource:
    """Where samples come from.

    Attributes:
        path: A folder of photos or of `.npy` and `.npz` files, or a clip.
        shapes: Shapes of inputs by alias, where the model leaves them open.
        scale: For inputs of floats; None: 0 to 1, and `tell` says so.
        tell: Called with what is assumed.
        num_frames: Of a clip, only the first so many pictures; None: as many as CLIP_PICTURES.
        most: How many samples are read at most, spread over all there are.
    """

    path: Path
    shapes: Mapping[str, Sequence[int]]
    scale: Scale | None = None
    tell: Callable[[str], None] = lambda _: None
    num_frames: int | None = None
    most: int = MOST_SAMPLES

    def check(self) -> None:
        """Look whether there is anything to read, before a model is loaded.

        Raises:
            InvalidInput: There is no such file or folder, or nothing in it that could be a sample.
        """
        if not self.path.exists():
            raise InvalidInput(f"calibration {self.path}: no such file or folder")
        if self.path.is_dir():
            self._files()
        else:
            VideoSource(self.path).close()

    def read(self, signature: Signature) -> Samples:
        """Read all samples as the model takes them; two of three are to calibrate on, the others are held out.

        Raises:
            InvalidInput: A file cannot be read, or its shape or dtype is not the model's.
        """
        return Samples.of(list(self._read(signature)))

    def _files(self) -> list[Path]:
        found = sorted(path for path in self.path.iterdir() if path.suffix.lower() in (*_PHOTOS, *_ARRAYS))
        if not found:
            raise InvalidInput(
                f"calibration folder {self.path} has no photos ({', '.join(_PHOTOS)}) "
                f"and no arrays ({', '.join(_ARRAYS)})"
            )
        return _spread(found, self.most)

    def _read(self, signature: Signature) -> Iterator[Sample]:
        size_bytes = 0
        for sample in self._all(signature):
            size_bytes += sum(array.nbytes for array in sample.arrays.values())
            if size_bytes > MOST_BYTES:
                self.tell(
                    f"samples from {sample.name} on are left out: all together are above {MOST_BYTES >> 20} MiB"
                )
                return
            yield sample

    def _all(self, signature: Signature) -> Iterator[Sample]:
        fitting = _Fitting(signature, self.shapes, self.scale, self.tell)
        if not self.path.is_dir():
            for index, pixels in clip_pictures(self.path, self.most, self.num_frames):
                yield Sample(
                    f"picture {index} of {self.path.name}", fitting.photo(pixels, f"a picture of {self.path}")
                )
            return
        for path in self._files():
            if path.suffix.lower() in _ARRAYS:
                yield Sample(path.name, fitting.arrays(path))
            else:
                yield Sample(path.name, fitting.photo(_photo(path), str(path)))


class _Fitting:
    """Makes inputs of a model out of photos and arrays."""

    def __init__(
        self,
        signature: Signature,
        shapes: Mapping[str, Sequence[int]],
        scale: Scale | None,
        tell: Callable[[str], None],
    ) -> None:
        self._inputs = {alias: signature.inputs[alias] for alias in sorted(signature.required_inputs)}
        self._shapes = shapes
        self._scale = scale
        self._tell = tell

    def photo(self, pixels: Pixels, what: str) -> dict[str, npt.NDArray[Any]]:
        """Return the one input of a model made of RGB pixels, uint8[H, W, 3]."""
        if len(self._inputs) != 1:
            raise InvalidInput(
                f"{what} cannot be the input of a model with {len(self._inputs)} inputs "
                f"({', '.join(self._inputs)}); give .npz files with an array for each"
            )
        ((alias, spec),) = self._inputs.items()
        is_last, (height, width) = self._layout(alias, spec, pixels)
        fitted = letterboxed(pixels, height, width)
        array = fitted if spec.base_dtype == "uint8" else self._floats(fitted, alias, spec)
        array = array[None] if is_last else np.ascontiguousarray(array.transpose(2, 0, 1)[None])
        return {alias: _checked(array, alias, spec, what)}

    def _layout(self, alias: str, spec: TensorSpec, pixels: Pixels) -> tuple[bool, tuple[int, int]]:
        """Whether channels come last, and the height and width to fit a photo into."""
        given = self._shapes.get(alias)
        shape: Sequence[int | None] | None = given if given is not None else spec.shape
        if shape is None:
            shape = (None, None, None, 3)
        is_last = len(shape) == _PICTURE_RANK and shape[3] in (3, None)
        is_first = len(shape) == _PICTURE_RANK and shape[1] == 3 and not (is_last and shape[3] == 3)
        if not (is_last or is_first) or spec.base_dtype not in ("uint8", "float32", "float16", "float64"):
            raise InvalidInput(
                f"input {alias!r} is {spec.dtype}{_shape_text(shape)}, which no photo is; give .npy or .npz files"
            )
        height, width = shape[2:4] if is_first else shape[1:3]
        return not is_first, (height or pixels.shape[0], width or pixels.shape[1])

    def _floats(self, pixels: Pixels, alias: str, spec: TensorSpec) -> npt.NDArray[Any]:
        if self._scale is None:
            self._scale = Scale.UNIT
            self._tell(
                f"input {alias!r} takes {spec.dtype}: pixels from 0 to 1 are assumed; --pixels says otherwise, "
                "and .npy files hold whatever the model takes"
            )
        return self._scale.of(pixels).astype(spec.numpy_dtype)

    def arrays(self, path: Path) -> dict[str, npt.NDArray[Any]]:
        """Return a model's inputs read from a file; what a single array lacks is the axis of the batch."""
        try:
            loaded: Any = np.load(path, allow_pickle=False)
            given: dict[str, Any] = {}
            if not isinstance(loaded, np.ndarray):
                given = {name: loaded[name] for name in loaded.files}
        except (OSError, ValueError, EOFError) as error:
            raise InvalidInput(f"{path} cannot be read as an array of numpy: {error}") from error
        if isinstance(loaded, np.ndarray):
            if len(self._inputs) != 1:
                raise InvalidInput(
                    f"{path} holds one array, and the model has {len(self._inputs)} inputs: {', '.join(self._inputs)}"
                )
            given = dict.fromkeys(self._inputs, loaded)
        missing = self._inputs.keys() - given.keys()
        if missing:
            raise InvalidInput(
                f"{path} has no array {', '.join(sorted(missing))}; it has {', '.join(sorted(given))}"
            )
        return {alias: _checked(given[alias], alias, spec, str(path)) for alias, spec in self._inputs.items()}


def _checked(array: npt.NDArray[Any], alias: str, spec: TensorSpec, what: str) -> npt.NDArray[Any]:
    if array.dtype != spec.numpy_dtype:
        raise InvalidInput(f"{what} is {array.dtype}, and input {alias!r} takes {spec.dtype}")
    if spec.shape is not None and array.ndim == len(spec.shape) - 1:
        array = array[None]
    if not spec.is_compatible(array.shape):
        raise InvalidInput(
            f"{what} has shape {list(array.shape)}, and input {alias!r} takes {_shape_text(spec.shape or ())}"
        )
    return np.ascontiguousarray(array)


def letterboxed(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return uint8[height, width, 3]: the whole picture as large as it fits, centred, black around it."""
    if pixels.shape[:2] == (height, width):
        return pixels
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    smaller = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    boxed = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    boxed[top : top + size[1], left : left + size[0]] = smaller
    return boxed


def clip_pictures(path: Path, most: int, num_frames: int | None = None) -> list[tuple[int, Pixels]]:
    """Return pictures of a clip with their places, evenly spread over its beginning.

    Args:
        num_frames: Look at no more than so many from its start.
    """
    with VideoSource(path, num_frames) as source:
        looked_at = min(num_frames or CLIP_PICTURES, source.info.num_frames or CLIP_PICTURES, CLIP_PICTURES)
        wanted = set(_spread(range(looked_at), most))
        shape = (source.info.height, source.info.width, 3)
        pictures: list[tuple[int, Pixels]] = []
        pixels = np.empty(shape, np.uint8)
        for index in range(looked_at):
            if source.read_into(pixels) is None:
                break
            if index in wanted:
                pictures.append((index, pixels))
                pixels = np.empty(shape, np.uint8)
    return pictures


def _photo(path: Path) -> Pixels:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InvalidInput(f"photo {path} cannot be read: {error.strerror}") from error
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if decoded is None:
        raise InvalidInput(f"photo {path} cannot be decoded: it is damaged, or not a photo")
    return np.ascontiguousarray(decoded[:, :, ::-1])


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _shape_text(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
