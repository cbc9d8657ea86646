"""A real host with fake accelerators: `python -m benchmarks.page.crowded_host STATE_DIR NUM`; prints its URL.

The records are written past its API, so no process is started for them; all else is as ever, the readings too.
"""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.devices import Device
from elastic_inference.host.doors.server import serve
from elastic_inference.host.host import Host
from elastic_inference.host.settings import HostSettings
from elastic_inference.protocol.endpoint import Endpoint

GIB = 1 << 30
TYPE = AcceleratorType("small", GIB, device_share=0.004, usd_per_hour=Decimal("0.13"))
DEVICE = Device(
    "cpu:0", "cpu", "a CPU of the benchmark", 96.0, 512 * GIB, {"fp32": 5.0}, "given by the benchmark"
)


def main() -> None:
    """Serve until SIGTERM."""
    state_dir, num = Path(sys.argv[1]), int(sys.argv[2])
    host = Host(
        HostSettings(
            state_dir=state_dir, devices=(DEVICE,), limits_mode="rlimit and duty cycle", num_spares=0
        )
    )
    ids = [f"eia-{number:032x}" for number in range(num)]
    folder = host.folder.accelerators
    fakes: list[subprocess.Popen[str]] = []

    def on_ready(url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.page.fakes", str(folder), *ids]
        fakes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert fakes[0].stdout is not None
        fakes[0].stdout.readline()
        for number, accelerator_id in enumerate(ids):
            record = AcceleratorRecord(
                accelerator_id,
                f"tenant {number}",
                TYPE,
                "cpu:0",
                0.004,
                "",
                host.calendar.now(),
                state=State.READY,
            )
            host.store.add(record)
            host.store.begin_interval(record, host.calendar.now())
        print(url, flush=True)

    try:
        serve(host, Endpoint.parse("127.0.0.1:0"), on_ready=on_ready, keep_running=True)
    finally:
        for process in fakes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
