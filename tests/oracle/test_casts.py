"""Values of every kind against what TensorFlow 1.15 with numpy 1.18 made of them, beyond the recorded checks.

Where TensorFlow is installed, kinds on which today's TensorFlow agrees with that are also asked of it.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.client.casting import cast
from elastic_inference.client.feeds import Feeds
from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec
from tests.oracle import MODELS

NAN, INF = float("nan"), float("inf")
TOO_LARGE = "Python int too large to convert to C long"
NO_INT = "int() argument must be a string, a bytes-like object or a number, not"
RAGGED = "setting an array element with a sequence."
MIN_32, MIN_64 = -(2**31), -(2**63)


class Convertible:
    """Anything that numpy converts."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array([1.9, -1.9])


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        # Arrays are cast as C casts on x86-64.
        ("uint8", np.array([2.9, 300.0, -1.0, NAN, INF, 1e10]), [2, 44, 255, 0, 0, 0]),
        ("int8", np.array([127.9, 128.0, -129.0], np.float32), [127, -128, 127]),
        ("int32", np.array([NAN, INF, -INF, 1e10]), [MIN_32] * 4),
        ("int64", np.array([NAN, 1e19, -2.5]), [MIN_64, MIN_64, -2]),
        ("uint32", np.array([-1.0, 1e10, NAN]), [2**32 - 1, 1410065408, 0]),
        ("uint64", np.array([-1.0, 3.7]), [2**64 - 1, 3]),
        ("uint8", np.array([256, -1, 511]), [0, 255, 255]),
        ("int32", np.array([2**31, 2**32 + 5]), [MIN_32, 5]),
        ("bool", np.array([0.0, -0.0, 0.5, NAN]), [False, False, True, True]),
        ("float32", np.array([True, False]), [1.0, 0.0]),
        ("float16", np.array([1e6, -1e6, 65504.0]), [INF, -INF, 65504.0]),
        ("float32", np.array([1 + 2j]), [1.0]),
        ("float32", np.array(["1.5", " 2 "]), [1.5, 2.0]),
        ("int32", np.array(["300", "-5"]), [300, -5]),
        ("int64", np.array([b"12"]), [12]),
        ("bool", np.array(["0", "1"]), [False, True]),
        ("int32", np.array([1.9, 5, True], dtype=object), [1, 5, 1]),
        ("float32", np.ma.masked_array([1.0, 2.0], [False, True]), [1.0, 2.0]),
        ("float32", np.array([1.5, 2.5], ">f8"), [1.5, 2.5]),
        ("int32", np.array([1, 2], ">i4"), [1, 2]),
        ("float32", np.arange(12, dtype=np.float32).reshape(3, 4)[::2, ::-1], [[3, 2, 1, 0], [11, 10, 9, 8]]),
        ("float32", np.asfortranarray(np.arange(4.0).reshape(2, 2)), [[0, 1], [2, 3]]),
        ("int32", Convertible(), [1, -1]),
        ("int32", memoryview(b"\x01\x02"), [1, 2]),
        # Elements of lists one by one, as Python converts them.
        ("int32", [1e10, -2.7], [1410065408, -2]),
        ("int32", [2**31, 2**32 + 5], [MIN_32, 5]),
        ("uint8", [300, -1, 2.9], [44, 255, 2]),
        ("uint64", [2**63, -1], [2**63, 2**64 - 1]),
        ("uint32", [-1, 2**40 + 3], [2**32 - 1, 3]),
        ("int32", ["3", b"4", True], [3, 4, 1]),
        ("int64", [2**53 + 1, 1.5], [2**53 + 1, 1]),
        ("float32", ["3.5", None, 1], [3.5, NAN, 1.0]),
        ("float32", [16777217], [16777216.0]),
        ("bool", ["", "a", 0, [][:0] or 2], [False, True, False, True]),
        ("uint8", [np.array([300.0, 1.0]), np.array([2.9, -1.0])], [[44, 1], [2, 255]]),
        ("uint8", [np.float64(300.7), np.int64(-1)], [44, 255]),
        ("int32", [[np.array([NAN, 1e10])]], [[[MIN_32, MIN_32]]]),  # as an array, where int(nan) is an error
        ("float32", [np.array(1.0), np.float16(2.0)], [1.0, 2.0]),
        ("float32", ((1, 2), (3, 4)), [[1, 2], [3, 4]]),
        ("int32", range(3), [0, 1, 2]),
        ("float32", [], []),
        ("float32", [[], []], [[], []]),
        ("int32", np.int64(7), 7),
        ("float32", 2, 2.0),
        ("int32", 2.7, 2),
        ("bool", True, True),
        ("float32", "3.5", 3.5),
    ],
)
def test_numbers(dtype: str, value: Any, wanted: Any) -> None:
    array = cast(value, np.dtype(dtype))
    assert type(array) is np.ndarray
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, np.array(wanted, dtype=dtype))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([b"a\0", "é"], [b"a\0", "é".encode()]),
        (np.array([b"a", b"b\0c"]), [b"a", b"b\0c"]),
        (np.array(["a", "日"]), [b"a", "日".encode()]),
        ([np.str_("x"), np.bytes_(b"y\0")], [b"x", b"y\0"]),
        (np.array([b"\0\xff", "x"], dtype=object), [b"\0\xff", b"x"]),
        ([], []),
    ],
)
def test_strings(value: Any, wanted: list[bytes]) -> None:
    array = cast(value, np.dtype(object))
    assert array.tolist() == wanted
    assert all(type(item) is bytes for item in array)
    assert cast("abc", np.dtype(object)).shape == ()


