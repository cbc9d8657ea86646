"""Kinds of hosts: what they offer is what a host of theirs would."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput, PriceMissing
from elastic_inference.explorer.prices import load_prices
from elastic_inference.host.devices import Device
from elastic_inference.host.settings import offered_memory_bytes
from elastic_inference.pool.planning.kinds import kinds_of

PRICES = load_prices()
GIB = 1024**3


def read(folder: Path, text: str) -> list:
    (folder / "kinds.toml").write_text(text)
    return kinds_of(str(folder / "kinds.toml"), PRICES)


def test_rows_of_prices_are_kinds() -> None:
    small, gpu = kinds_of("m5.xlarge, g6.xlarge", PRICES)
    assert small.usd_per_hour == Decimal("0.192")
    (cpu,) = small.capacity.devices
    assert (cpu.kind, cpu.fp32_tflops) == ("cpu", 0.14)
    assert cpu.memory_bytes == offered_memory_bytes(Device("cpu:0", "cpu", "", 4, 16 * GIB)) < 16 * GIB
    assert {"cpu.quarter", "cpu.half", "cpu.whole", "eia1.medium"} <= small.catalogue.keys()
    assert small.share_of_host("cpu.quarter") == 0.25
    assert small.share_of_host("eia1.medium") is None  # of 1 TFLOPS
    assert small.share_of_host("gpu.half") is None
    assert gpu.features == {"cuda:L4"}
    assert gpu.capacity.devices[0].kind == "cuda"
    assert gpu.share_of_host("gpu.half") == 0.5
    assert gpu.host(3).host_id == "g6.xlarge-00003"


def test_a_file_says_what_differs_from_a_row_or_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "types.toml").write_text('["own.small"]\nmemory = "1GiB"\ndevice_share = 0.125\n')
    one, two = read(
        tmp_path,
        """
        [rack]
        cores = 32
        memory = "128GiB"
        fp32_tflops = 2.5
        usd_per_hour = 0.31
        features = ["bf16"]
        max_hosts = 4
        types = "types.toml"

        [cloud]
        price = "g6.2xlarge"
        gpus = 2
        usd_per_hour = "1.5"
        """,
    )
    assert (one.usd_per_hour, one.max_hosts, one.features) == (Decimal("0.31"), 4, {"bf16"})
    assert one.share_of_host("own.small") == 0.125
    assert one.share_of_host("eia1.medium") == 0.5
    assert len(two.capacity.devices) == 2
    assert two.usd_per_hour == Decimal("1.5")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\nmemory = '1GiB'", "kind 'a': cores is missing, and no price row says it"),
        ("[a]\ncores = 4", "kind 'a': memory is missing"),
        ("[a]\ncores = -4\nmemory = '1GiB'", "kind 'a': cores -4.0 must be above 0"),
        ("[a]\ncores = nan\nmemory = '1GiB'", "kind 'a': cores nan must be above 0"),
        ("[a]\ncores = inf\nmemory = '1GiB'", "kind 'a': cores inf must be above 0"),
        ("[a]\ncores = 4\nmemory = 'much'", "size 'much' is not a number"),
        ("[a]\ncore = 4", "kind 'a': unknown field 'core'; known are price, cores, "),
        ("[a]\ncores = '4'", "kind 'a': cores must be a valid number, not '4'"),
        ("[a]\nprice = 'm5.xlarge'\nmax_hosts = -1", "max_hosts -1 is not between"),
        ("[a]\nprice = 'm5.xlarge'\ngpus = 1", "gpu_memory is missing"),
        ("[a]\nprice = 'm5.xlarge'\ngpus = 100", "gpus 100 is not between 0 and 64"),
        ("[a]\nprice = 'eia1.medium'\ncores = 1\nmemory = '4GiB'", "is an accelerator in the prices"),
        ("[a]\nprice = 'm5.xlarge'\nusd_per_hour = -1", "usd_per_hour '-1' must be finite and 0 or more"),
        ("[a]\nprice = 'm5.xlarge'\nfp32_tflops = -1.0", "fp32_tflops -1.0 must be finite"),
        ("[a]\nprice = 'm5.xlarge'\nprofile = 'none.json'", "cannot be read"),
        ("[m5.xlarge]\ncores = 4", 'a name with a dot stands in quotes, as in ["m5.xlarge"]'),
        ("a = 1", "kind 'a' must be a table"),
        ("", "has no table"),
        ("[", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_kind_field_and_value(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path, text)
    assert complaint in str(refused.value)
    assert "kinds.toml" in str(refused.value)


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(PriceMissing, match=r"no price for 'm5\.huge'"):
        kinds_of("m5.huge", PRICES)
    with pytest.raises(InvalidInput, match="names a kind twice"):
        kinds_of("m5.xlarge,m5.xlarge", PRICES)
    with pytest.raises(InvalidInput, match="names no kind of host"):
        kinds_of(" , ", PRICES)
    with pytest.raises(InvalidInput, match="No such file"):
        kinds_of(str(tmp_path / "none.toml"), PRICES)
