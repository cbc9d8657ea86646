"""The quota of CPU time that both versions of control groups are given, from the request alone."""

from __future__ import annotations

import pytest

from elastic_inference.errors import LimitError
from elastic_inference.limits.base import MEBIBYTE, LimitRequest
from elastic_inference.limits.cgroup import CpuQuota, fit_quota


def request(share: float, num_cores: float, may_burst: bool = False) -> LimitRequest:
    return LimitRequest("eia-" + "0" * 32, share, num_cores, 256 * MEBIBYTE, may_burst)


@pytest.mark.parametrize(
    ("share", "num_cores", "quota_us"),
    [
        (1.0, 4.0, None),  # of a machine of 4 cores
        (1.0, 3.8, None),
        (1.0, 3.01, None),
        (1.0, 3.0, 30_000),  # a whole core of the machine is kept free: others may want it
        (1.0, 2.0, 20_000),
        (0.999, 4.0, 39_960),  # not the whole device, so there may be a neighbour
        (0.5, 4.0, 20_000),
    ],
)
def test_only_the_whole_device_has_no_quota(share: float, num_cores: float, quota_us: int | None) -> None:
    assert fit_quota(request(share, num_cores), 4.0) == CpuQuota(quota_us, 10_000)


def test_a_bursting_accelerator_has_no_quota() -> None:
    assert fit_quota(request(0.1, 4.0, may_burst=True), 4.0) == CpuQuota(None, 10_000)


@pytest.mark.parametrize(
    ("cores", "quota"),
    [(0.1, CpuQuota(1000, 10_000)), (0.05, CpuQuota(1000, 20_000)), (0.001, CpuQuota(1000, 1_000_000))],
)
def test_a_sliver_gets_the_least_quota_in_a_longer_period(cores: float, quota: CpuQuota) -> None:
    assert fit_quota(request(cores / 4, 4.0), 4.0) == quota


def test_less_than_the_kernel_can_hold_is_refused() -> None:
    with pytest.raises(LimitError, match=r"0\.00099 cores is less than the kernel can hold: 0\.001 cores"):
        fit_quota(request(0.00099 / 4, 4.0), 4.0)
