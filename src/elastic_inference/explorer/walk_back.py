"""The article's own method, kept for comparison: start with the largest of both, go back until it is too small."""

from __future__ import annotations

from dataclasses import dataclass

from elastic_inference.explorer.cost import sequential_usd
from elastic_inference.explorer.observation import Measure, Observation
from elastic_inference.explorer.prices import PriceTable
from elastic_inference.explorer.space import Cell, Space


@dataclass(frozen=True)
class WalkBackResult:
    """The cheapest of what the walk measured and found fast enough; None where the very first was too slow."""

    winner: Cell | None
    measured: tuple[Cell, ...]

    def sentence(self) -> str:
        """Return what was found, and on which way."""
        found = "finds nothing" if self.winner is None else f"names {self.winner.name}"
        names = " -> ".join(cell.name for cell in self.measured)
        return f"Walk-back {found}; its way: {names}."


def smallest_first(space: Space, prices: PriceTable) -> tuple[list[str], list[str]]:
    """Clients and accelerators of the cells that have both, in the order in which they are walked back."""

    def size(name: str) -> tuple[float, float, float]:
        row = prices.get(name)
        return (row.vcpu or 0, row.fp32_tflops or row.accelerator_fraction or 0, row.memory_gib or 0)

    pairs = [cell for cell in space.usd_per_hour if cell.accelerator is not None]
    clients = sorted({cell.client for cell in pairs}, key=size)
    return clients, sorted({str(cell.accelerator) for cell in pairs}, key=size)


def walk_back(
    space: Space,
    clients: list[str],
    accelerators: list[str],
    measure: Measure,
    target_latency_seconds: float | None = None,
) -> WalkBackResult:
    """Walk back from the largest.

    Args:
        clients: Smallest first, as the article orders them.
        accelerators: Smallest first.
        target_latency_seconds: What "too small" means; without it the walk ends at the smallest of both.
    """
    seen: dict[Cell, Observation] = {}

    def is_enough(client: int, accelerator: int) -> bool:
        cell = Cell(clients[client], accelerators[accelerator])
        seen[cell] = measure(cell)
        latency = seen[cell].latency_seconds
        if seen[cell].problem or latency is None:
            return False
        tail = seen[cell].target_latency_seconds or latency
        return target_latency_seconds is None or tail <= target_latency_seconds

    client, accelerator = len(clients) - 1, len(accelerators) - 1
    enough: list[Cell] = []
    if is_enough(client, accelerator):
        enough.append(Cell(clients[client], accelerators[accelerator]))
        while client > 0 and is_enough(client - 1, accelerator):
            client -= 1
            enough.append(Cell(clients[client], accelerators[accelerator]))
        while accelerator > 0 and is_enough(client, accelerator - 1):
            accelerator -= 1
            enough.append(Cell(clients[client], accelerators[accelerator]))
    winner = min(
        enough,
        key=lambda cell: sequential_usd(space.usd_per_hour[cell], seen[cell].latency_seconds or 0),
        default=None,
    )
    return WalkBackResult(winner, tuple(seen))