@pytest.mark.parametrize(
    ("dtype", "value", "cls", "text"),
    [
        ("float32", ["a"], ValueError, "could not convert string to float: 'a'"),
        ("float32", np.array(["a"]), ValueError, "could not convert string to float: 'a'"),
        ("int32", ["a"], ValueError, "invalid literal for int() with base 10: 'a'"),
        ("int32", ["2.5"], ValueError, "invalid literal for int() with base 10: '2.5'"),
        ("float64", [[1.0], [2.0, 3.0]], ValueError, RAGGED),
        ("int32", [[1], 2], ValueError, RAGGED),
        ("float32", [np.zeros(2), np.zeros(3)], ValueError, RAGGED),
        ("int32", [NAN], ValueError, "cannot convert float NaN to integer"),
        ("int32", [INF], OverflowError, "cannot convert float infinity to integer"),
        ("int32", [2**63], OverflowError, TOO_LARGE),
        ("uint8", [-(2**70)], OverflowError, TOO_LARGE),
        ("uint64", [2**64], OverflowError, TOO_LARGE),
        ("int32", 2**70, OverflowError, TOO_LARGE),
        ("float32", [10**400], OverflowError, "int too large to convert to float"),
        ("float32", {"a": 1}, TypeError, "float() argument must be a string or a number, not 'dict'"),
        ("float32", {1}, TypeError, "float() argument must be a string or a number, not 'set'"),
        ("int32", object, TypeError, f"{NO_INT} 'type'"),
        ("int32", [None], TypeError, f"{NO_INT} 'NoneType'"),
        ("float32", [1j], TypeError, "can't convert complex to float"),
        ("int32", [1j], TypeError, "can't convert complex to int"),
        ("string", [1], Exception, "Unable to get element as bytes."),
        ("string", ["\ud800"], Exception, "Unable to get element as UTF-8."),
    ],
)
def test_refusals_have_pythons_class_and_tensorflows_words(
    dtype: str, value: Any, cls: type[Exception], text: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        cast(value, np.dtype(object if dtype == "string" else dtype))
    assert isinstance(caught.value, cls)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 300), ("uint8", -1), ("float32", 2**25 + 1), ("float16", 10**6), ("bool", 3), ("object", 5)],
)
def test_a_python_integer_alone_must_be_kept(dtype: str, value: int) -> None:
    name = object if dtype == "object" else np.dtype(dtype).type
    text = (
        f"Type of feed value {value} with type <class 'int'> is not compatible with Tensor type {name}. "
        "Try explicitly setting the type of the feed tensor to a larger type (e.g. int64)."
    )
    with pytest.raises(TypeError) as caught:
        cast(value, np.dtype(dtype))
    assert str(caught.value) == text


