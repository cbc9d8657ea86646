"""Which processor this is, and what others use of it."""

from __future__ import annotations

import subprocess
import sys

from elastic_inference.limits.processor import Bystanders, processor
from tests.waiting import wait_until

SPIN = "while True: pass"


def test_processor_has_a_name() -> None:
    assert processor()


def test_process_of_another_counts_and_ones_own_does_not() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as spinning:
        try:
            others, own = Bystanders([]), Bystanders([spinning.pid])
            wait_until(lambda: others.share() > own.share() + 0.01)
            assert 0 <= own.share() <= 1
        finally:
            spinning.kill()
