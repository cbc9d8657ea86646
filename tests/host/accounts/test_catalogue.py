"""Accelerator types: the catalogue's own rows and a user's file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.catalogue import (
    AMAZON_TYPES,
    AcceleratorType,
    catalogue,
    cpu_types,
    load_types,
)

GIB = 1024**3


def test_amazon_types_have_the_published_figures() -> None:
    rows = {t.name: (t.fp32_tflops, t.memory_bytes // GIB, t.usd_per_hour) for t in AMAZON_TYPES}
    assert rows == {
        "eia1.medium": (1.0, 1, Decimal("0.13")),
        "eia1.large": (2.0, 2, Decimal("0.26")),
        "eia1.xlarge": (4.0, 4, Decimal("0.52")),
        "eia2.medium": (1.0, 2, None),
        "eia2.large": (2.0, 4, None),
        "eia2.xlarge": (4.0, 8, None),
    }


def test_cpu_types_divide_the_memory_by_their_share() -> None:
    quarter, half, whole = cpu_types(8 * GIB)
    assert (quarter.memory_bytes, half.memory_bytes, whole.memory_bytes) == (2 * GIB, 4 * GIB, 8 * GIB)
    assert (quarter.device_share, half.device_share, whole.device_share) == (0.25, 0.5, 1.0)


def test_a_later_group_replaces_a_type_of_the_same_name() -> None:
    mine = AcceleratorType("eia1.medium", GIB, device_share=0.5)
    assert catalogue(AMAZON_TYPES, [mine])["eia1.medium"] is mine


def test_share_of_a_device_from_tflops() -> None:
    kind = AcceleratorType("a", GIB, fp32_tflops=1.0)
    assert kind.share_of(4.0) == 0.25
    assert kind.share_of(0.5) == 2.0
    assert kind.share_of(0.0) > 1e300


def test_types_file_is_read_with_and_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "types.toml"
    path.write_text(
        '[team.small]\nmemory = "512MiB"\ndevice_share = 0.1\nusd_per_hour = "0.02"\nmay_burst = true\n'
        '["team.big"]\nmemory = 2147483648\nfp32_tflops = 2\nusd_per_hour = 0.13\n'
        "[plain]\nmemory = '1GB'\ndevice_share = 1\n"
    )
    small, big, plain = load_types(path)
    assert small == AcceleratorType(
        "team.small", 512 * 1024**2, device_share=0.1, usd_per_hour=Decimal("0.02"), may_burst=True,
        price_source="types file",
    )  # fmt: skip
    assert (big.name, big.memory_bytes, big.fp32_tflops, big.usd_per_hour) == (
        "team.big", 2 * GIB, 2.0, Decimal("0.13"),
    )  # fmt: skip
    assert (plain.memory_bytes, plain.usd_per_hour) == (10**9, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a]\ndevice_share = 0.5", "field 'memory' is missing"),
        ('[a]\nmemory = "1GB"', "exactly one of fp32_tflops and device_share"),
        ('[a]\nmemory = "1GB"\nfp32_tflops = 1\ndevice_share = 0.5', "exactly one of"),
        ('[a]\nmemory = "1GB"\ndevice_share = 1.5', "device_share 1.5 is not above 0 and up to 1"),
        ('[a]\nmemory = "1GB"\ndevice_share = nan', "device_share nan"),
        ('[a]\nmemory = "1GB"\nfp32_tflops = -1', "fp32_tflops -1.0 is not above 0"),
        ('[a]\nmemory = "1GB"\nfp32_tflops = "1"', "fp32_tflops must be a valid number, not '1'"),
        ('[a]\nmemory = "1 parsec"\ndevice_share = 1', "memory: size '1 parsec'"),
        ("[a]\nmemory = true\ndevice_share = 1", "memory must be text"),
        ("[a]\nmemory = 5\ndevice_share = 1", "memory 5 B is not between 192.0 MiB"),
        ('[a]\nmemory = "1GB"\ndevice_share = 1\nusd_per_hour = "-1"', "usd_per_hour '-1' must be finite"),
        ('[a]\nmemory = "1GB"\ndevice_share = 1\nusd_per_hour = []', "usd_per_hour must be a number"),
        ('[a]\nmemory = "1GB"\ndevice_share = 1\nmay_burst = 1', "may_burst must be a valid boolean, not 1"),
        ('[a]\nmemory = "1GB"\ndevice_share = 1\nprize = 1', "unknown field 'prize'"),
        ('["A b"]\nmemory = "1GB"\ndevice_share = 1', "type name 'A b' is not 1 to 63"),
        ('[a]\nmemory = "1GB"\nfp32_tflops = "1"\nmay_burst = 1', "may_burst must be a valid boolean, not 1"),
        ('[a]\nmemory = "1GB"\ndevice_share = true', "device_share must be a valid number, not True"),
        (
            '[a]\nmemory = "1GB"\ndevice_share = 1\nprice_source = 3',
            "price_source must be a valid string, not 3",
        ),
        (
            '[a]\nmemory = "1GB"\ndevice_share = 1\ndevice_kind = "tpu"',
            "device_kind 'tpu' is not one of cpu, cuda",
        ),
        ('[a]\nmemory = "1GB"\ndevice_share = 1\ndevice_memory = true', "device_memory must be text like"),
        ("a = 1", "type 'a' must be a table"),
        ("[a", "is not TOML"),
    ],
)
def test_a_wrong_types_file_names_file_field_value_and_limit(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "types.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_types(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_absent_types_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        load_types(tmp_path / "none.toml")


@pytest.mark.parametrize("share", [0.001, 1.0])
def test_a_gpus_type_may_take_up_to_the_whole_host(share: float) -> None:
    kind = AcceleratorType("g", 2**30, device_share=0.5, device_kind="cuda", cpu_share=share)
    assert kind.cpu_share == share


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"device_kind": "cuda", "cpu_share": 0.0}, "cpu_share 0.0 is not above 0 and up to 1"),
        ({"device_kind": "cuda", "cpu_share": 1.01}, "cpu_share 1.01 is not above 0 and up to 1"),
        ({"cpu_share": 0.5}, "cpu_share and device_memory are of a GPU's types"),
        ({"device_kind": "cpu", "device_memory_bytes": 2**30}, "are of a GPU's types"),
        ({"device_kind": "cuda", "device_memory_bytes": 1}, "device_memory"),
        ({"device_kind": "tpu"}, "device_kind 'tpu' is not one of"),
    ],
)
def test_what_a_gpus_type_cannot_say_is_refused_by_field(changes: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        AcceleratorType("g", 2**30, device_share=0.5, **changes)  # type: ignore[arg-type]
