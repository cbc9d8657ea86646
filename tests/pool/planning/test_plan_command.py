"""`ei pool plan` as a user calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "pool"
TIMES = (
    "--service",
    "cpu.quarter=80ms,0.2",
    "--service",
    "cpu.half=42ms,0.2",
    "--service",
    "cpu.whole=24ms,0.2",
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    main(["pool", "plan", *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_trace_is_planned_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pool", "plan", "trace.csv", *TIMES, "--target-latency", "250ms"]) == 0
    text = capsys.readouterr().out
    assert "6 attachments of 3 tenants in 24 h, at most 5 at once" in text
    assert "2 of them spare so that 2 may die at the peak: 0.960 USD an hour, 23.04 USD for its 24 h" in text
    assert "Every attachment has its p99 within 250 ms." in text
    assert "2 die at the peak, 3 hosts, none spare" in text
    assert "types chosen for attachments of type 'auto': cpu.half for 3" in text
    assert "warning: the price of m5.xlarge is of 2019-06" in text
    assert " nan" not in text


def test_json_has_every_figure_and_is_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "trace.csv", *TIMES, "--failures", "1")
    assert found == as_json(capsys, "trace.csv", *TIMES, "--failures", "1")
    assert found["schema"] == "elastic-inference pool plan 1"
    assert found["hosts"] == {"m5.xlarge": 3}
    assert found["spare_hosts"] == {"m5.xlarge": 1}
    assert found["usd_per_hour"] == "0.576"
    assert found["target_latency_seconds"] is None
    assert found["demand"]["num_attachments"] == 6
    assert found["usual"]["num_calls"] == pytest.approx(found["demand"]["num_calls"], rel=0.02)
    assert found["deaths_with_spare_hosts"]["most_waiting"] == 0
    assert found["deaths_without_spare_hosts"]["most_waiting"] > 0


def test_the_demand_of_a_description_can_be_written_and_planned_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = (*TIMES, "--target-latency", "400ms", "--failures", "0")
    first = as_json(capsys, "demand.toml", *times, "--write-trace", "drawn.csv")
    again = as_json(capsys, "drawn.csv", *times)
    assert again["hosts"] == first["hosts"]
    assert again["demand"]["num_tenants"] == first["demand"]["num_tenants"] == 40
    assert as_json(capsys, "demand.toml", *times, "--seed", "1")["demand"] != first["demand"]


def test_the_page_says_the_same_escaped_and_loads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    line = "<b>tenant</b>,cpu.half,0,1h,1\n"
    Path("odd.csv").write_text(f"tenant,type,start,end,calls_per_second\n{line}")
    Path("kinds.toml").write_text("['<i>kind</i>']\nprice = 'm5.xlarge'\n")
    arguments = ("odd.csv", *TIMES, "--hosts", "kinds.toml", "--failures", "0", "--report", "plan.html")
    assert main(["pool", "plan", *arguments]) == 0
    sentence = "hold this demand: 0.192 USD an hour"
    assert sentence in capsys.readouterr().out
    page = Path("plan.html").read_text()
    assert sentence in page
    assert "<i>" not in page
    assert "&lt;i&gt;kind&lt;/i&gt;" in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("<path") == 2


def test_what_is_not_met_is_an_exit_code_and_says_what_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    Path("slow.csv").write_text("tenant,type,start,end,calls_per_second\na,cpu.quarter,0,1h,2\n")
    code = main(["pool", "plan", "slow.csv", *TIMES, "--target-latency", "60ms"])
    assert code == ExitCode.TARGET_NOT_MET
    text = capsys.readouterr().out
    assert "1 of 1 attachments do not have their p99 within 60 ms." in text
    assert "1 attachments of type cpu.quarter: cpu.whole would meet the target." in text
    Path("kinds.toml").write_text("[few]\nprice = 'm5.xlarge'\nmax_hosts = 1\n")
    assert main(["pool", "plan", "trace.csv", *TIMES, "--hosts", "kinds.toml"]) == ExitCode.TARGET_NOT_MET
    assert (
        "No hosts of these kinds hold this demand: few: 1 hosts of few are too few" in capsys.readouterr().out
    )


def test_one_measurement_for_unlike_hosts_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    both = ("--hosts", "m5.xlarge,m5.4xlarge", "--failures", "0")
    (warning,) = [w for w in as_json(capsys, "trace.csv", *TIMES, *both)["warnings"] if "unlike" in w]
    assert "have the same service time on m5.xlarge, m5.4xlarge" in warning
    own = [part.replace("cpu.", "m5.4xlarge:cpu.") for part in TIMES]
    found = as_json(capsys, "trace.csv", *TIMES, *own, *both)
    assert not [w for w in found["warnings"] if "unlike" in w]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("trace.csv",), "no service times: give --profile measurements.json of ei explore, or --service"),
        (("none.csv", *TIMES), "trace 'none.csv' cannot be read"),
        (
            ("trace.csv", *TIMES, "--target-latency", "250"),
            "--target-latency '250' has no unit; write 250ms or 250s",
        ),
        (("trace.csv", *TIMES, "--percentile", "100"), "--percentile 100.0 must be above 0 and below 100"),
        (("trace.csv", *TIMES, "--failures", "-1"), "--failures -1 is not between 0 and 100"),
        (("trace.csv", *TIMES, "--seed", "-1"), "--seed -1 must be 0 or more"),
        (("trace.csv", *TIMES, "--max-calls", "0"), "--max-calls 0 must be 1 or more"),
        (
            ("trace.csv", *TIMES, "--client", "x"),
            "--client and --precision choose measurements of a --profile",
        ),
        (("trace.csv", "--service", "x:cpu.half=1s"), "--service names 'x', which is not one of the kinds"),
        (
            ("trace.csv", *TIMES, "--service", "cpu.quater=1s"),
            "--service names the type 'cpu.quater', which is not one of",
        ),
        (("trace.csv", *TIMES, "--service", "m5.xlarge:cpu.wohle=1s"), "did you mean cpu.whole?"),
        (("trace.csv", "--service", "cpu.half"), "service time 'cpu.half' is not TYPE=TIME"),
        (("trace.csv", *TIMES, "--write-trace", "no/where.csv"), "--write-trace no/where.csv: No such file"),
        (("trace.csv", "--service", "cpu.half=40ms"), "no service time of type 'cpu.whole' on m5.xlarge"),
    ],
)
def test_wrong_arguments_are_named(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    assert main(["pool", "plan", *arguments]) in (ExitCode.BAD_INPUT, ExitCode.NOT_FOUND)
    assert text in capsys.readouterr().err
