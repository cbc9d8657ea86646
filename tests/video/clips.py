"""Small videos made for a test, whose pictures tell which one they are."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

_ENCODER_OPTIONS = {"libx264": {"preset": "ultrafast"}}

Pixels = npt.NDArray[np.uint8]

# Rows of a display matrix in a tkhd box, 16.16 and 2.30 fixed point, for a turn in degrees clockwise.
_MATRICES = {90: (0, 1, 0, -1, 0, 0), 180: (-1, 0, 0, 0, -1, 0), 270: (0, -1, 0, 1, 0, 0)}


def numbered_picture(index: int, width: int, height: int) -> Pixels:
    """A red left half, a blue right half, and rows of 8 blocks across the top that give the index in binary."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    block = width // 16
    for bit in range(16):
        pixels[: height // 4, bit * block : (bit + 1) * block] = 255 if index >> bit & 1 else 0
    return pixels


def number_of(pixels: Pixels) -> int:
    """The index that `numbered_picture` put in."""
    height, width, _ = pixels.shape
    block = width // 16
    middle = pixels[height // 8, block // 2 : 16 * block : block].mean(axis=1)
    return sum(int(value > 127) << bit for bit, value in enumerate(middle))


def make_clip(
    path: Path,
    num_frames: int = 10,
    width: int = 320,
    height: int = 240,
    *,
    rate: Fraction = Fraction(25),
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    audio: bool = False,
    turn: int = 0,
) -> Path:
    """Write a clip of numbered pictures.

    Args:
        times: Picture times in 1/600 s; by default as the rate has it.
        turn: Degrees clockwise by which players shall turn the picture.
    """
    with av.open(
        str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    ) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=_ENCODER_OPTIONS.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        sound: Any = container.add_stream("aac", rate=44100) if audio else None
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 600)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_picture(index, width, height), format="rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts = index if times is None else times[index]
            frame.time_base = 1 / rate if times is None else Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((2, 44100), np.float32), format="fltp", layout="stereo"
            )
            silence.sample_rate = 44100
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    if turn:
        _turn(path, turn)
    return path


def _turn(path: Path, degrees: int) -> None:
    content = bytearray(path.read_bytes())
    box = (
        content.index(b"tkhd") + 4
    )  # version and flags, five 32-bit fields, 8 reserved, four 16-bit, the matrix
    a, b, c, d, x, y = (value << 16 for value in _order(_MATRICES[degrees]))
    struct.pack_into(">9i", content, box + 40, a, b, 0, c, d, 0, x, y, 1 << 30)
    path.write_bytes(content)


def _order(matrix: tuple[int, ...]) -> tuple[int, ...]:
    a, b, _, c, d, _ = matrix
    return a, b, c, d, 0, 0


def read_all(path: Path) -> tuple[list[Pixels], list[float]]:
    """Every picture of a video as RGB and its time in seconds, decoded by PyAV alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [float(frame.time) for frame in frames]
