"""Demand from a file: what is read, joined and refused, by line, field and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.model import Request
from elastic_inference.pool.simulation.attachment import Attachment, Piece
from elastic_inference.pool.simulation.demand_file import read_demand_model
from elastic_inference.pool.simulation.demand_model import DemandModel, draw_demand
from elastic_inference.pool.simulation.trace import parse_trace, read_trace, write_trace

HEAD = "tenant,accelerator,type,start,end,calls_per_second,priority,apart,features"


def parse(*lines: str, head: str = HEAD) -> list[Attachment]:
    return parse_trace([head, *lines], "t.csv")


def test_lines_that_follow_each_other_are_one_attachment_and_a_gap_ends_it() -> None:
    found = parse(
        "a,x,cpu.half,1h,2h,5,,,",
        "a,x,cpu.half,0,1h,1,,,",
        "a,x,cpu.half,3h,4h,2,,,",
        "b,x,cpu.half,0,1min,0.5,2,web,bf16;avx512",
    )
    assert found == [
        Attachment("a/x", Request("cpu.half", "a"), (Piece(0, 3600, 1), Piece(3600, 7200, 5))),
        Attachment("a/x#2", Request("cpu.half", "a"), (Piece(10800, 14400, 2),)),
        Attachment(
            "b/x",
            Request("cpu.half", "b", 2, "web", frozenset({"bf16", "avx512"})),
            (Piece(0, 60, 0.5),),
        ),
    ]


def test_without_accelerators_each_line_is_one() -> None:
    found = parse("a,t,0,10,1", "a,t,10,20,1", head="tenant,type,start,end,calls_per_second")
    assert [one.name for one in found] == ["a/line 2", "a/line 3"]


def test_what_is_written_is_read_again() -> None:
    demand = parse("a,x,cpu.half,0,1h,1,,,", "a,x,cpu.half,1h,2h,7.25,,,", "b,y,auto,1.5,2.5,0,-1,web,bf16")
    assert parse_trace(write_trace(demand).splitlines(), "again") == demand


def test_names_that_look_like_what_is_made_of_names_stay_apart() -> None:
    demand = parse(
        "a,x,t,0,1h,1,,,", "a,x,t,2h,3h,1,,,", "a,x#2,t,0,3h,1,,,", "a,b/c,t,0,1h,1,,,", "a/b,c,t,0,1h,1,,,"
    )
    assert len({one.name for one in demand}) == len(demand) == 5
    assert parse_trace(write_trace(demand).splitlines(), "again") == demand


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a,x,cpu.half,0,soon,1,,,", "t.csv, line 2, field end: duration 'soon' is not a number with one of"),
        ("a,x,cpu.half,10,5,1,,,", "line 2, field end: '5' must be after start '10'"),
        ("a,x,cpu.half,0,5,-1,,,", "line 2, field calls_per_second: '-1' must be 0 to 1e+06"),
        ("a,x,cpu.half,0,5,many,,,", "line 2, field calls_per_second: 'many' is not a number"),
        ("a,x,cpu.half,0,5,nan,,,", "line 2, field calls_per_second: 'nan' must be finite"),
        ("a,x,,0,5,1,,,", "line 2, field type: is empty"),
        ("a,x,cpu.half,0,5,1,1.5,,", "line 2, field priority: '1.5' is not a whole number"),
        ("a,x,cpu.half,0,5000d,1,,,", "line 2, field end: '5000d' is more than a year"),
        ("a,x,cpu.half,0,5,1", "line 2: does not have 9 fields"),
    ],
)
def test_a_wrong_line_is_named(line: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(line)
    assert text in str(refused.value)


def test_other_mistakes_in_a_trace(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"line 3, field start: 5 s is before line 2 of the same tenant"):
        parse("a,x,t,0,10,1,,,", "a,x,t,5,20,1,,,")
    with pytest.raises(InvalidInput, match=r"columns missing: calls_per_second; columns unknown: rate;"):
        parse(head="tenant,type,start,end,rate")
    with pytest.raises(InvalidInput, match="there is no demand"):
        parse()
    with pytest.raises(InvalidInput, match="a column is named twice"):
        parse(head="tenant,type,start,end,calls_per_second,type")
    with pytest.raises(InvalidInput, match=r"t\.csv, line \d: field larger than field limit"):
        parse(f"a,{'x' * 200_000},t,0,10,1,,,")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_trace(tmp_path / "none.csv")


def test_a_model_of_demand_gives_what_it_says_and_the_same_for_equal_seeds() -> None:
    model = DemandModel(num_tenants=300, mean_accelerators=60, stay_hours=1.0, calls_per_second=2.0)
    demand = draw_demand(model, 3)
    assert demand == draw_demand(model, 3)
    assert demand != draw_demand(model, 4)
    assert len({one.request.tenant for one in demand}) == 300
    held = sum(one.end - one.start for one in demand) / (24 * 3600)
    assert held == pytest.approx(60, rel=0.1)
    calls = sum(one.num_calls for one in demand)
    assert calls == pytest.approx(2.0 * 60 * 24 * 3600, rel=0.5)  # large tenants call and attach more
    at_peak = sum(one.start <= 15.5 * 3600 < one.end for one in demand)
    at_trough = sum(one.start <= 3.5 * 3600 < one.end for one in demand)
    assert 1.8 < at_peak / at_trough < 5
    assert all(one.pieces[0].end == one.pieces[1].start for one in demand)
    assert len(draw_demand(DemandModel(num_tenants=5, mean_accelerators=1, burst_share=0.0))[0].pieces) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hours = 0", "hours 0 is not between 0.01 and 8784"),
        ("tenants = 5", "unknown field 'tenants'; known are hours, num_tenants, "),
        ("num_tenants = 2.5", "field num_tenants: 2.5 is not a whole number"),
        ("hours = '1'", "field hours: '1' is not a number"),
        ("types = 3", "types"),
        ("[types]\nauto = 0", "types needs at least one type, each with a part above 0"),
        ("hours =", "is not TOML"),
        (f"hours = {'9' * 5000}", "is not TOML: "),
        (f"num_tenants = {'9' * 400}", "field num_tenants is a number of 1329 bits"),
        (f"[types]\nauto = {'9' * 400}", "field auto is a number of 1329 bits"),
        (f"hours = 0x{'f' * 9000}", "field hours is a number of 36000 bits"),
        ("hours = 1e999", "hours inf is not between"),
        (
            "mean_accelerators = 1e6\nhours = 8784\nstay_hours = 0.001",
            "are 8,784,000,000,000 attachments, more than",
        ),
        ("num_tenants = 10000000", "are 10,000,000 attachments, more than 2,000,000"),
    ],
)
def test_a_wrong_description_of_demand_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "demand.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        read_demand_model(path)
    assert complaint in str(refused.value)


def test_a_description_of_demand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "demand.toml"
    path.write_text('hours = 2\nnum_tenants = 7\n[types]\nauto = 3\n"cpu.half" = 1')
    assert read_demand_model(path) == DemandModel(2, 7, types={"auto": 3, "cpu.half": 1})
    with pytest.raises(InvalidInput, match="No such file"):
        read_demand_model(tmp_path / "none.toml")
