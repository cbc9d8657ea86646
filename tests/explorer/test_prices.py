"""Prices: reading, errors that name row, field and value, layers, age, and specs against AWS's own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.errors import InvalidInput, PriceMissing
from elastic_inference.explorer.prices import (
    PriceTable,
    load_prices,
    parse_prices,
    read_prices,
    shipped_prices,
)

HEAD = "vendor,name,kind,vcpu,usd_per_hour,region,as_of,source"
GOOD = "mine,box,client,4,0.05,here,2026-10-01,electricity bill"
WriteFile = Callable[[str], Path]


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    def write(text: str) -> Path:
        path = tmp_path / "prices.csv"
        path.write_text(text)
        return path

    return write


def test_every_shipped_row_has_vendor_region_date_and_source() -> None:
    table = shipped_prices()
    assert len(table) >= 24
    for row in table:
        assert row.vendor
        assert row.region
        assert row.source
        assert row.age_days(date(2026, 11, 1)) is not None or row.as_of == "unknown"


def test_price_of_a_combination_is_exact() -> None:
    assert shipped_prices().usd_per_hour("m5.large", "eia1.large") == Decimal("0.356")
    assert shipped_prices().usd_per_hour("p3.2xlarge", None) == Decimal("3.06")


def test_missing_price_is_named_with_its_family() -> None:
    with pytest.raises(PriceMissing, match=r"'m5\.24xlarge'.*m5\.large"):
        shipped_prices().usd_per_hour("m5.24xlarge", None)


def test_accelerator_cannot_be_the_client_nor_a_machine_the_accelerator() -> None:
    with pytest.raises(InvalidInput, match="cannot be the client"):
        shipped_prices().usd_per_hour("eia1.large", None)
    with pytest.raises(InvalidInput, match="cannot be the accelerator"):
        shipped_prices().usd_per_hour("m5.large", "g6.xlarge")


def test_own_rows_lie_on_top_of_the_shipped_ones(write_file: WriteFile) -> None:
    path = write_file(f"{HEAD}\n{GOOD}\naws,m5.large,client,2,0.111,eu-west-1,2026-10,own contract\n")
    table = load_prices(path)
    assert table.get("m5.large").usd_per_hour == Decimal("0.111")
    assert table.get("m5.large").region == "eu-west-1"
    assert table.get("box").vcpu == 4
    assert table.get("p3.2xlarge").usd_per_hour == Decimal("3.06")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mine,box,client,4,-1,here,2026-10,bill", r"line 3, field usd_per_hour.*-1"),
        ("mine,box,client,4,NaN,here,2026-10,bill", r"line 3, field usd_per_hour.*NaN"),
        ("mine,box,client,4,cheap,here,2026-10,bill", r"line 3, field usd_per_hour.*cheap"),
        ("mine,box,client,0,1,here,2026-10,bill", r"line 3, field vcpu.*'0'"),
        ("mine,box,client,1.5,1,here,2026-10,bill", r"line 3, field vcpu.*'1.5'"),
        ("mine,box,client,inf,1,here,2026-10,bill", r"line 3, field vcpu.*'inf'"),
        ("mine,box,gpu,4,1,here,2026-10,bill", r"line 3, field kind.*'gpu'"),
        ("mine,box,client,4,1,here,2026-13,bill", r"line 3, field as_of.*2026-13"),
        ("mine,box,client,4,1,here,last year,bill", r"line 3, field as_of.*last year"),
        ("mine,box,client,4,1,here,2026-10,", r"line 3, field source: is empty"),
        ("mine,box,client,4,1,here", r"line 3: does not have 8 fields"),
        ("mine,other,client,4,1,here,2026-10,bill", r"line 3, name 'other': appears twice"),
    ],
)
def test_wrong_row_is_named_with_field_and_value(row: str, message: str) -> None:
    first = "mine,other,client,4,0.05,here,2026-10,bill"
    with pytest.raises(InvalidInput, match=message):
        parse_prices([HEAD, first, row], "prices.csv")


def test_missing_and_unknown_columns_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"missing: region.*unknown: zone"):
        parse_prices(["vendor,name,kind,usd_per_hour,as_of,source,zone"], "prices.csv")


def test_unreadable_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_prices(tmp_path / "absent.csv")


def test_age_counts_from_the_last_day_of_a_month() -> None:
    rows = parse_prices(
        [
            HEAD,
            GOOD,
            "mine,december,client,4,1,here,2025-12,bill",
            "mine,undated,client,4,1,here,unknown,bill",
        ],
        "x",
    )
    table = PriceTable(rows)
    today = date(2026, 10, 31)
    assert table.get("box").age_days(today) == 30
    assert table.get("december").age_days(today) == 304
    assert [row.name for row in table.old_rows(today)] == ["december", "undated"]


def test_unknown_vendor_lists_the_known() -> None:
    with pytest.raises(InvalidInput, match=r"'ibm'.*aws, azure, gcp"):
        shipped_prices().of_vendor("ibm")
    assert {row.vendor for row in shipped_prices().of_vendor("gcp")} == {"gcp"}


def test_specs_of_aws_rows_are_those_of_aws() -> None:
    moto = pytest.importorskip("moto", reason="moto carries AWS's instance types; it is not installed")
    text = (files(moto) / "ec2" / "resources" / "instance_types.json.gz").read_bytes()
    types: dict[str, Any] = json.loads(gzip.decompress(text))
    compared = 0
    for row in shipped_prices().of_vendor("aws"):
        known = types.get(row.name)
        if known is None:  # an accelerator, or a type that AWS has withdrawn since
            continue
        compared += 1
        assert row.vcpu == known["VCpuInfo"]["DefaultVCpus"], row.name
        assert row.memory_gib is not None
        assert row.memory_gib * 1024 == known["MemoryInfo"]["SizeInMiB"], row.name
        gpus = known.get("GpuInfo", {}).get("Gpus", [])
        assert bool(gpus) == (row.kind == "bundle"), row.name
        for gpu in gpus:
            assert row.accelerator == gpu["Name"], row.name
            assert row.accelerator_fraction == gpu["GpuPartitionSize"], row.name
            assert row.accelerator_memory_mib == gpu["MemoryInfo"]["SizeInMiB"], row.name
    assert compared >= 11
