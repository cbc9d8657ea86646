"""The process of one row: `python -m benchmarks.gpu.child NAME DEVICE SECONDS FOLDER LIMITS` prints JSON lines."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.setting import Setting


def main() -> None:
    """Run the row; SIGTERM ends it in order, so that it gives back what it took."""
    name, device, seconds, folder, limits = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    setting = Setting(device, float(seconds), Path(folder).absolute(), limits)
    setting.folder.mkdir(parents=True, exist_ok=True)
    for row in import_module(f"benchmarks.gpu.{name}").rows(setting):
        print(json.dumps(asdict(row), default=str), flush=True)


if __name__ == "__main__":
    main()
