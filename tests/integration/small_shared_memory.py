"""A program in a mount namespace of its own whose /dev/shm is small; prints what happened there as one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter

import numpy as np

from elastic_inference import EIPredictor
from tests.waiting import wait_until

MODEL, SIZE = sys.argv[1:]
MOUNT = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", "/dev/shm"]
subprocess.run(MOUNT, check=True, timeout=30)


def used_bytes() -> int:
    status = os.statvfs("/dev/shm")
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def work(number: int) -> None:
    for turn in range(6):
        x = np.full((4000 + 8000 * ((turn + number) % 6), 4), number + 1, np.float32)
        try:
            y = predictor({"x": x})["outputs"]
            is_right = y.shape == (len(x), 3) and np.allclose(y, wanted * (number + 1), rtol=1e-4, atol=1e-4)
            counts["right" if is_right else "wrong"] += 1
        except Exception as error:  # the test wants to see each
            counts[repr(error)] += 1


counts: Counter[str] = Counter()
predictor = EIPredictor(MODEL)
before = predictor.report_now().transport
wanted = predictor({"x": np.ones((1, 4), np.float32)})["outputs"]
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(120)
report = predictor.report_now()
with EIPredictor(MODEL) as other:
    second = other.report.transport
predictor.close()
wait_until(
    lambda: not used_bytes(), "shared memory to be free: the accelerator hears of it a moment later", 30
)
found = {
    "counts": counts,
    "before": before,
    "after": report.transport,
    "notes": report.notes,
    "second": second,
    "names": os.listdir("/dev/shm"),
}
print(json.dumps(found))
