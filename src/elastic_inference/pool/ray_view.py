"""Keeps true what Ray believes of its nodes: what accelerators hold, Ray holds too; and its autoscaler hears of need.

A placement group on a node holds resources there without a process. Its name says all of it, so nothing is to be
remembered: a `PoolActor` that was started again finds what the earlier one made.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.pool.demand import Part
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json

logger = logging.getLogger(__name__)

_PREFIX = "accelerator"
_ASK_SECONDS = 5.0
# What Ray cannot hold within this time, because others took it by Ray, would keep its autoscaler busy for nothing.
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 60.0
_UNIT = 1e-4  # Ray counts in these

Resources = dict[str, float]


class RayView:
    """Used by one thread.

    Args:
        url: Of the pool's control API.
        token_file: With the operator's token.
        tls: For a pool that speaks TLS.
    """

    def __init__(self, url: str, token_file: Path, tls: ssl.SSLContext | None) -> None:
        self._pool = Endpoint.parse(url)
        self._token_file = token_file
        self._tls = tls
        self._asked: list[Resources] | None = None  # None: what an earlier one may have asked for stands
        self._waits_since: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}

    def look(self) -> None:
        """Bring Ray up to date; where the pool service does not answer, nothing changes."""
        try:
            told = request_json(
                self._pool,
                "GET",
                "/v1/pool/demand",
                token=self._token_file.read_text().strip(),
                timeout_seconds=_ASK_SECONDS,
                tls=self._tls,
            )
        except (ElasticInferenceError, OSError):
            return
        nodes = {node["NodeID"]: dict(node["Resources"]) for node in ray.nodes() if node["Alive"]}
        held = [Part(**each) for each in told["held"]]
        wanted = [Part(**each) for each in told["wanted"]]
        self._hold({_name(part): (part.node_id, found) for part, found in _of_nodes(held, nodes)})
        self._ask_for(held, wanted, nodes)

    def clear(self) -> None:
        """Hold nothing, and ask for nothing."""
        self._hold({})
        request_resources(bundles=[])

    def _hold(self, parts: Mapping[str, tuple[str, Resources]]) -> None:
        now, there = time.monotonic(), _groups()
        for name, (group_id, _) in there.items():
            if name not in parts:
                _remove(group_id)
        for name, (node_id, found) in parts.items():
            if name in there:
                self._judge(name, *there[name], now)
            elif now - self._refused_at.get(name, -_PAUSE_SECONDS) >= _PAUSE_SECONDS:
                placement_group(
                    [found],
                    strategy="STRICT_PACK",
                    name=name,
                    lifetime="detached",
                    bundle_label_selector=[{"ray.io/node-id": node_id}],
                )
        self._waits_since = {k: at for k, at in self._waits_since.items() if k in parts}
        self._refused_at = {k: at for k, at in self._refused_at.items() if k in parts}

    def _judge(self, name: str, group_id: str, is_held: bool, now: float) -> None:
        if is_held:
            self._waits_since.pop(name, None)
        elif now - self._waits_since.setdefault(name, now) >= _PATIENCE_SECONDS:
            _remove(group_id)
            self._refused_at[name] = now
            logger.warning("on this node others hold by Ray what an accelerator holds", extra={"part": name})

    def _ask_for(self, held: list[Part], wanted: list[Part], nodes: Mapping[str, Resources]) -> None:
        """Ask the autoscaler for a cluster that has all of this; withdrawn as soon as nobody waits."""
        parts = [*held, *wanted] if wanted else []
        bundles = [found for _, found in _of_nodes(parts, nodes)]
        if bundles != self._asked:
            request_resources(bundles=bundles)
            self._asked = bundles


def _of_nodes(parts: Iterable[Part], nodes: Mapping[str, Resources]) -> Iterable[tuple[Part, Resources]]:
    """Return what each part is in Ray's own resources; nothing where its node has none of them, or is gone."""
    for part in parts:
        node = nodes.get(part.node_id, {})
        wanted = {
            "CPU": part.cpu_share * node.get("CPU", 0.0),
            "GPU": min(part.num_gpus, node.get("GPU", 0.0)),
        }
        # Rounded down: else what fills a host might not fit its node.
        found = {name: int(value / _UNIT + 1e-6) * _UNIT for name, value in wanted.items() if value >= _UNIT}
        if found:
            yield part, found


def _name(part: Part) -> str:
    return f"{_PREFIX}/{part.key}/{part.node_id}/{part.cpu_share:.4f}/{part.num_gpus:.4f}"


def _groups() -> dict[str, tuple[str, bool]]:
    """Return the placement groups of accelerators by name: the id of each, and whether Ray holds what it says."""
    return {
        row["name"]: (row["placement_group_id"], row["state"] == "CREATED")
        for row in placement_group_table().values()
        if row["name"].startswith(f"{_PREFIX}/") and row["state"] != "REMOVED"
    }


def _remove(group_id: str) -> None:
    remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group_id))))
