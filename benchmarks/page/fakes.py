"""A process that answers as many accelerators do: `python -m benchmarks.page.fakes FOLDER ID ...`.

Two hundred real ones would be two hundred engines. What a fake says of itself changes each second, as that of a busy
one does; how the host asks, and over what, is real.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any


def statistics(accelerator_id: str, started_at: float) -> dict[str, Any]:
    """What `GET /v2/accelerator` of a busy accelerator answers."""
    total = random.uniform(0.01, 0.05)
    queue, wire = total * random.uniform(0.0, 0.5), total * 0.05
    parts = {
        "total_seconds": total, "queue_seconds": queue, "service_seconds": total - queue - wire, "wire_seconds": wire,
    }  # fmt: skip
    num_served = int((time.time() - started_at) * 25)
    return {
        "accelerator_id": accelerator_id, "accelerator_type": "small", "device": "cpu", "limits": {},
        "memory_limit_bytes": None,
        "queue": {
            "num_waiting": random.randrange(4), "num_running": 1, "num_served": num_served, "num_refused": 0,
            "num_expired": 0, "device_seconds": num_served * 0.02, "throttled_seconds": num_served * 0.001,
            "turn_seconds": 0.0,
        },
        "latency": {"num_requests": 1000, "window_seconds": 60.0, "p50": parts, "p99": parts},
        "lease": None,
        "models": [
            {
                "name": "m-1c8660b1fb9ba821074348d60-480cea4ee5d96f57", "version": "1", "state": "READY", "reason": "",
                "engine": "openvino", "precision": "fp32", "device": "CPU",
                "proof": "agrees: openvino against tensorflow on 3 samples, largest difference 1.2e-06",
                "num_by_outcome": {"success": num_served}, "service_seconds": num_served * 0.02,
            }
        ],
    }  # fmt: skip


async def serve(folder: Path, accelerator_ids: list[str]) -> None:
    """Answer on one Unix socket an accelerator until the process is ended."""
    started_at = time.time()

    def answering(accelerator_id: str) -> Any:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps(statistics(accelerator_id, started_at)).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
            writer.close()

        return answer

    for accelerator_id in accelerator_ids:
        place = folder / accelerator_id
        place.mkdir(exist_ok=True)
        await asyncio.start_unix_server(answering(accelerator_id), str(place / "api.sock"))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2:]))
