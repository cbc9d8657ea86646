"""Which client and accelerator are cheapest for a model: measure, cost, search, report.

Names are fetched when first used: cost and prices alone need no scipy, which the rest of the package does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elastic_inference.explorer.analysis import analyse as analyse
    from elastic_inference.explorer.analysis import read_measurements as read_measurements
    from elastic_inference.explorer.article import (
        article_claims as article_claims,
    )
    from elastic_inference.explorer.article import (
        article_rows as article_rows,
    )
    from elastic_inference.explorer.cost import (
        demand_usd as demand_usd,
    )
    from elastic_inference.explorer.cost import (
        sequential_usd as sequential_usd,
    )
    from elastic_inference.explorer.cost import (
        throughput_usd as throughput_usd,
    )
    from elastic_inference.explorer.grid import make_grid as make_grid
    from elastic_inference.explorer.grid import parse_clients as parse_clients
    from elastic_inference.explorer.measuring.in_process import run_in_process as run_in_process
    from elastic_inference.explorer.observation import Observation as Observation
    from elastic_inference.explorer.prices import (
        PriceRow as PriceRow,
    )
    from elastic_inference.explorer.prices import (
        PriceTable as PriceTable,
    )
    from elastic_inference.explorer.prices import (
        load_prices as load_prices,
    )
    from elastic_inference.explorer.reporting.html import write_report as write_report
    from elastic_inference.explorer.reporting.result import (
        Exploration as Exploration,
    )
    from elastic_inference.explorer.reporting.result import (
        to_json as to_json,
    )
    from elastic_inference.explorer.reporting.result import (
        verdict as verdict,
    )
    from elastic_inference.explorer.run import Plan as Plan
    from elastic_inference.explorer.run import explore as explore
    from elastic_inference.explorer.search import find_cheapest as find_cheapest
    from elastic_inference.explorer.search import rank as rank
    from elastic_inference.explorer.search_result import CellState as CellState
    from elastic_inference.explorer.search_result import SearchOptions as SearchOptions
    from elastic_inference.explorer.search_result import SearchResult as SearchResult
    from elastic_inference.explorer.space import Cell as Cell
    from elastic_inference.explorer.space import Space as Space
    from elastic_inference.explorer.space import space_of as space_of

_NAMES = {
    "analysis": ("analyse", "read_measurements"),
    "article": ("article_claims", "article_rows"),
    "cost": ("demand_usd", "sequential_usd", "throughput_usd"),
    "grid": ("make_grid", "parse_clients"),
    "measuring.in_process": ("run_in_process",),
    "observation": ("Observation",),
    "prices": ("PriceRow", "PriceTable", "load_prices"),
    "reporting.html": ("write_report",),
    "reporting.result": ("Exploration", "to_json", "verdict"),
    "run": ("Plan", "explore"),
    "search": ("find_cheapest", "rank"),
    "search_result": ("CellState", "SearchOptions", "SearchResult"),
    "space": ("Cell", "Space", "space_of"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
