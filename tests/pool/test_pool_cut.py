"""A host that is cut off from its pool and runs on: at no time do two accelerators with one id answer."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError
from tests.pool.cluster import PATIENT, RAY, PoolCluster
from tests.pool.proxy import CuttingProxy
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


class Caller:
    """Calls one address as long as it answers, without asking the pool where the accelerator is."""

    def __init__(self, model: Path, address: str, token: str) -> None:
        self.first_answer = self.last_answer = 0.0
        self.num_answers = 0
        self._predictor = EIPredictor(
            str(model),
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            address=address,
            token=token,
            timeout_seconds=20.0,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self._predictor:
            try:
                while True:
                    self._predictor({"x": np.float32([1])})
                    self.last_answer = time.monotonic()
                    self.first_answer = self.first_answer or self.last_answer
                    self.num_answers += 1
            except ElasticInferenceError:
                return  # it has ended, or says that it may not answer


@pytest.mark.skipif(not RAY.exists(), reason="needs ray (pip install 'elastic-inference[pool]')")
def test_the_old_one_is_silent_before_the_new_one_speaks(model: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="eip-", dir="/tmp"))
    folder.chmod(0o711)
    proxy = CuttingProxy()
    pool = PoolCluster(folder, 2, times=f'{PATIENT}\nurl = "http://127.0.0.1:{proxy.port}"', proxy=proxy)
    try:
        attached = pool.session.attach("tiny", lease_seconds=None)
        victim = pool.holder(attached.accelerator_id)
        old = Caller(model, attached.usable_endpoints()[0], attached.token)
        wait_until(lambda: old.num_answers > 20, "answers of the old one")
        proxy.cut.add(victim["host_id"])

        def elsewhere() -> str | None:
            found = pool.session.describe(attached.accelerator_id)
            return found.usable_endpoints()[0] if found.placement == 2 and found.endpoints else None

        wait_until(elsewhere, "another place", 120)
        new = Caller(model, str(elsewhere()), attached.token)
        wait_until(lambda: new.num_answers > 0, "an answer of the new one")
        old.thread.join(60)
        assert not old.thread.is_alive()
        assert old.last_answer < new.first_answer
        proxy.cut.clear()
        wait_until(
            lambda: any(h["host_id"] == victim["host_id"] and h["epoch"] > 1 for h in pool.hosts()),
            "the host's return",
            120,
        )
        answers = new.num_answers
        wait_until(lambda: new.num_answers > answers, "that the new one stays")
        assert pool.holder(attached.accelerator_id)["host_id"] != victim["host_id"]
        pool.session.detach(attached.accelerator_id)
        new.thread.join(60)
    finally:
        pool.close()
        proxy.close()
        shutil.rmtree(folder, ignore_errors=True)
