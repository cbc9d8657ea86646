"""EI_VISIBLE_DEVICES and accelerator_id, as a table; with real accelerators in test_placement."""

from __future__ import annotations

import pytest

from elastic_inference.client.visible import choose, visible_accelerators
from elastic_inference.errors import AcceleratorNotFound
from elastic_inference.settings import VISIBLE_DEVICES

ATTACHED = ("eia-a", "eia-b", "eia-c")


@pytest.mark.parametrize(
    ("variable", "visible"),
    [
        (None, ATTACHED),
        ("", ()),
        ("1", ("eia-b",)),
        ("2,0", ("eia-c", "eia-a")),
        ("eia-b", ("eia-b",)),
        (" eia-c , 0 ", ("eia-c", "eia-a")),
    ],
)
def test_the_variable_says_which_are_visible_and_in_which_order(
    variable: str | None, visible: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE_DEVICES.name, raising=False)
    if variable is not None:
        monkeypatch.setenv(VISIBLE_DEVICES.name, variable)
    assert visible_accelerators(ATTACHED) == visible
    for ordinal, accelerator_id in enumerate(visible):
        assert choose(ordinal, ATTACHED) == choose(str(ordinal), ATTACHED) == accelerator_id
        assert choose(accelerator_id, ATTACHED) == accelerator_id
    if visible:
        assert choose(None, ATTACHED) == visible[0]


@pytest.mark.parametrize(
    ("variable", "wanted", "words"),
    [
        ("", None, "no accelerator is visible: EI_VISIBLE_DEVICES is empty"),
        ("", 0, "no accelerator is visible"),
        ("3", None, "'3' is none of the 3"),
        ("-1", None, "'-1' is none of the 3"),
        ("eia-z", None, "'eia-z' is none of the 3"),
        ("1", 1, "'1' is none of the 1: eia-b"),
        ("1", "eia-a", "'eia-a' is none of the 1"),
        (None, 3, "'3' is none of the 3"),
        (None, -1, "'-1' is none of the 3"),
    ],
)
def test_what_is_not_visible_is_an_error(
    variable: str | None, wanted: int | str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE_DEVICES.name, raising=False)
    if variable is not None:
        monkeypatch.setenv(VISIBLE_DEVICES.name, variable)
    with pytest.raises(AcceleratorNotFound, match=words):
        choose(wanted, ATTACHED)
