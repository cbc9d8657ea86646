"""The command line as a process: help, exit codes, one line for an error, quiet ends, interrupts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from elastic_inference import errors
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.testing import start_accelerator, write_model
from tests.shared import shared_path
from tests.video.clips import make_clip, read_all
from tests.video.test_detect import OUTPUTS

EI = [sys.executable, "-m", "elastic_inference"]


def _ei(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EI, *arguments], capture_output=True, text=True, timeout=120, env=os.environ | environment
    )


def test_help_lists_the_commands_and_each_has_examples() -> None:
    top = _ei("--help")
    assert top.returncode == 0
    for name in ("detect", "demo", "models"):
        assert f"\n  {name} " in top.stdout
        done = _ei(name, "--help")
        assert done.returncode == 0
        assert f"ei {name}" in done.stdout.split("Examples:")[1]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from elastic_inference.cli import build_app; build_app(); "
        "print([m for m in ('av', 'cv2', 'openvino', 'tensorflow', 'scipy', 'rich', 'matplotlib', 'fastapi') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"


def test_the_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert _ei("--version").stdout.strip() == version("elastic-inference")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command"),
        (["detect"], "Missing"),
        (["detect", "in.mp4", "-o", "out.mp4", "--score", "2"], "score"),
        (["detect", "in.mp4", "-o", "out.mp4", "--frames", "0"], "frames"),
        ([], "Usage"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: Sequence[str], message: str) -> None:
    done = _ei(*arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr


def _errors_of(tmp_path: Path) -> list[tuple[list[str], ExitCode, str]]:
    clip = str(make_clip(tmp_path / "in.mp4", 5))
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "text.pb").write_text("not a graph\n" * 100)
    (tmp_path / "text.txt").write_text("not a model")
    out, none = ["-o", str(tmp_path / "out.mp4")], str(tmp_path / "none")
    bad, lost = ExitCode.BAD_INPUT, ExitCode.NOT_FOUND
    return [
        (["detect", none, *out], bad, "no such file"),
        (["detect", str(tmp_path / "text.mp4"), *out], bad, "is not a video"),
        (["detect", clip, "-o", clip], bad, "is the input video itself"),
        (["detect", clip, "-o", f"{none}/out.mp4"], bad, "there is no directory"),
        (["detect", clip, *out, "--model", "no_such_model"], lost, "no known model of that name; known are "),
        (["detect", clip, *out, "--model", str(tmp_path)], lost, "SavedModel file does not exist at"),
        (["detect", clip, *out, "--model", str(tmp_path / "text.txt")], bad, "text.txt"),
        (["detect", clip, *out, "--model", str(tmp_path / "text.pb")], bad, "text.pb"),
        (["detect", clip, *out, "--labels", none], lost, "label file"),
        (["detect", clip, *out, "--model", str(tmp_path / "text.pb"), "--precision", "fp7"], bad, "fp7"),
        (["models", "--fetch", "nonsense"], lost, "no known model of that name"),
        (["demo", "-o", clip], bad, "cannot be made"),
        (["demo", "--client-usd-per-hour", "cheap"], bad, "not a number of US dollars"),
    ]


def test_each_mistake_is_one_line_and_its_exit_code(tmp_path: Path) -> None:
    for arguments, code, message in _errors_of(tmp_path):
        done = _ei(*arguments)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == code, (arguments, done)
        assert last.startswith("error: "), done.stderr
        assert message in last
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.mp4").exists()


def test_with_json_each_mistake_is_one_json_object_and_the_same_exit_code(tmp_path: Path) -> None:
    for arguments, code, message in _errors_of(tmp_path)[::3]:
        done = _ei(*arguments, "--json")
        assert (done.returncode, done.stdout) == (code, ""), (arguments, done)
        told = json.loads(done.stderr)
        assert message in told["error"]
        assert issubclass(getattr(errors, told["code"]), errors.ElasticInferenceError)


def test_with_json_wrong_usage_is_json_too() -> None:
    done = _ei("detect", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    told = json.loads(done.stderr)
    assert told["code"] == "UsageError"
    assert "Missing" in told["error"]
    assert "video" in told["error"].lower()


def test_a_fault_of_ours_shows_its_traceback_and_where_to_turn(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import elastic_inference.zoo as zoo\nzoo.MODELS = None  # a fault that no check sees\n"
    )
    text = _ei("models", PYTHONPATH=str(tmp_path))
    assert text.returncode == ExitCode.FAILED
    assert "Traceback" in text.stderr
    assert "please report it" in text.stderr.splitlines()[-1]
    told = json.loads(_ei("models", "--json", PYTHONPATH=str(tmp_path)).stderr)
    assert told["code"] == "AttributeError"
    assert "zoo.MODELS" in told["traceback"]


def test_without_the_video_extra_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ModuleNotFoundError(\"No module named 'av'\", name='av')\n")
    done = _ei("detect", "in.mp4", "-o", "out.mp4", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "error: this command needs av, which is not installed: pip install 'elastic-inference[video]'\n"
    )


def test_without_typer_the_error_names_the_extras(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')\n"
    )
    done = _ei("models", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: the command line needs typer")


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run([*EI, "models"], stdout=write_end, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == ExitCode.READER_GONE


def test_json_is_all_of_standard_output_and_nothing_else_is_said(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 12)
    model = write_model(tmp_path / "zeros.testing", outputs=OUTPUTS)
    with start_accelerator() as accelerator:
        place = ["--address", accelerator.address, "--token", accelerator.token]
        done = _ei(
            "detect", str(clip), "-o", str(tmp_path / "out.mp4"), "--model", str(model), "--json", *place
        )
        text = _ei("detect", str(clip), "-o", str(tmp_path / "out.mp4"), "--model", str(model), *place)
    report = json.loads(done.stdout)
    assert (report["num_frames"], report["engine"], report["use_ei"]) == (12, "testing", True)
    assert done.stderr == ""
    for line in ("model load time", "number of frames        12", "average inference time", "written: "):
        assert line in text.stdout
    assert "320x240; loading" in text.stderr


def test_models_says_which_are_on_this_machine(tmp_path: Path) -> None:
    done = _ei("models", "--json", EI_CACHE_DIR=str(tmp_path))
    (model,) = json.loads(done.stdout)
    assert model["name"] == "ssd_mobilenet_v2_coco"
    assert model["is_fetched"] is False
    assert "not fetched yet" in _ei("models", EI_CACHE_DIR=str(tmp_path)).stdout


def _wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return


def _interrupt(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> None:
    os.killpg(process.pid, number)  # as a terminal does it: to every process of the group


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_video_that_plays_and_exit_code_130(tmp_path: Path, number: signal.Signals) -> None:
    clip = make_clip(tmp_path / "in.mp4", 1000)
    model = write_model(tmp_path / "waits.testing", outputs=OUTPUTS, wait_seconds=0.02)
    with start_accelerator() as accelerator:
        place = ["--address", accelerator.address, "--token", accelerator.token]
        process = subprocess.Popen(
            [*EI, "detect", str(clip), "-o", str(tmp_path / "out.mp4"), "--model", str(model), *place],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"EI_PROGRESS_SECONDS": "0.2"},
        )
        _wait_for_line(process, "frames/s")
        _interrupt(process, number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    pictures, times = read_all(tmp_path / "out.mp4")
    assert 0 < len(pictures) < 1000
    assert f"number of frames        {len(pictures)}" in output
    assert "stopped by the user" in output
    assert times == pytest.approx([index / 25 for index in range(len(pictures))], abs=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "waits.testing"]


def test_ctrl_c_ends_the_private_accelerator_too(tmp_path: Path) -> None:
    """With a real model and the accelerator that the command started; the terminal signals both."""
    model = shared_path("assets/models/ssd_mobilenet_v2_coco_2018_03_29.pb")
    clip = make_clip(tmp_path / "in.mp4", 600)
    process = subprocess.Popen(
        [*EI, "detect", str(clip), "-o", str(tmp_path / "out.mp4"), "--model", str(model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ
        | {"EI_PROGRESS_SECONDS": "0.2", "EI_CACHE_DIR": str(tmp_path / "cache"), "EI_STORE_SIZE": "1GiB"},
    )
    _wait_for_line(process, "frames/s")
    children = psutil.Process(process.pid).children()
    _interrupt(process)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert len(read_all(tmp_path / "out.mp4")[0]) > 0
    assert list((tmp_path / "cache" / "store" / "blobs").iterdir())  # the next run loads in a second
    assert children
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list"], "interrupted"),
        (["usage", "--since", "24h"], "interrupted"),
        (
            ["attach", "--type", "cpu.half"],
            "interrupted; the host may attach it all the same: `ei list` shows it, ",
        ),
    ],
)
def test_ctrl_c_while_a_host_is_waited_for_is_one_line_and_exit_code_130(
    arguments: list[str], text: str, number: signal.Signals
) -> None:
    for as_json in ([], ["--json"]):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(60)
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            process = subprocess.Popen(
                [*EI, *arguments, "--host", url, *as_json],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)  # the request is on its way: the command waits for the answer
                _interrupt(process, number)
                output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (ExitCode.INTERRUPTED, "")
        if as_json:
            told = json.loads(errors)
            assert (told["error"].startswith(text), told["code"]) == (True, "KeyboardInterrupt")
        else:
            assert errors.startswith(text)
            assert errors.count("\n") == 1
