"""The article's measurements and its claims, computed anew from them: which hold and which do not.

"Optimizing costs in Amazon Elastic Inference with TensorFlow", AWS Machine Learning Blog, July 2019:
Faster R-CNN ResNet-50, one 1080p frame a call. Every computed figure comes from the measured rows and the
prices; only what the article itself printed is typed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from importlib.resources import files
from pathlib import Path

from elastic_inference.explorer import cost
from elastic_inference.explorer.prices import PriceTable, shipped_prices

# What the article's notebook printed for 40 frames on m5.large, without and with eia1.large; seconds.
NOTEBOOK_LOCAL_FRAME_SECONDS = Decimal("2.86271090508")
NOTEBOOK_EI_FRAME_SECONDS = Decimal("0.23773444891")
NOTEBOOK_EI_LOAD_SECONDS = Decimal("21.4445838928")
# What its introduction says for the same 40 frames.
INTRODUCTION_LOCAL_SECONDS = Decimal("113.699")
INTRODUCTION_EI_SECONDS = Decimal("8.883")
VIDEO_FRAMES = 340


@dataclass(frozen=True)
class ArticleRow:
    """One row of the article's tables; `accelerator` is None for a machine alone."""

    client: str
    accelerator: str | None
    latency_seconds: Decimal
    published_usd_per_hour: Decimal
    published_usd_per_100k: Decimal


@dataclass(frozen=True)
class Claim:
    """One figure that the article states, beside the same figure computed.

    Attributes:
        text: What is claimed.
        published: As printed, with its unit.
        computed: Unrounded, in the same unit; None where the prices in force make it a share of nothing.
        unit: `x`, `%`, `USD` or a noun.
        holds: Whether `computed`, written with the published number of digits, is what was printed.
    """

    text: str
    published: Decimal
    computed: Decimal | None
    unit: str
    holds: bool

    @property
    def computed_text(self) -> str:
        """Computed to the digits that show whether the claim holds."""
        if self.computed is None:
            return "undefined"
        digits = Decimal("0.01") if self.unit in ("x", "USD") else Decimal("0.1")
        return f"{self.computed.quantize(digits, ROUND_HALF_UP)}{_suffix(self.unit)}"

    @property
    def published_text(self) -> str:
        """As printed."""
        return f"{self.published}{_suffix(self.unit)}"


def article_path() -> Path:
    """Return the article's measurements as a file that `analysis.read_measurements` reads."""
    return Path(str(files("elastic_inference.explorer") / "data" / "article_measurements.csv"))


def article_rows() -> list[ArticleRow]:
    """Return the 16 combinations that the article measured."""
    path = article_path()
    return [
        ArticleRow(
            record["client"],
            record["accelerator"] or None,
            Decimal(record["latency_ms"]) / 1000,
            Decimal(record["published_usd_per_hour"]),
            Decimal(record["published_usd_per_100k"]),
        )
        for record in csv.DictReader(path.read_text("utf-8").splitlines())
    ]


def article_claims(prices: PriceTable | None = None) -> list[Claim]:
    """Every figure that the article concludes with, computed from its own measurements and prices."""
    table = prices or shipped_prices()
    rows = {(row.client, row.accelerator): row for row in article_rows()}

    def latency(client: str, accelerator: str | None = None) -> Decimal:
        return rows[client, accelerator].latency_seconds

    def price(client: str, accelerator: str | None = None) -> Decimal:
        return table.usd_per_hour(client, accelerator)

    def usd(client: str, accelerator: str | None = None) -> Decimal:
        return cost.sequential_usd(price(client, accelerator), latency(client, accelerator))

    def saved(client: str, accelerator: str, other: str) -> Decimal | None:
        return _percent_less(_ratio(usd(client, accelerator), usd(other)))

    large, xlarge = ("m5.large", "eia1.large"), ("m5.large", "eia1.xlarge")
    cpu = "m5.4xlarge"
    introduction = _ratio(
        price(*large) * INTRODUCTION_EI_SECONDS, price("m5.large") * INTRODUCTION_LOCAL_SECONDS
    )
    notebook = _ratio(
        price(*large) * NOTEBOOK_EI_FRAME_SECONDS, price("m5.large") * NOTEBOOK_LOCAL_FRAME_SECONDS
    )
    videos = (3600 - NOTEBOOK_EI_LOAD_SECONDS) / (VIDEO_FRAMES * NOTEBOOK_EI_FRAME_SECONDS)
    speed_over_cpu, speed_over_p2 = latency(cpu) / latency(*xlarge), latency("p2.xlarge") / latency(*xlarge)
    speed_of_p3 = latency("p2.xlarge") / latency("p3.2xlarge")
    return [
        _claim("m5.large + eia1.xlarge is faster than m5.4xlarge", "2.95", speed_over_cpu, "x"),
        _claim("and saves, against m5.4xlarge", "73", saved(*xlarge, cpu), "%"),
        _claim("m5.large + eia1.xlarge is faster than p2.xlarge", "1.4", speed_over_p2, "x"),
        _claim("and saves, against p2.xlarge", "51", saved(*xlarge, "p2.xlarge"), "%"),
        _claim("m5.large + eia1.large saves at least (p2.xlarge)", "55", saved(*large, "p2.xlarge"), "%"),
        _claim("m5.large + eia1.large saves at most (m5.4xlarge)", "75", saved(*large, cpu), "%"),
        _claim(
            "hourly saving: m5.large + eia1.xlarge for m5.4xlarge", "0.15", price(cpu) - price(*xlarge), "USD"
        ),
        _claim(
            "hourly saving: m5.large + eia1.large for m5.4xlarge", "0.41", price(cpu) - price(*large), "USD"
        ),
        _claim("340-frame videos an hour, m5.large + eia1.large", "44", videos, "videos", ROUND_FLOOR),
        _claim("p3.2xlarge is faster than p2.xlarge", "3.34", speed_of_p3, "x"),
        _claim("eia1.large improves the cost of 40 frames by", "78.5", _percent_less(introduction), "%"),
        _claim(
            "eia1.large does the task at this share of the cost",
            "27.5",
            None if notebook is None else 100 * notebook,
            "%",
        ),
    ]


def _claim(
    text: str, published: str, computed: Decimal | None, unit: str, rounding: str = ROUND_HALF_UP
) -> Claim:
    printed = Decimal(published)
    holds = computed is not None and computed.quantize(printed, rounding) == printed
    return Claim(text, printed, computed, unit, holds)


def _ratio(part: Decimal, whole: Decimal) -> Decimal | None:
    """None where the whole is nothing, as the cost of a machine is whose price the user has set to 0."""
    return part / whole if whole else None


def _percent_less(ratio: Decimal | None) -> Decimal | None:
    return None if ratio is None else 100 * (1 - ratio)


def _suffix(unit: str) -> str:
    return unit if unit in ("x", "%") else f" {unit}"
