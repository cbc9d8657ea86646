"""`ei explore` on given measurements and `ei prices`, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.cli import main
from elastic_inference.cli.explore import command_line
from elastic_inference.explorer.article import article_path


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
    assert main(["explore", "--article", "--target-latency", "61ms"]) == 0
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


def test_report_does_not_tell_the_token() -> None:
    assert command_line(["explore", "--token", "secret", "--host", "h"]) == "ei explore --token ... --host h"
    assert command_line(["explore", "--token=secret"]) == "ei explore --token=..."


def test_walk_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "--article", "--method", "walk-back", "--target-latency", "145ms"]) == 0
    assert "finds nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explore", "--article", "--target-latency", "soon"], "'soon'"),
        (["explore", "--article", "--rate", "-1/s"], "rate '-1/s'"),
        (["explore", "--article", "--method", "guess"], "'guess'"),
        (["explore", "--measurements", "absent.csv"], "absent.csv"),
        (["prices", "--vendor", "ibm"], "'ibm'"),
        (["prices", "check", "--prices", "absent.csv"], "absent.csv"),
    ],
)
def test_wrong_input_is_one_clear_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
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
    assert "m5.large: 0.096 USD/hour as of 2019-06" in capsys.readouterr().out
