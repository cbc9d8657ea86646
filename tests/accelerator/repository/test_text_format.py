"""Protocol buffers in text form: what is read, held against protobuf's own reader, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from google.protobuf import text_format as protobuf
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.accelerator.repository.text_format import parse
from elastic_inference.errors import InvalidInput
from elastic_inference.models import graph_pb2


def test_all_forms_of_fields() -> None:
    text = """
    name: "a" 'b'  # neighbours are one
    size: -3, ratio: 1.5e3; hex: 0x1F octal: 017 half: .5f is_on: true kind: KIND_CPU
    input [ { name: "x" dims: [ -1, 4 ] }, { name: "y" } ]
    input < name: "z" >
    empty { } list: [] escaped: "a\\n\\x41\\101\\"" """
    assert parse(text) == {
        "name": ["ab"], "size": [-3], "ratio": [1500.0], "hex": [31], "octal": [15], "half": [0.5], "is_on": [True],
        "kind": ["KIND_CPU"], "input": [{"name": ["x"], "dims": [-1, 4]}, {"name": ["y"]}, {"name": ["z"]}],
        "empty": [{}], "list": [], "escaped": ['a\nAA"'],
    }  # fmt: skip
    assert parse("") == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [("name", 1), ("name:\n", 2), ('name: "a', 1), ("a {", 1), ("a }", 1), ("a: [1 2]", 1), ("\n\n?", 3), ("a: 08", 1),
     ("a: {" * 40, 1), (": 3", 1), ("a: 1.2.3", 1)],
)  # fmt: skip
def test_what_is_no_text_format_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(InvalidInput, match=f"^line {line}: "):
        parse(text)


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(-(2**63), 2**63 - 1))))
def test_what_protobuf_writes_is_read(nodes: list[tuple[str, int]]) -> None:
    message = graph_pb2.GraphDef()
    for name, size in nodes:
        node = message.node.add(name=name)
        node.attr[name].i = size
    read = parse(protobuf.MessageToString(message))
    found = [(node.get("name", [""])[0], *_entry(node)) for node in read.get("node", [])]
    assert found == [(name, name, size) for name, size in nodes]


def _entry(node: dict[str, list[object]]) -> tuple[str, int]:
    (entry,) = node["attr"]
    assert isinstance(entry, dict)
    return entry["key"][0], entry["value"][0]["i"][0]


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        parse(text)
