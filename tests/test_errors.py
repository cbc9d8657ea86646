"""The tree of errors: drawn rightly, each a Python class that TensorFlow's users expect, and all told over the wire."""

from __future__ import annotations

import inspect
import re

import pytest

from elastic_inference import errors
from elastic_inference.errors import ElasticInferenceError

CLASSES = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, ElasticInferenceError)]


def test_the_drawing_shows_every_class_below_its_parent() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 3
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else ""
    assert drawn == {
        c.__name__: "" if c is ElasticInferenceError else c.__bases__[0].__name__ for c in CLASSES
    }


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_the_drawing_names_the_python_class_that_it_is_too(cls: type[ElasticInferenceError]) -> None:
    others = [base.__name__ for base in cls.__bases__ if not issubclass(base, ElasticInferenceError)]
    line = next(
        li for li in (errors.__doc__ or "").splitlines() if re.match(rf"[│├└─ ]*{cls.__name__}\b", li)
    )
    for other in others if cls is not ElasticInferenceError else []:
        assert f"({other})" in line


def test_figures_stand_in_fields() -> None:
    too_large = errors.MemoryQuotaExceeded("too large", requested_bytes=7, limit_bytes=5)
    assert (too_large.requested_bytes, too_large.limit_bytes) == (7, 5)
    full = errors.CapacityExceeded("full", requested="2 GiB", available="1 GiB")
    assert (full.requested, full.available) == ("2 GiB", "1 GiB")