# On these, today's TensorFlow and numpy do as TensorFlow 1.15 and numpy 1.18 did.
AGREED: list[tuple[str, Any]] = [
    ("uint8", np.array([2.9, 300.0, -1.0, NAN, INF, 1e10])),
    ("int32", np.array([NAN, INF, 1e10])),
    ("bool", [0, 3, 0.5]),
    ("float16", [1e6, 65504.0]),
    ("float32", [None, "3.5", 1]),
    ("float32", np.ma.masked_array([1.0, 2.0], [False, True])),
    ("int32", ["3"]),
    ("string", [b"a\0", "é"]),
    ("string", np.array(["a\0", "é"])),
    ("string", 5),
    ("uint8", 300),
    ("bool", 3),
    ("int32", 2**70),
    ("float32", [10**400]),
    ("float64", [[1.0], [2.0, 3.0]]),
    ("float32", {"a": 1}),
    ("string", [None]),
]


@pytest.mark.parametrize(("dtype", "value"), AGREED, ids=repr)
@pytest.mark.filterwarnings("ignore")
def test_todays_tensorflow_agrees(dtype: str, value: Any) -> None:
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fed = tf.compat.v1.placeholder(dtype, None)
        try:
            theirs: Any = session.run(tf.identity(fed), {fed: value})
        except Exception as error:
            theirs = error
    try:
        ours: Any = cast(value, np.dtype(object if dtype == "string" else dtype))
    except InvalidInput as error:
        ours = error
    if not isinstance(theirs, Exception):
        np.testing.assert_array_equal(ours, theirs)
    elif type(theirs).__module__ == "builtins":
        assert isinstance(ours, type(theirs))
    else:
        assert type(ours).__name__ == type(theirs).__name__


def feeds(dtype: str, shape: tuple[int | None, ...] | None = (None,), is_strict: bool = False) -> Feeds:
    return Feeds(Signature({"x": TensorSpec("x:0", dtype, shape)}, {}, frozenset({"x"})), is_strict)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", np.array([2.5])),
        ("uint8", np.array([300])),
        ("uint8", np.array([-1], np.int8)),
        ("uint64", [-1]),
        ("int64", np.array([2**63], np.uint64)),
        ("int32", np.array([NAN])),
        ("bool", [2]),
        ("float32", [2**24 + 1]),
        ("float32", np.array([0.1])),
        ("float16", [1e6]),
        ("float32", np.array([1 + 1j])),
    ],
)
def test_a_lossy_cast_is_logged_once_and_refused_when_strict(
    dtype: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lenient = feeds(dtype)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            lenient.arrays({"x": value})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "input 'x': casting" in caplog.text
    with pytest.raises(InvalidInput, match="strict=True forbids that"):
        feeds(dtype, is_strict=True).arrays({"x": value})


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", [0, 255]),
        ("uint8", np.array([3.0])),
        ("float32", [0.1, NAN]),
        ("float32", np.array([0.5, NAN, INF])),
        ("int64", np.array([1], np.uint64)),
        ("bool", [0, 1]),
        ("float64", np.array([1], ">f4")),
        ("string", ["a"]),
    ],
)
def test_a_cast_that_loses_nothing_is_silent(
    dtype: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        feeds(dtype, is_strict=True).arrays({"x": value})
    assert not caplog.records


@pytest.fixture(scope="module")
def dtypes() -> Path:
    return MODELS / "dtypes"


def test_arrays_of_every_layout_arrive_whole(dtypes: Path) -> None:
    base = np.random.default_rng(0).standard_normal((6, 8))
    readonly = base[:, :2].copy()
    readonly.flags.writeable = False
    layouts = [
        base[:, :2], base[::2, ::-4], np.asfortranarray(base[:, :2]), base[:, :2].astype(">f8"), readonly,
        np.broadcast_to(base[0, :2], (5, 2)), base[:0, :2], base[:2, :2].tolist(), [base[0, :2], base[1, :2]],
        np.ma.masked_array(base[:, :2], base[:, :2] > 0),
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        layouts.append(np.matrix(base[:2, :2]))
    with EIPredictor(dtypes, "f64") as predictor:
        for value in layouts:
            before = np.array(value, copy=True)
            outputs = predictor({"a": value})["b"]
            assert type(outputs) is np.ndarray
            np.testing.assert_array_equal(outputs, np.asarray(before))
            np.testing.assert_array_equal(np.asarray(value), np.asarray(before))
            outputs[...] = 0  # the caller's own
