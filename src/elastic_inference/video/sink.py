"""Writing a video: H.264 in MP4 that browsers play, whole whenever it is closed, also after few pictures."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from elastic_inference.errors import ElasticInferenceError, InvalidInput
from elastic_inference.video.source import Pixels, VideoInfo

SUFFIXES = (".mp4", ".mov", ".mkv")

# Of x264's presets at 1080p, superfast took 14.5 ms of CPU a picture, veryfast 23.6, ultrafast 6.5 at 1.7
# times the size (2 cores, crf 23). The engine may be on these same cores.
_CODEC_OPTIONS = {"preset": "superfast", "crf": "23"}
_MAX_ENCODER_THREADS = 4


def check_output(path: str | Path, source: str | Path) -> None:
    """Refuse, before any work, an output path that cannot be written or that is the input itself.

    Raises:
        InvalidInput: Says which; nothing was written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"output {path} must end in one of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InvalidInput(f"output {path} is a directory")
    if not path.parent.is_dir():
        raise InvalidInput(f"output {path}: there is no directory {path.parent}")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise InvalidInput(f"output {path} is the input video itself")
    try:
        part = _part_of(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise InvalidInput(f"output {path} cannot be written: {error.strerror}") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise InvalidInput(f"output {path} cannot be written: it is there and protected")


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


class VideoSink:
    """A video written beside its final path, to which it moves when it is closed with pictures in it."""

    def __init__(self, path: str | Path, info: VideoInfo) -> None:
        """Begin a video of `info`'s size, rate and time base.

        Raises:
            InvalidInput: The size cannot be encoded, or the file not be made.
        """
        self._path = Path(path)
        self._part = _part_of(self._path)
        # H.264 as browsers play it has half as many colour samples each way, so sizes are even.
        self._width, self._height = info.width & ~1, info.height & ~1
        if not self._width or not self._height:
            raise InvalidInput(f"video of {info.width}x{info.height} is smaller than 2x2, which H.264 needs")
        self.num_written = 0
        self._closed = False
        self._yuv = np.empty((self._height * 3 // 2, self._width), np.uint8)
        try:
            self._container: Any = av.open(str(self._part), "w", options=_container_options(self._path))
        except (av.error.FFmpegError, OSError) as error:
            raise InvalidInput(f"output {path} cannot be written: {error.strerror}") from error
        self._stream = self._add_stream(info)

    def write(self, pixels: Pixels, time: int) -> None:
        """Encode one picture, uint8[H, W, 3] RGB, at `time` in units of the info's time base.

        Raises:
            ElasticInferenceError: The disk is full or the encoder failed; what was written before is kept.
        """
        # At 1080p OpenCV needs 1 ms where swscale needs 5. It knows BT.601 alone, so the stream says BT.601.
        cv2.cvtColor(pixels[: self._height, : self._width], cv2.COLOR_RGB2YUV_I420, dst=self._yuv)
        frame = av.VideoFrame.from_numpy_buffer(self._yuv, format="yuv420p")
        frame.pts, frame.time_base = time, self._time_base
        frame.colorspace, frame.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        with _write_errors(self._path):
            self._container.mux(self._stream.encode(frame))
        self.num_written += 1

    def close(self) -> None:
        """Finish the file; nothing is left where no picture was written. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        try:
            with _write_errors(self._path):
                if self.num_written:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
                if self.num_written:
                    os.replace(self._part, self._path)
        finally:
            with contextlib.suppress(OSError):
                self._part.unlink()

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add_stream(self, info: VideoInfo) -> Any:
        stream = self._container.add_stream("libx264", rate=info.frame_rate, options=_CODEC_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        self._time_base: Fraction = info.time_base
        context = stream.codec_context
        context.time_base = info.time_base
        context.sample_aspect_ratio = info.pixel_aspect
        context.thread_count = min(_MAX_ENCODER_THREADS, os.cpu_count() or 1)
        context.colorspace, context.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        return stream


def _container_options(path: Path) -> dict[str, str]:
    # The index before the pictures, so that a browser can play while it loads.
    return {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}


@contextlib.contextmanager
def _write_errors(path: Path) -> Any:
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise ElasticInferenceError(f"output {path} could not be written: {error.strerror}") from error
