"""Reading a video: what it is, and its pictures as upright RGB, in order, into buffers of the caller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from elastic_inference.errors import InvalidInput
from elastic_inference.units import format_bytes

Pixels = npt.NDArray[np.uint8]  # uint8[H, W, 3], RGB, 0..255

# av gives the turn that shows the picture upright, in degrees counter-clockwise.
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
_TIME_BASE = Fraction(1, 90_000)  # where the file has none; divides by the usual picture rates


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is read.

    Attributes:
        width, height: Of the upright picture, in pixels.
        frame_rate: Average pictures a second.
        time_base: Unit of picture times, in seconds.
        num_frames: As the file declares or its duration tells; None where neither does.
        pixel_aspect: Width of a pixel by its height.
        has_audio: Whether there is sound, which is not read.
    """

    path: Path
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    num_frames: int | None
    pixel_aspect: Fraction
    has_audio: bool


class VideoSource:
    """An open video file. The first picture is decoded at once, so that what is no video is refused early.

    Raises:
        InvalidInput: No such file, not a video, cut off before its last picture, or without pictures.
    """

    info: VideoInfo

    def __init__(self, path: str | Path, num_frames: int | None = None) -> None:
        """Open; `num_frames` is how many pictures are wanted, None for all."""
        self._path = Path(path)
        self._container = _open(self._path)
        self._declared_seconds = float(self._container.duration or 0) / av.time_base
        self.num_damaged = 0
        self._last_time, self._next_time = -1, 0
        self._first_time: int | None = None
        self._reformatter = VideoReformatter()
        try:
            self._stream = self._container.streams.video[0]
            # Frame threads: decoding is as quick as it gets, and the few pictures of delay cost nothing here.
            self._stream.thread_type = "AUTO"
            _refuse_cut_off(self._path, self._stream, num_frames)
            self._frames = self._decode()
            self._pending: Any = next(self._frames, None)
            if self._pending is None:
                raise InvalidInput(f"video {path} has no pictures that can be decoded")
            self._turn = _TURNS.get(int(self._pending.rotation) % 360)
            self._width, self._height = self._pending.width, self._pending.height  # as coded, before the turn
            self.info = self._describe()
        except BaseException:
            self._container.close()
            raise

    def read_into(self, pixels: Pixels) -> int | None:
        """Put the next picture into `pixels`, uint8[H, W, 3] of `info`'s size.

        Returns:
            Its time in units of `info.time_base`, 0 for the first and always rising; None, with `pixels`
            untouched, after the last.
        """
        frame, self._pending = self._pending, None
        frame = frame if frame is not None else next(self._frames, None)
        if frame is None:
            return None
        # One thread: swscale gains nothing from more here and they would take cores from the engine.
        rgb = self._reformatter.reformat(
            frame,
            width=self._width,  # of the first picture, should they change within the file
            height=self._height,
            format="rgb24",
            src_color_range=frame.color_range,
            threads=1,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(self._height, plane.line_size)
        picture = rows[:, : 3 * self._width].reshape(self._height, self._width, 3)
        if self._turn is None:
            np.copyto(pixels, picture)
        else:
            cv2.rotate(picture, self._turn, dst=pixels)
        return self._time_of(frame)

    def shortfall(self) -> str | None:
        """After the last picture: a sentence where the file seems to lack some of what it declares."""
        read_seconds = float(self._next_time * self.info.time_base)
        # Sound and pictures seldom end together; a second or 5% is no sign of a loss.
        if self.num_damaged:
            return f"{self.num_damaged} damaged pictures of {self._path} were left out"
        if not self.info.has_audio and self._declared_seconds - read_seconds > max(
            1.0, 0.05 * self._declared_seconds
        ):
            return (
                f"{self._path} declares {self._declared_seconds:.1f} s, its pictures end at {read_seconds:.1f} s: "
                "it seems to be cut off"
            )
        return None

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._container.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decode(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)  # ends with an empty packet that empties the decoder
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.num_damaged += 1
                packet = None  # the file breaks off here; what the decoder still holds is good
            try:
                yield from self._stream.decode(packet)
            except av.error.FFmpegError:
                self.num_damaged += 1
            if packet is None:
                return

    def _time_of(self, frame: Any) -> int:
        time_base = self.info.time_base
        step = max(1, round(1 / (self.info.frame_rate * time_base)))
        if frame.pts is None:
            time = self._next_time
        else:
            if self._first_time is None:
                self._first_time = frame.pts
            time = max(frame.pts - self._first_time, self._last_time + 1)  # rising, whatever the file says
        self._last_time = time
        self._next_time = time + (frame.duration or step)
        return time

    def _describe(self) -> VideoInfo:
        stream, frame = self._stream, self._pending
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        num_frames = stream.frames or None
        if num_frames is None and stream.duration and stream.time_base:
            num_frames = round(stream.duration * stream.time_base * rate)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        size = (frame.width, frame.height)
        if self._turn in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE):
            size, aspect = (frame.height, frame.width), 1 / aspect
        return VideoInfo(
            path=self._path,
            width=size[0],
            height=size[1],
            frame_rate=Fraction(rate),
            time_base=Fraction(stream.time_base or _TIME_BASE),
            num_frames=num_frames,
            pixel_aspect=aspect,
            has_audio=bool(self._container.streams.audio),
        )


def _open(path: Path) -> Any:
    if not path.exists():
        raise InvalidInput(f"video {path}: no such file")
    if path.is_dir():
        raise InvalidInput(f"video {path} is a directory")
    try:
        container = av.open(str(path))
    except PermissionError as error:
        raise InvalidInput(f"video {path} may not be read by this user") from error
    except (av.error.FFmpegError, OSError) as error:
        raise InvalidInput(
            f"{path} ({format_bytes(path.stat().st_size)}) is not a video that can be read, or is cut off: "
            f"{error.strerror}"
        ) from error
    # libav also opens text (as the output of a terminal) and single pictures.
    names = container.format.name.split(",")
    if not container.streams.video or any(n in ("tty", "image2") or n.endswith("_pipe") for n in names):
        container.close()
        raise InvalidInput(f"{path} is not a video (it was read as {container.format.long_name})")
    return container


def _refuse_cut_off(path: Path, stream: Any, num_frames: int | None) -> None:
    """Refuse an mp4 whose index points behind the end of the file; others tell only while being read."""
    if "mp4" not in stream.container.format.name:
        return
    size_bytes = path.stat().st_size
    index = [entry.pos + entry.size for entry in stream.index_entries]
    num_whole = next((i for i, end in enumerate(index) if end > size_bytes), len(index))
    if num_whole < min(len(index), num_frames or len(index)):
        hint = f"; its first pictures can be had with --frames {num_whole}" if num_whole else ""
        raise InvalidInput(
            f"video {path} is cut off: it has {format_bytes(size_bytes)} of {format_bytes(max(index))}, "
            f"{num_whole} of {len(index)} pictures{hint}"
        )
