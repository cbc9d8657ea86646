"""Reading: right colours, order, times, turns; and each kind of file that is no video, or not all of one."""

from __future__ import annotations

import os
import socket
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.video.source import Pixels, VideoSource
from tests.video.clips import make_clip, number_of, numbered_picture


def _read(path: Path) -> tuple[list[Pixels], list[int], VideoSource]:
    pictures, times = [], []
    with VideoSource(path) as source:
        buffer = np.empty((source.info.height, source.info.width, 3), np.uint8)
        while (time := source.read_into(buffer)) is not None:
            pictures.append(buffer.copy())
            times.append(time)
    return pictures, times, source


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_pictures_come_in_order_with_their_colours_and_times(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    pictures, times, source = _read(make_clip(tmp_path / f"clip{suffix}", 30, codec=codec))
    assert [number_of(picture) for picture in pictures] == list(range(30))
    seconds = [float(time * source.info.time_base) for time in times]
    assert seconds == pytest.approx([i / 25 for i in range(30)], abs=1e-3)
    assert source.info.frame_rate == 25
    left, right = pictures[0][200, 40], pictures[0][200, 280]
    assert np.abs(left.astype(int) - (200, 0, 0)).max() < 12
    assert np.abs(right.astype(int) - (0, 0, 200)).max() < 12
    assert source.shortfall() is None


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    wanted = [0, 10, 12, 100, 160, 161]
    _, times, source = _read(make_clip(tmp_path / "clip.mp4", 6, times=wanted))
    assert [time * source.info.time_base * 600 for time in times] == wanted


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_picture_is_read_upright(tmp_path: Path, turn: int) -> None:
    pictures, _, source = _read(make_clip(tmp_path / "clip.mp4", 2, turn=turn))
    size = (240, 320) if turn in (90, 270) else (320, 240)
    assert (source.info.width, source.info.height) == size
    # The left half of the coded picture is red; turned 90 degrees clockwise it is the upper half.
    middle, height, width = pictures[1], size[1], size[0]
    red = {
        90: middle[height // 8, width // 4],
        180: middle[height // 4, width * 7 // 8],
        270: middle[height * 7 // 8, width // 2],
    }
    assert red[turn][0] > 150
    assert red[turn][2] < 50


def test_odd_sizes_and_full_range_colours_are_read(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", 3, 321, 239, codec="mjpeg", pixel_format="yuvj444p")
    pictures, _, source = _read(path)
    assert (source.info.width, source.info.height) == (321, 239)
    assert np.abs(pictures[0][200, 40].astype(int) - (200, 0, 0)).max() < 6


def test_colours_of_a_high_definition_video_are_those_of_its_own_matrix(tmp_path: Path) -> None:
    # Pure green in BT.709 limited range; read as BT.601 it would be (0, 255, 5) away by more than 20.
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        frame = av.VideoFrame(64, 64, "yuv420p")
        for plane, value in zip(frame.planes, (173, 42, 26), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.colorspace, frame.color_range, frame.pts = 1, 1, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    pictures, _, _ = _read(tmp_path / "clip.mkv")
    assert np.abs(pictures[0][32, 32].astype(int) - (0, 255, 0)).max() < 6


def test_sound_is_noticed(tmp_path: Path) -> None:
    assert VideoSource(make_clip(tmp_path / "a.mp4", audio=True)).info.has_audio
    assert not VideoSource(make_clip(tmp_path / "b.mp4")).info.has_audio


def test_a_video_cut_off_is_refused_with_what_is_left_of_it(tmp_path: Path) -> None:
    content = make_clip(tmp_path / "whole.mp4", 40).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(InvalidInput, match=r"cut off: it has .* KiB of .*, \d+ of 40 pictures.*--frames \d+"):
        VideoSource(cut)
    with VideoSource(cut, num_frames=5) as source:
        assert source.info.num_frames == 40


def test_a_matroska_cut_off_is_read_to_its_end_and_said_to_be_short(tmp_path: Path) -> None:
    content = make_clip(tmp_path / "whole.mkv", 100).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(content[: len(content) // 2])
    pictures, _, source = _read(cut)
    assert 10 < len(pictures) < 90
    assert "declares 4.0 s" in (source.shortfall() or "")


def test_damage_in_the_middle_leaves_the_rest(tmp_path: Path) -> None:
    content = bytearray(make_clip(tmp_path / "whole.ts", 100, codec="mpeg2video").read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\0" * (len(content) // 2 - len(content) // 3)
    (tmp_path / "bad.ts").write_bytes(content)
    pictures, times, _ = _read(tmp_path / "bad.ts")
    assert 20 < len(pictures) < 100
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", r"\(0 B\) is not a video"),
        ("text.mp4", b"not a video\n" * 50, "is not a video"),
        ("text.txt", b"not a video\n" * 50, "is not a video"),
        ("random.mp4", os.urandom(5000), "is not a video"),
        ("head.mp4", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "is not a video|cut off"),
    ],
)
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        VideoSource(tmp_path / name)


def test_a_picture_and_sound_alone_are_refused(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), numbered_picture(0, 64, 48))
    with pytest.raises(InvalidInput, match=r"not a video .it was read as"):
        VideoSource(picture)
    path = make_clip(tmp_path / "clip.mp4", audio=True)
    with av.open(str(path)) as source, av.open(str(tmp_path / "sound.mp4"), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    with pytest.raises(InvalidInput, match="is not a video"):
        VideoSource(tmp_path / "sound.mp4")


def test_a_video_without_pictures_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 5)
    content = bytearray(path.read_bytes())
    data = content.index(b"mdat") + 4
    content[data:] = b"\0" * (len(content) - data)
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="no pictures that can be decoded"):
        VideoSource(path)


def test_what_is_not_a_readable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        VideoSource(tmp_path / "none.mp4")
    with pytest.raises(InvalidInput, match="is a directory"):
        VideoSource(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.mp4"))
        with pytest.raises(InvalidInput, match="is not a video"):
            VideoSource(tmp_path / "s.mp4")


def test_half_a_pixel_aspect_is_turned_with_the_picture(tmp_path: Path) -> None:
    with VideoSource(make_clip(tmp_path / "clip.mp4", turn=90)) as source:
        assert source.info.pixel_aspect == Fraction(1)
