"""Standard error while libraries are imported: greetings go, words stay, whoever else is inside at that time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.small_models import write_saved_model

START = """
import os, sys, threading
from elastic_inference.engines.quiet import quiet_stderr
def say(text): os.write(2, text.encode() + b"\\n")
"""


def said(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", START + code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stderr.splitlines()


def test_greetings_go_and_words_stay() -> None:
    code = """
with quiet_stderr():
    say("I0000 00:00 port.cc:153] oneDNN custom operations are on.")
    say("a word")
say("afterwards")
"""
    assert said(code) == ["a word", "afterwards"]


def test_two_threads_that_overlap_lose_nothing() -> None:
    """The second to enter kept the first one's file as the real standard error, and put that back for good."""
    code = """
first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
def second():
    first_is_in.wait(30)
    with quiet_stderr():
        second_is_in.set()
        first_is_out.wait(30)
        say("second, inside")
thread = threading.Thread(target=second)
thread.start()
with quiet_stderr():
    first_is_in.set()
    second_is_in.wait(30)
    say("first, inside")
first_is_out.set()
thread.join()
say("afterwards")
with quiet_stderr():
    say("again")
say("at the end")
"""
    assert said(code) == ["first, inside", "second, inside", "afterwards", "again", "at the end"]


def test_an_error_inside_is_passed_on_with_what_was_said() -> None:
    code = """
try:
    with quiet_stderr():
        say("a word")
        raise RuntimeError
except RuntimeError:
    say("caught")
"""
    assert said(code) == ["a word", "caught"]


def test_a_child_forked_meanwhile_speaks_aloud() -> None:
    code = """
with quiet_stderr():
    say("before")
    pid = os.fork()
    if not pid:
        say("the child")
        os._exit(0)
    os.waitpid(pid, 0)
say("afterwards")
"""
    assert said(code) == ["the child", "before", "afterwards"]


def test_a_process_without_standard_error_goes_on() -> None:
    code = "os.close(2)\nwith quiet_stderr():\n    pass\nos.write(1, b'on')"
    done = subprocess.run(
        [sys.executable, "-c", START + code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "on"


def test_two_threads_that_load_in_process_keep_standard_error(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    model = write_saved_model(tmp_path / "seven", 7)
    code = f"""
from elastic_inference import Accelerator, EIPredictor
barrier = threading.Barrier(2)
def load():
    barrier.wait(30)
    EIPredictor({str(model)!r}, accelerator=Accelerator.local()).close()
threads = [threading.Thread(target=load) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
say("still here")
"""
    assert said(code)[-1] == "still here"
