"""One process of a pool service: it waits until it is the one, serves, and ends when nobody supervises it any more."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.doors import server
from elastic_inference.host.doors.middleware import RequestIdFilter
from elastic_inference.host.priority import come_first
from elastic_inference.pool.config import PoolConfig
from elastic_inference.pool.doors import pool_doors
from elastic_inference.pool.pool import Pool
from elastic_inference.pool.supervision import LOCK, watch_supervisor
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.telemetry import set_up_logging

logger = logging.getLogger(__name__)

CANNOT_RUN = "the pool service cannot run"  # `ei pool start` looks for it in the log


def main() -> int:
    """Run it; the exit status."""
    come_first()  # Ray's actors come last, and what they start with them
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until it serves, it ends at once
    config = PoolConfig.from_json(sys.stdin.readline())
    set_up_logging(config.log_level, [RequestIdFilter()])
    supervisor = Path(config.state_dir) / LOCK
    threading.Thread(target=watch_supervisor, args=(supervisor,), name="supervision", daemon=True).start()
    pool = Pool(config)
    try:
        pool.wait_for_turn()
        server.serve(
            pool,
            Endpoint.parse(config.listen),
            on_ready=lambda url: logger.info(
                "the pool service answers", extra={"url": url, "pid": os.getpid()}
            ),
            addition=pool_doors(pool),
        )
    except ElasticInferenceError as error:
        logger.error(CANNOT_RUN, extra={"why": str(error)})
        return 1
    return 0
