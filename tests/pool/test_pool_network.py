"""A network that is cut between a node and the rest, and heals: never do two accelerators with one id both answer."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from elastic_inference.client.host_session import Attachment
from elastic_inference.errors import ElasticInferenceError
from tests.pool.asking import Asker
from tests.pool.cluster import RAY, PoolCluster
from tests.pool.network import Network, why_not
from tests.waiting import wait_until

HEAD, CUT = 0, 1
TRY_SECONDS = 5.0  # of a client that asks one address, and asks again
CALL_SECONDS = 150.0  # of one that asks the pool where its accelerator is

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not RAY.exists(), reason="needs ray (pip install 'elastic-inference[pool]')"),
]


def test_a_cut_network_never_has_two_that_answer(model: Path) -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="eip-", dir="/tmp"))
    folder.chmod(0o711)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = Network(2)
        stack.callback(network.close)
        pool = PoolCluster(folder, 2, network=network)
        stack.callback(pool.close)
        at_head, victim = sorted(pool.hosts(), key=lambda host: network.address(CUT) in host["url"])
        attached = _attach_at(pool, victim, at_head)
        (old_address,) = [text for text in attached.endpoints if text.startswith("tcp:")]
        assert network.address(CUT) in old_address

        def asker(machine: int, timeout_seconds: float, **where: str) -> Asker:
            where["token"] = attached.token
            inside = network.apart(machine, folder / "p" / "hosts")  # they meet by the network alone
            made = Asker(inside, model, where, timeout_seconds)
            stack.callback(made.close)
            made.wait(20, f"on machine {machine}")
            return made

        beside_old = asker(CUT, TRY_SECONDS, address=old_address)
        from_afar = asker(HEAD, TRY_SECONDS, address=old_address)
        by_pool = asker(HEAD, CALL_SECONDS, id=attached.accelerator_id, host=pool.url)
        network.cut(CUT)
        cut_at = time.monotonic()
        by_pool.wait(50, "elsewhere", cut_at)  # nothing of the other machine is reached any more
        assert pool.session.describe(attached.accelerator_id).placement == 2
        assert beside_old.answers(cut_at), "it answered whom it could reach, until its lease ended"
        first_elsewhere = min(each.ended for each in by_pool.answers(cut_at))
        network.heal(CUT)
        healed_at = time.monotonic()

        def is_back() -> bool:
            """The host came back to its pool with nothing, or Ray had given its node up, and ended it."""
            with contextlib.suppress(ElasticInferenceError):
                hosts = pool.hosts()
                return pool.nodes[CUT].process.poll() is not None or any(
                    host["host_id"] == victim["host_id"] and host["epoch"] > victim["epoch"] for host in hosts
                )
            return False

        wait_until(is_back, "the host's return", 180)
        by_pool.wait(50, "after the network healed", healed_at)
        for old in (beside_old, from_afar):
            wait_until(
                lambda old=old: sum(each.began > healed_at for each in list(old.tries)) >= 5,
                "tries after it",
                120,
            )
            old.close()
        by_pool.close()
        assert pool.holder(attached.accelerator_id)["host_id"] == at_head["host_id"]
        # Asked after another one had answered under the same id, the old one never answered.
        assert beside_old.answers(first_elsewhere) == from_afar.answers(first_elsewhere) == []
        assert {each.outcome for each in by_pool.tries} == {"right"}
        assert not any(each.outcome == "wrong" for each in (*beside_old.tries, *from_afar.tries))
        last_of_old = max(each.ended for each in beside_old.answers())
        print(
            f"cut for {healed_at - cut_at:.1f} s; the old one answered for {last_of_old - cut_at:.2f} s more; the "
            f"first answer elsewhere {first_elsewhere - last_of_old:.2f} s after its last; {len(by_pool.tries)} calls "
            f"by the pool, {len(beside_old.tries)} beside the old one, {len(from_afar.tries)} from afar"
        )


def _attach_at(pool: PoolCluster, wanted: dict[str, object], other: dict[str, object]) -> Attachment:
    path = f"/v1/pool/hosts/{other['host_id']}/drain"
    pool.session.request("POST", path, {"is_draining": True})
    attached = pool.session.attach("tiny", lease_seconds=None)
    pool.session.request("POST", path, {"is_draining": False})
    assert pool.holder(attached.accelerator_id)["host_id"] == wanted["host_id"]
    return attached
