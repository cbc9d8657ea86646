"""Do shares hold? Two tenants saturate the CPU, each an OpenVINO process under limits of its own.

    python benchmarks/limits/shares.py [--seconds 30] [--shares 10:90,25:75,50:50] [--limits NAME]
        [--burst] [--anywhere]

Prints one JSON line a run: the part of all device seconds that each tenant got, and how far that is from its
share in points. The whole path through host and network is another benchmark; this one is the kernel alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

from elastic_inference.limits.base import MEBIBYTE, LimitRequest, Limits, held_command
from elastic_inference.limits.cores import CoreRequest, plan_cores
from elastic_inference.limits.detect import MODES, detect
from elastic_inference.limits.machine import usable_cores


def tenant() -> None:
    """Predict without a pause; options come as one JSON line, `up` goes out when the model is loaded."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    from elastic_inference.limits.duty_cycle import CpuDutyCycle

    options = json.loads(sys.stdin.readline())
    data = ops.parameter([1, 32, 96, 96], np.float32)
    node = data
    for seed in range(6):
        weights = np.random.default_rng(seed).standard_normal((32, 32, 3, 3)).astype(np.float32) / 30
        convolved = ops.convolution(node, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
        node = ops.relu(convolved)
    settings = {
        "INFERENCE_NUM_THREADS": options["num_threads"],
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = ov.Core().compile_model(ov.Model([node], [data]), "CPU", settings).create_infer_request()
    image = np.zeros((1, 32, 96, 96), np.float32)
    request.infer([image])
    share = options["duty_cycle_share"]
    cycle = CpuDutyCycle(share, options["num_threads"], time.monotonic()) if share else None
    print("up", flush=True)
    sys.stdin.readline()
    while True:
        if cycle is not None:
            time.sleep(cycle.delay_seconds(time.monotonic()))
        request.infer([image])
        if cycle is not None:
            cycle.used(0.0, time.monotonic())


@contextlib.contextmanager
def started(
    limits: Limits, share: float, num_cores: float, burst: bool
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A tenant that is loaded and waits for a line."""
    accelerator_id = f"eia-{secrets.token_hex(16)}"
    applied = limits.apply(LimitRequest(accelerator_id, share, num_cores, 2048 * MEBIBYTE, burst))
    command = held_command([sys.executable, os.path.abspath(__file__), "--tenant"])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            limits.add_process(accelerator_id, process.pid)
            options = {"num_threads": applied.num_threads, "duty_cycle_share": applied.duty_cycle_share}
            process.stdin.write(f"go\n{json.dumps(options)}\n")
            process.stdin.flush()
            if process.stdout.readline() != "up\n":
                raise RuntimeError("a tenant did not start")
            yield accelerator_id, process
        finally:
            process.kill()
            process.wait()
            limits.release(accelerator_id)


def busy_seconds() -> float:
    """CPU seconds of the whole machine so far: other work beside the tenants spoils a measurement."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq = (int(field) for field in file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def measure(
    limits: Limits, shares: list[float], seconds: float, burst: bool, keep: bool
) -> dict[str, object]:
    """Let the tenants of these shares saturate the CPU for a while."""
    num_cores = usable_cores()
    with contextlib.ExitStack() as stack:
        tenants = [stack.enter_context(started(limits, share, num_cores, burst)) for share in shares]
        wanted = {
            accelerator_id: CoreRequest(share * num_cores, burst)
            for (accelerator_id, _), share in zip(tenants, shares, strict=True)
        }
        plan = plan_cores(wanted, sorted(os.sched_getaffinity(0))) if keep else {}
        means = {limits.keep_to_cores(accelerator_id, cores) for accelerator_id, cores in plan.items()}
        for _, process in tenants:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        time.sleep(0.5)
        first = [limits.usage(accelerator_id) for accelerator_id, _ in tenants]
        busy_first, began = busy_seconds(), time.monotonic()
        time.sleep(seconds)
        last = [limits.usage(accelerator_id) for accelerator_id, _ in tenants]
        elapsed, busy = time.monotonic() - began, busy_seconds() - busy_first
    got = [(b.cpu_seconds - a.cpu_seconds) / num_cores for a, b in zip(first, last, strict=True)]
    return {
        "limits": limits.name + "".join(f", kept to cores by {each}" for each in means),
        "shares_percent": [round(100 * share, 1) for share in shares],
        "got_percent_of_all_got": [round(100 * g / sum(got), 2) for g in got],
        "off_points": max(round(100 * abs(g / sum(got) - s), 2) for g, s in zip(got, shares, strict=True)),
        "got_percent_of_device": [round(100 * g / elapsed, 2) for g in got],
        "others_percent_of_device": round(100 * (busy / num_cores - sum(got)) / elapsed, 1),
        "throttled_seconds": [
            round(b.throttled_seconds - a.throttled_seconds, 2) for a, b in zip(first, last, strict=True)
        ],
        "seconds": round(elapsed, 2),
    }


def main() -> None:
    """Read the command line, measure each pair of shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tenant", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--shares", default="10:90,25:75,50:50", help="pairs (or more) of percents")
    parser.add_argument("--limits", choices=MODES)
    parser.add_argument("--burst", action="store_true", help="let them burst: weight without quota")
    parser.add_argument("--anywhere", action="store_true", help="do not keep them to cores, as a host does")
    arguments = parser.parse_args()
    if arguments.tenant:
        tenant()
        return
    limits = detect(arguments.limits, parent_name=f"elastic-inference-benchmark-{os.getpid()}")
    try:
        for pair in arguments.shares.split(","):
            shares = [float(part) / 100 for part in pair.split(":")]
            print(
                json.dumps(
                    measure(limits, shares, arguments.seconds, arguments.burst, not arguments.anywhere)
                ),
                flush=True,
            )
    finally:
        limits.close()


if __name__ == "__main__":
    main()
