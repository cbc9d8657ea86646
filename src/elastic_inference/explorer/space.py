"""What can be combined, and which combination is at least as capable as which: a partial order, never by price.

Half an L4 with 16 cores costs more than a whole one with 4; price says nothing about speed. Two machines are
comparable only where every size that is known of both points the same way; all others stay incomparable,
and the search then draws no conclusion from one about the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.prices import PriceRow, PriceTable

DEFAULT_PRECISION = "fp32"


@dataclass(frozen=True)
class Cell:
    """One combination to measure.

    Attributes:
        client: Name of a client or bundle.
        accelerator: Name of an accelerator attached to it; None for the client alone.
        precision: In which the engine computes. Less than fp32 is another answer, not only another speed.
    """

    client: str
    accelerator: str | None = None
    precision: str = DEFAULT_PRECISION

    @property
    def name(self) -> str:
        """As people read it: `m5.large + eia1.large`, with the precision where it is not fp32."""
        pair = self.client if self.accelerator is None else f"{self.client} + {self.accelerator}"
        return pair if self.precision == DEFAULT_PRECISION else f"{pair} ({self.precision})"


@dataclass(frozen=True)
class Space:
    """The combinations of one exploration.

    Attributes:
        cells: All of them, in the order in which tables show them.
        usd_per_hour: Price of each; a cell without price is never measured and never wins.
        is_at_least: Whether the first cell is at least as capable as the second; reflexive and transitive.
        features: Numbers, 0 or more, whose weighted sum should be near the latency of a cell.
        missing: Why a cell has no price, for those that have none.
        prior: A first guess at what each feature contributes at most, as a multiple of a typical latency.
    """

    cells: tuple[Cell, ...]
    usd_per_hour: dict[Cell, Decimal]
    is_at_least: Callable[[Cell, Cell], bool]
    features: Callable[[Cell], Sequence[float]]
    prior: tuple[float, ...] | None = None
    missing: Mapping[Cell, str] = field(default_factory=dict)


def space_of(cells: Sequence[Cell], prices: PriceTable) -> Space:
    """Lay out cells over a price table; a cell without price is kept, with the reason, and never ranked."""
    missing: dict[Cell, str] = {}
    usd: dict[Cell, Decimal] = {}
    for cell in cells:
        try:
            usd[cell] = prices.usd_per_hour(cell.client, cell.accelerator)
        except InvalidInput as error:
            missing[cell] = str(error)

    def is_at_least(strong: Cell, weak: Cell) -> bool:
        return (
            strong.precision == weak.precision
            and machine_is_at_least(prices.get(strong.client), prices.get(weak.client))
            and _accelerator_is_at_least(prices, strong.accelerator, weak.accelerator)
        )

    precisions = sorted({cell.precision for cell in cells})

    def features(cell: Cell) -> Sequence[float]:
        client = prices.get(cell.client)
        attached = None if cell.accelerator is None else prices.get(cell.accelerator)
        return _features(client, attached, [cell.precision == one for one in precisions])

    prior = (*_PRIOR_SHARED, *(_PRIOR_BY_PRECISION * len(precisions)))
    return Space(tuple(cells), usd, is_at_least, features, prior, missing)


def machine_is_at_least(strong: PriceRow, weak: PriceRow) -> bool:
    """Whether one machine or accelerator can do all that the other can, as far as the table tells.

    Within a vendor's family (`m5`) or one model of device the sizes decide. Between families cores are not
    comparable, so float32 speed must be known of both and decide together with cores and memory.
    """
    if strong.name == weak.name:
        return True
    if strong.accelerator != weak.accelerator or strong.kind != weak.kind:
        return False
    same_family = _family(strong) == _family(weak) or bool(strong.accelerator)
    if not same_family and (strong.fp32_tflops is None or weak.fp32_tflops is None):
        return False
    pairs = [
        (strong.fp32_tflops, weak.fp32_tflops),
        (strong.accelerator_fraction, weak.accelerator_fraction),
        (strong.vcpu, weak.vcpu),
        (strong.memory_gib, weak.memory_gib),
        (strong.accelerator_memory_mib, weak.accelerator_memory_mib),
    ]
    known = [(s, w) for s, w in pairs if s is not None and w is not None]
    return bool(known) and all(s >= w for s, w in known)


def _accelerator_is_at_least(prices: PriceTable, strong: str | None, weak: str | None) -> bool:
    # No accelerator and some accelerator are incomparable: a small remote one can be slower than a large client.
    if strong is None or weak is None:
        return strong is weak
    return machine_is_at_least(prices.get(strong), prices.get(weak))


def _family(row: PriceRow) -> str:
    # aws m5.large -> m5; azure NV6ads_A10_v5 and gcp g4-standard-6 carry the size inside, so they stand alone
    # here and are compared through their accelerator.
    return f"{row.vendor}/{row.name.split('.')[0]}"


def _features(client: PriceRow, attached: PriceRow | None, precision: list[bool]) -> list[float]:
    client_size = float(client.vcpu or 1)
    shrinking = [1 / client_size, client_size**-0.5]
    compute = attached if attached is not None else client if client.accelerator else None
    if compute is None:
        groups = [*shrinking, 0.0, 0.0, 0.0]
    else:
        size = float(compute.fp32_tflops or compute.accelerator_fraction or 1)
        groups = [0.0, 0.0, 1.0, 1 / size, size**-0.5]
    # Each precision has its own speed on each side; what the client does itself is the same for all.
    by_precision = [value if on else 0.0 for on in precision for value in groups]
    return [1.0, *shrinking, *by_precision]


# The model itself is most of the time and shrinks with what runs it, somewhere between the root of its size and
# all of it; the client's own part and the wire are small.
_PRIOR_SHARED = (0.1, 0.5, 0.5)
_PRIOR_BY_PRECISION = (4.0, 4.0, 0.1, 4.0, 4.0)
