"""`ei explore` on given measurements and `ei prices`, as a user calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.explore import command_line
from elastic_inference.explorer.article import article_path
from elastic_inference.explorer.prices import shipped_prices


def test_explore_given_measurements_writes_report_and_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "explore",
        "--measurements",
        str(article_path()),
        "--target-latency",
        "223ms",
        "-o",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert (
        "m5.large + eia1.large is the cheapest combination with latency within 223 ms: 2.2030 USD"
        in output.out
    )
    assert "2019-06" in output.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "combinations.csv",
        "measurements.json",
        "report.html",
    ]


def test_explore_the_article_shows_its_claims(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "--article", "--target-latency", "61ms"]) == ExitCode.TARGET_NOT_MET
    output = capsys.readouterr().out
    assert "No combination has latency within 61 ms. The closest is p3.2xlarge" in output
    assert "does not hold" in output


def test_own_prices_change_the_winner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text(
        "vendor,name,kind,vcpu,usd_per_hour,region,as_of,source\naws,p3.2xlarge,bundle,8,0.1,spot,2026-11,bid\n"
    )
    assert main(["explore", "--article", "--prices", str(prices)]) == 0
    assert "p3.2xlarge is the cheapest combination: 0.1696 USD" in capsys.readouterr().out


def test_prices_of_nothing_are_prices_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["vendor,name,kind,usd_per_hour,region,as_of,source"]
    lines += [f"mine,{row.name},{row.kind},0,here,2026-11,our own machine" for row in shipped_prices()]
    prices = tmp_path / "prices.csv"
    prices.write_text("\n".join(lines) + "\n")
    arguments = ["explore", "--article", "--prices", str(prices), "--target-latency", "223ms"]
    assert main([*arguments, "--json", "-o", str(tmp_path / "report")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["winner"]["client"] == "p3.2xlarge"  # the quickest of those that cost nothing
    assert all(re.fullmatch(r"0\.0+", row["sequential_usd_per_100k"]) for row in found["combinations"])
    assert None in [claim["computed"] for claim in found["claims"]]
    assert main(arguments) == 0
    assert "undefined" in capsys.readouterr().out


def test_report_does_not_tell_the_token() -> None:
    assert command_line(["explore", "--token", "secret", "--host", "h"]) == "ei explore --token ... --host h"
    assert command_line(["explore", "--token=secret"]) == "ei explore --token=..."


def test_walk_back(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["explore", "--article", "--method", "walk-back", "--target-latency", "145ms"])
    assert code == ExitCode.TARGET_NOT_MET
    assert "finds nothing" in capsys.readouterr().out


def test_explore_with_json_is_one_document_and_nothing_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["explore", "--article", "--target-latency", "223ms", "--json", "-o", str(tmp_path)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert found["winner"] == {"client": "m5.large", "accelerator": "eia1.large", "precision": "fp32"}
    assert len(found["combinations"]) == 16
    assert found["claims"][0]["computed"].startswith("2.95")
    assert found["warnings"]
    kept = json.loads((tmp_path / "measurements.json").read_text())
    assert kept.items() <= found.items()
    assert [Path(path).name for path in found["files"]] == [
        "report.html",
        "measurements.json",
        "combinations.csv",
    ]


def test_walk_back_and_prices_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "--article", "--method", "walk-back", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["winner"]["client"] == "m5.large"
    assert main(["prices", "--vendor", "azure", "--json"]) == 0
    assert {row["vendor"] for row in json.loads(capsys.readouterr().out)} == {"azure"}
    for arguments in (["prices", "check", "--json"], ["prices", "--json", "check"]):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["old"][0]["usd_per_hour"] == "0.096"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["explore", "--article", "--target-latency", "soon"], ExitCode.BAD_INPUT, "'soon'"),
        (["explore", "--article", "--rate", "-1/s"], ExitCode.BAD_INPUT, "rate '-1/s'"),
        (["explore", "--article", "--method", "guess"], ExitCode.BAD_INPUT, "'guess'"),
        (["explore", "--article", "--model", "x"], ExitCode.BAD_INPUT, "exactly one of --model"),
        (["explore", "--measurements", "absent.csv"], ExitCode.NOT_FOUND, "absent.csv"),
        (["explore", "--article", "--percentile", "90"], ExitCode.BAD_INPUT, "--percentile is for measuring"),
        (["explore", "--article", "--target-latency", "223"], ExitCode.BAD_INPUT, "write 223ms or 223s"),
        (["explore", "--model", "x", "--shape", "banana"], ExitCode.BAD_INPUT, "shape 'banana' is not"),
        (["explore", "--model", "x", "--input", "absent.npy"], ExitCode.NOT_FOUND, "absent.npy"),
        (["prices", "--vendor", "ibm"], ExitCode.BAD_INPUT, "'ibm'"),
        (["prices", "check", "--prices", "absent.csv"], ExitCode.NOT_FOUND, "absent.csv"),
    ],
)
def test_wrong_input_is_one_clear_line(
    arguments: list[str], code: ExitCode, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_prices_of_one_vendor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "--vendor", "azure"]) == 0
    output = capsys.readouterr().out
    assert "NV6ads_A10_v5" in output
    assert "m5.large" not in output


def test_prices_check_names_old_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", "check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("are undated or older than 180 days")
    assert any(line.startswith("aws     m5.large ") and "2019-06 old" in line for line in lines)
