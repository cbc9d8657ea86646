"""Writing: what was written plays, keeps its times, and replaces nothing before it is whole."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.video.sink import VideoSink, check_output
from elastic_inference.video.source import VideoInfo
from tests.video.clips import number_of, numbered_picture, read_all


def _info(width: int = 320, height: int = 240, aspect: Fraction = Fraction(1)) -> VideoInfo:
    return VideoInfo(Path("in.mp4"), width, height, Fraction(25), Fraction(1, 600), None, aspect, False)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_pictures_come_back_in_order_with_times_and_colours(tmp_path: Path, suffix: str) -> None:
    times = [0, 10, 12, 100, 160, 161]
    path = tmp_path / f"out{suffix}"
    buffer = np.empty((240, 320, 3), np.uint8)  # one buffer for all, as the pipeline does
    with VideoSink(path, _info()) as sink:
        for index, time in enumerate(times):
            buffer[:] = numbered_picture(index, 320, 240)
            sink.write(buffer, time)
    pictures, seconds = read_all(path)
    assert [number_of(picture) for picture in pictures] == list(range(6))
    assert seconds == pytest.approx([time / 600 for time in times], abs=1e-3)
    assert np.abs(pictures[3][200, 40].astype(int) - (200, 0, 0)).max() < 12
    assert np.abs(pictures[3][200, 280].astype(int) - (0, 0, 200)).max() < 12


def test_the_file_is_what_browsers_play(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", _info(aspect=Fraction(4, 3))) as sink:
        sink.write(numbered_picture(0, 320, 240), 0)
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.sample_aspect_ratio == Fraction(4, 3)


def test_an_odd_size_loses_its_last_row_and_column(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", _info(321, 241)) as sink:
        sink.write(numbered_picture(5, 321, 241), 0)
    pictures, _ = read_all(tmp_path / "out.mp4")
    assert pictures[0].shape == (240, 320, 3)
    with pytest.raises(InvalidInput, match="1x8 is smaller than 2x2"):
        VideoSink(tmp_path / "thin.mp4", _info(1, 8))


def test_without_pictures_nothing_is_left_and_nothing_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"what was there")
    VideoSink(path, _info()).close()
    assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_until_the_new_video_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"what was there")
    sink = VideoSink(path, _info())
    sink.write(numbered_picture(0, 320, 240), 0)
    assert path.read_bytes() == b"what was there"
    sink.close()
    sink.close()
    assert len(read_all(path)[0]) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_and_leaves_no_part(tmp_path: Path) -> None:
    program = f"""
import resource, sys
import numpy as np
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.video.sink import VideoSink
from tests.video.test_sink import _info
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
random = np.random.default_rng(0)
try:
    with VideoSink({str(tmp_path / "out.mp4")!r}, _info()) as sink:
        for time in range(200):
            sink.write(random.integers(0, 255, (240, 320, 3), np.uint8), time)
except ElasticInferenceError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert "out.mp4 could not be written: File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written_are_refused_before_any_work(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.touch()
    (tmp_path / "dir.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(source)
    for name, message in [
        ("out.gif", r"must end in one of \.mp4"),
        ("dir.mp4", "is a directory"),
        ("none/out.mp4", "there is no directory"),
        ("in.mp4", "is the input video itself"),
        ("link.mp4", "is the input video itself"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            check_output(tmp_path / name, source)
    check_output(tmp_path / "out.mp4", source)
    assert not (tmp_path / "out.mp4").exists()
    # /proc takes no files, not even root's.
    with pytest.raises(InvalidInput, match="cannot be written"):
        check_output("/proc/out.mp4", source)
