"""Which clients and accelerators an exploration combines, and what each costs and can do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import InvalidInput, ProtocolError
from elastic_inference.explorer.prices import REQUIRED_COLUMNS, PriceRow, PriceTable
from elastic_inference.explorer.space import Cell

CORES = "cores="
ALL = "all"
# What a hardware thread costs where the user names no price: the article's cheapest client.
CORE_PRICE_OF = "m5.large"


@dataclass(frozen=True)
class Client:
    """A client to measure from.

    Attributes:
        cores: Processor numbers of this machine that stand in for it; None: a client elsewhere, that joins.
    """

    name: str
    cores: tuple[int, ...] | None


@dataclass(frozen=True)
class Grid:
    """The combinations, their prices, and what a reader must know of both."""

    clients: tuple[Client, ...]
    cells: tuple[Cell, ...]
    prices: PriceTable
    warnings: tuple[str, ...]

    def client(self, name: str) -> Client:
        """Return the client of this name."""
        return next(client for client in self.clients if client.name == name)


def parse_clients(text: str, usable: Sequence[int] | None = None) -> tuple[Client, ...]:
    """Read `cores=1,2` (this machine, bound to so many cores) and names of clients that will join.

    Raises:
        InvalidInput: More cores than this machine lets the process use, or nothing is named.
    """
    cores = sorted(os.sched_getaffinity(0)) if usable is None else list(usable)
    clients: dict[str, Client] = {}
    counts_cores = False
    for part in (part.strip() for part in text.split(",")):
        counts_cores = part.startswith(CORES) or (counts_cores and part.isdigit())
        client = (
            _core_client(part.removeprefix(CORES), cores)
            if counts_cores
            else Client(_named(part, text), None)
        )
        clients[client.name] = client
    return tuple(clients.values())


def _core_client(number: str, cores: Sequence[int]) -> Client:
    if not number.isdigit() or not 1 <= int(number) <= len(cores):
        raise InvalidInput(f"cores={number}: this process may use 1 to {len(cores)} cores")
    # The last cores: on most machines the first ones serve more interrupts.
    return Client(f"{CORES}{int(number)}", tuple(cores[-int(number) :]))


def _named(part: str, text: str) -> str:
    if not part:
        raise InvalidInput(f"clients {text!r}: a name is empty")
    return part


def host_types(session: HostSession) -> list[PriceRow]:
    """Return what a host offers, as price rows; a type without price has none and is left to the caller.

    Raises:
        ConnectError: The host cannot be reached. PermissionDenied: The token is wrong.
        ProtocolError: Something else answered.
    """
    value = session.request("GET", "/v1/types")
    try:
        return [_type_row(kind, session.url) for kind in _type_list(value)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"{session.url} does not answer as a host of accelerators: {error!r}") from error


def _type_list(value: Any) -> list[Mapping[str, Any]]:
    return list(value["types"] if isinstance(value, dict) else value)


def _type_row(kind: Mapping[str, Any], url: str) -> PriceRow:
    usd = kind["usd_per_hour"]
    return PriceRow(
        vendor="host",
        name=kind["name"],
        kind="accelerator",
        usd_per_hour=Decimal("NaN") if usd is None else Decimal(usd),
        region=url,
        as_of=date.today().isoformat(),
        source=kind.get("price_source") or "the host's catalogue",
        accelerator="" if kind["device_share"] is None else "device of the host",
        accelerator_fraction=kind["device_share"],
        accelerator_memory_mib=kind["memory_bytes"] / 2**20,
        fp32_tflops=kind["fp32_tflops"],
    )


def make_grid(
    clients: Sequence[Client],
    accelerators: Sequence[str],
    precisions: Sequence[str],
    prices: PriceTable,
    offered: Sequence[PriceRow] = (),
    with_no_accelerator: bool = True,
) -> Grid:
    """Combine everything with everything.

    Args:
        accelerators: Names of types that the host offers, or `all`.
        prices: Prices in force; a price in the user's own file goes before the host's.
        offered: What the host offers.
        with_no_accelerator: Whether each client alone is explored too.

    Raises:
        InvalidInput: A type is named that the host does not offer, or nothing is left to combine.
    """
    names = [row.name for row in offered] if list(accelerators) == [ALL] else list(accelerators)
    unknown = [name for name in names if name not in {row.name for row in offered}]
    if unknown:
        known = ", ".join(row.name for row in offered) or "nothing, because no host is given"
        raise InvalidInput(f"accelerators {', '.join(unknown)} are not offered; the host offers {known}")
    table, warnings = _with_core_prices(prices, clients)
    unpriced = [row for row in offered if not row.usd_per_hour.is_finite() and row.name not in table]
    # The host says what its types are; a price for one may come from the user's table.
    table = table.with_rows([_own_price(row, table) for row in offered if row not in unpriced])
    if any(row.name in names for row in unpriced):
        missing = ", ".join(row.name for row in unpriced if row.name in names)
        first = next(row.name for row in unpriced if row.name in names)
        warnings.append(
            f"The host has no price for {missing}; add rows to your own prices file (--prices), such as "
            f"mine,{first},accelerator,0.05,here,{date.today():%Y-%m},own under the columns "
            f"{','.join(REQUIRED_COLUMNS)}."
        )
    choices: list[str | None] = [*([None] if with_no_accelerator else []), *names]
    cells = tuple(
        Cell(client.name, accelerator, precision)
        for precision in precisions
        for client in clients
        for accelerator in choices
    )
    if not cells:
        raise InvalidInput("nothing to explore: no client, no accelerator, or no precision is left")
    if any(client.cores is not None for client in clients):
        warnings.append(
            "Clients named cores=N are this machine limited to N of its cores: their memory and network are this "
            "machine's."
        )
    if len(set(precisions)) > 1:
        warnings.append(
            "Precisions below fp32 change the answers, not only the speed: check them on your data."
        )
    return Grid(tuple(clients), cells, table, tuple(warnings))


def _own_price(row: PriceRow, table: PriceTable) -> PriceRow:
    """Return the host's row at the user's own price; where there is none, at the host's, else at a shipped one."""
    if row.usd_per_hour.is_finite() and not table.is_own(row.name):
        return row
    known = table.get(row.name)
    values = {
        **row.__dict__,
        "usd_per_hour": known.usd_per_hour,
        "source": known.source,
        "as_of": known.as_of,
    }
    return PriceRow(**values)


def _with_core_prices(prices: PriceTable, clients: Sequence[Client]) -> tuple[PriceTable, list[str]]:
    """Rows for `cores=N` that the user's file does not price: so many hardware threads of a cheap client."""
    local = [client for client in clients if client.cores is not None]
    unpriced = [client for client in local if client.name not in prices]
    base = prices.get(CORE_PRICE_OF)
    core_usd = base.usd_per_hour / (base.vcpu or 1)
    rows = [
        PriceRow(
            vendor="this machine",
            name=client.name,
            kind="client",
            usd_per_hour=core_usd * len(client.cores or ()),
            region=base.region,
            as_of=base.as_of,
            source=f"{len(client.cores or ())} vCPU at the price of {CORE_PRICE_OF}'s",
            vcpu=len(client.cores or ()),
        )
        for client in unpriced
    ]
    if not rows:
        return prices, []
    names = ", ".join(row.name for row in rows)
    return prices.with_rows(rows), [
        f"No price is given for {names}; {core_usd} USD per core and hour is taken, as in {CORE_PRICE_OF} "
        f"({base.as_of}). Rows of these names in your prices file replace it."
    ]
