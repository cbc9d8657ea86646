"""The contract's value objects, and what is computed from a request alone."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.limits.base import (
    MEBIBYTE,
    LimitRequest,
    fit_duty_cycle,
    fit_threads,
    held_command,
    rlimit_inside,
)

ID = "eia-" + "0" * 32


def request(**changes: Any) -> LimitRequest:
    values: dict[str, Any] = {
        "accelerator_id": ID,
        "compute_share": 0.5,
        "num_cores": 2.0,
        "memory_bytes": 256 * MEBIBYTE,
    }
    return LimitRequest(**{**values, **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accelerator_id", "../../escape"),
        ("accelerator_id", ID + "/x"),
        ("accelerator_id", ID + "\n"),
        ("compute_share", 0.0),
        ("compute_share", 1.01),
        ("num_cores", 0.0),
        ("num_cores", float("inf")),
        ("memory_bytes", MEBIBYTE),
    ],
)
def test_a_request_that_no_kernel_could_hold_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=field.replace("_", "[_ ]")):
        request(**{field: value})


@pytest.mark.parametrize(
    ("share", "cores", "burst", "threads"),
    [(0.1, 2, False, 1), (0.5, 2, False, 1), (0.6, 2, False, 1), (0.9, 2, False, 2), (1.0, 2, False, 2),
     (0.25, 16, False, 4), (0.3, 16, False, 5), (0.1, 16, True, 16), (1.0, 0.5, False, 1)],
)  # fmt: skip
def test_threads_fit_the_share(share: float, cores: float, burst: bool, threads: int) -> None:
    assert fit_threads(request(compute_share=share, num_cores=cores, may_burst=burst)) == threads


@pytest.mark.parametrize(
    ("share", "cores", "of_the_time"),
    [(0.1, 2, 0.2), (0.5, 2, 1.0), (0.6, 2, 1.0), (0.9, 2, 0.9), (0.1, 16, 0.8),
     # The whole device is held back by nothing, though two threads on 1.5 cores could run for 0.75 of the time only.
     (1.0, 2, 1.0), (1.0, 1.5, 1.0), (0.99, 1.5, 0.7425)],
)  # fmt: skip
def test_threads_and_their_duty_cycle_together_are_the_share(
    share: float, cores: float, of_the_time: float
) -> None:
    assert fit_duty_cycle(request(compute_share=share, num_cores=cores)) == pytest.approx(of_the_time)


@pytest.mark.parametrize(
    ("mebibytes", "margin_mebibytes"), [(64, 16), (256, 16), (512, 16), (544, 17), (1024, 32), (65_536, 2048)]
)
def test_the_data_limit_is_16_mebibytes_inside_the_memory_limit_and_a_32nd_of_a_large_one(
    mebibytes: int, margin_mebibytes: int
) -> None:
    assert rlimit_inside(mebibytes * MEBIBYTE) == (mebibytes - margin_mebibytes) * MEBIBYTE


def test_a_held_command_starts_after_the_first_line_and_reads_the_rest_itself() -> None:
    process = subprocess.run(
        held_command(["cat"]), input="go\nwhat the program reads\n", text=True, stdout=-1, timeout=120
    )
    assert process.stdout == "what the program reads\n"


def test_a_held_command_never_starts_when_the_host_dies_first() -> None:
    process = subprocess.run(held_command(["echo", "started"]), input="", text=True, stdout=-1, timeout=120)
    assert process.stdout == ""
