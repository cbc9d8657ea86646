"""TensorFlow Serving's REST and SageMaker's container interface, asked over HTTP of an accelerator process."""

from __future__ import annotations

import base64
import http.client
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.deadline import Deadline
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model
from tests.integration.small_models import NUM_INPUTS, SIGNATURES, expected, write_saved_model
from tests.integration.tiny_model import write_doubling_graph

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]]


@dataclass
class Served:
    """An accelerator and the names of its models."""

    accelerator: RunningAccelerator
    linear: str
    both: str
    echo: str
    doubling: str

    def ask(
        self, method: str, path: str, body: bytes | object = b"", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one request on a connection of its own."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        host, port = self.accelerator.address.removeprefix("tcp:").rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                method, path, data or None, {"Authorization": f"Bearer {self.accelerator.token}", **given}
            )
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: bytes | object = b"", **headers: str) -> tuple[int, Any]:
        """The same, where the answer is JSON."""
        status, _, data = self.ask(method, path, body, **headers)
        return status, json.loads(data)


def names(accelerator: RunningAccelerator) -> set[str]:
    """The models of an accelerator."""
    rows = request_json(
        Endpoint.parse(accelerator.address), "POST", "/v2/repository/index", {}, token=accelerator.token,
        deadline=Deadline(60.0),
    )  # fmt: skip
    return {row["name"] for row in rows}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("rest")
    dtypes = {"text": ("string", (None,)), "raw_bytes": ("string", (None,)), "truth": ("bool", (None, 2))}
    echo = write_model(folder / "echo.testing", inputs=dtypes, outputs=dtypes)
    with start_accelerator() as accelerator, ExitStack() as stack:

        def load(path: Path, **more: Any) -> str:
            before = names(accelerator)
            stack.enter_context(
                EIPredictor(path, address=accelerator.address, token=accelerator.token, **more)
            )
            (name,) = names(accelerator) - before
            return name

        saved = write_saved_model(folder / "seven", 7)
        yield Served(
            accelerator,
            load(saved),
            load(saved, signature_def_key="both"),
            load(echo),
            load(
                write_doubling_graph(folder / "double.pb"),
                input_names={"x": "x:0"},
                output_names={"y": "y:0"},
            ),
        )


def close(found: object, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(found), wanted, rtol=1e-5)


# TensorFlow Serving


def test_rows_and_columns_of_one_tensor(served: Served) -> None:
    wanted = expected(7, "serving_default", np.array(ROWS, np.float32))["outputs"]
    path = f"/v1/models/{served.linear}:predict"
    for body in ({"instances": ROWS}, {"instances": [{"x": row} for row in ROWS]}):
        status, answer = served.json("POST", path, body)
        assert (status, list(answer)) == (200, ["predictions"])
        close(answer["predictions"], wanted)
    for inputs in (ROWS, {"x": ROWS}):
        status, answer = served.json(
            "POST", f"/v1/models/{served.linear}/versions/1:predict", {"inputs": inputs}
        )
        assert (status, list(answer)) == (200, ["outputs"])
        close(answer["outputs"], wanted)


def test_several_outputs_are_objects(served: Served) -> None:
    wanted = expected(7, "both", np.array(ROWS, np.float32))
    status, answer = served.json(
        "POST", f"/v1/models/{served.both}:predict", {"instances": ROWS, "signature_name": "both"}
    )
    assert status == 200
    for name, values in wanted.items():
        close([row[name] for row in answer["predictions"]], values)
    _, answer = served.json("POST", f"/v1/models/{served.both}:predict", {"inputs": ROWS})
    assert set(answer["outputs"]) == set(wanted)


def test_numbers_have_the_digits_of_their_dtype(served: Served) -> None:
    _, _, data = served.ask("POST", f"/v1/models/{served.linear}:predict", {"instances": [[0, 0, 0, 0.1]]})
    values = expected(7, "serving_default", np.array([[0, 0, 0, 0.1]], np.float32))["outputs"][0]
    assert (
        max(len(text.strip(" []").lstrip("-")) for text in data.decode().split(":")[1].rstrip("}").split(","))
        <= 15
    )
    close(json.loads(data)["predictions"][0], values)


def test_strings_are_text_and_bytes_are_base64(served: Served) -> None:
    raw = {"b64": base64.b64encode(b"\xff\x00").decode()}
    row = {"text": "K\u00f6ln", "raw_bytes": raw, "truth": [True, False]}
    status, answer = served.json("POST", f"/v1/models/{served.echo}:predict", {"instances": [row, row]})
    assert (status, answer) == (200, {"predictions": [row, row]})


def test_any_signature_of_a_model_answers_whichever_it_was_loaded_with(served: Served) -> None:
    x = np.array(ROWS, np.float32)
    for model in (served.linear, served.both):
        for key in SIGNATURES:
            body = {"inputs": ROWS, "signature_name": key}
            status, answer = served.json("POST", f"/v1/models/{model}:predict", body)
            assert status == 200, answer
            wanted = expected(7, key, x)
            found = answer["outputs"] if len(wanted) > 1 else {"outputs": answer["outputs"]}
            assert set(found) == set(wanted)
            for name, values in wanted.items():
                close(found[name], values)
        _, answer = served.json("GET", f"/v1/models/{model}/metadata")
        assert set(answer["metadata"]["signature_def"]["signature_def"]) == set(SIGNATURES)


def test_status_and_metadata(served: Served) -> None:
    for path in (f"/v1/models/{served.linear}", f"/v1/models/{served.linear}/versions/1"):
        assert served.json("GET", path) == (
            200,
            {
                "model_version_status": [
                    {
                        "version": "1",
                        "state": "AVAILABLE",
                        "status": {"error_code": "OK", "error_message": ""},
                    }
                ]
            },
        )
    status, answer = served.json("GET", f"/v1/models/{served.linear}/metadata")
    assert (status, answer["model_spec"]["name"]) == (200, served.linear)
    definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    sizes = definition["inputs"]["x"]["tensor_shape"]["dim"]
    assert [size["size"] for size in sizes] == ["-1", str(NUM_INPUTS)]
    assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/v1/models/none:predict", {"instances": [1]}, 404, "unknown model"),
        ("/v1/models/{linear}/versions/2:predict", {"instances": ROWS}, 404, "version"),
        ("/v1/models/{linear}/labels/stable:predict", {"instances": ROWS}, 400, "version label: stable"),
        ("/v1/models/{linear}:predict", b"{", 400, "JSON Parse error"),
        ("/v1/models/{linear}:predict", [], 400, "must be a JSON object"),
        ("/v1/models/{linear}:predict", {}, 400, "'inputs' or 'instances'"),
        ("/v1/models/{linear}:predict", {"instances": []}, 400, "at least one"),
        ("/v1/models/{linear}:predict", {"instances": [{"y": 1}]}, 400, "unexpected inputs ['y']"),
        ("/v1/models/{linear}:predict", {"instances": [{"x": ROWS[0]}, 1]}, 400, "row 1 must be an object"),
        ("/v1/models/{linear}:predict", {"instances": [[1, 2], [3]]}, 400, "unequal length"),
        ("/v1/models/{linear}:predict", {"instances": [["a", "b", "c", "d"]]}, 400, "must be a number"),
        ("/v1/models/{linear}:predict", {"instances": [[1, 2, 3]]}, 400, "has shape [1, 3]"),
        ("/v1/models/{linear}:predict", {"instances": ROWS, "signature_name": "other"}, 400, 'key "other" not found'),
        ("/v1/models/{linear}:predict", {"instances": ROWS, "signature_name": 1}, 400, "must be a string"),
        ("/v1/models/{doubling}:predict", {"inputs": 1, "signature_name": "other"}, 400, 'key "other" not found'),
        ("/v1/models/{linear}:classify", {"examples": [{"x": 1.0}]}, 400, "one string input"),
        ("/v1/models/{doubling}:predict", {"instances": [1.5]}, 400, "must be a integer"),
        ("/v1/models/{doubling}:predict", {"instances": [3000000000]}, 400, "holds -2147483648 to 2147483647"),
        ("/v1/models/{echo}:predict", {"inputs": {"text": [1], "raw_bytes": ["a"], "truth": [[1, 0]]}}, 400, "neither"),
        ("/v1/models/{linear}:predict", b"[" * 100_000, 400, "JSON Parse error"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(served: Served, path: str, body: object, status: int, told: str) -> None:
    found, answer = served.json("POST", path.format(**vars(served)), body)
    assert found == status
    assert told in answer["error"]


def test_a_path_takes_its_own_method(served: Served) -> None:
    status, headers, _ = served.ask("GET", f"/v1/models/{served.linear}:predict")
    assert (status, headers["Allow"]) == (405, "POST")
    assert served.ask("POST", f"/v1/models/{served.linear}")[0] == 405
    assert served.ask("GET", "/v1/nothing")[0] == 404


def test_without_the_token_nothing_is_told(served: Served) -> None:
    for path in (f"/v1/models/{served.linear}", "/invocations"):
        assert served.ask("GET", path, Authorization="Bearer wrong")[0] == 401


# SageMaker


def target(name: str) -> dict[str, str]:
    return {"X_Amzn_SageMaker_Target_Model": name}


def test_ping_says_whether_models_are_ready_to_whom_has_no_token_too(served: Served) -> None:
    assert served.ask("GET", "/ping")[0] == 200
    assert served.ask("GET", "/ping", Authorization="")[0] == 200


def test_invocations_take_json_csv_and_npy(served: Served) -> None:
    x = np.array(ROWS, np.float32)
    wanted = expected(7, "serving_default", x)["outputs"]
    csv_rows = "\n".join(",".join(map(str, row)) for row in ROWS).encode()
    lines = "\n".join(map(json.dumps, ROWS)).encode()
    for body, kind in (
        ({"instances": ROWS}, "application/json"),
        (lines, "application/jsonlines"),
        (ROWS, "application/json"),
    ):
        status, answer = served.json("POST", "/invocations", body, Content_Type=kind, **target(served.linear))
        assert status == 200
        close(answer["predictions"], wanted)
    status, headers, data = served.ask(
        "POST", "/invocations", csv_rows, Content_Type="text/csv", **target(served.linear)
    )
    assert (status, headers["Content-Type"]) == (200, "text/csv")
    close(np.loadtxt(io.BytesIO(data), delimiter=","), wanted)
    stream = io.BytesIO()
    np.save(stream, x.astype(np.float64))
    npy = stream.getvalue()
    status, _, data = served.ask(
        "POST", "/invocations", npy, Content_Type="application/x-npy", **target(served.linear)
    )
    assert status == 200
    close(np.load(io.BytesIO(data)), wanted)


def test_the_answer_comes_in_the_form_that_is_accepted(served: Served) -> None:
    attribute = {"X_Amzn_SageMaker_Custom_Attributes": f"tfs-model-name={served.linear}"}
    for accept, kind in (
        ("text/csv", "text/csv"),
        ("image/png, application/x-npy;q=0.5", "application/x-npy"),
        ("*/*", "application/json"),
    ):
        status, headers, _ = served.ask(
            "POST", "/invocations", {"instances": ROWS}, Accept=accept, **attribute
        )
        assert (status, headers["Content-Type"]) == (200, kind)


NPY_HEAD = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 4)}"


def npy_file(head: str) -> bytes:
    """A file with this head, whose numbers are a row of 4."""
    padded = head.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(16)


@pytest.mark.parametrize(
    ("body", "headers", "status", "told"),
    [
        ({"instances": ROWS}, {}, 400, "4 models are here"),
        ({"instances": ROWS}, {"Accept": "image/png"}, 406, "names none of"),
        (b"x", {"Content_Type": "image/png"}, 415, "is none of"),
        (b"a,b\n", {"Content_Type": "text/csv"}, 400, "not CSV of numbers"),
        (b"", {"Content_Type": "text/csv"}, 400, "holds no row"),
        (b"nothing", {"Content_Type": "application/x-npy"}, 400, "not a .npy array"),
        (npy_file("{'shape': (3,"), {"Content_Type": "application/x-npy"}, 400, "not a .npy array"),
        (npy_file(NPY_HEAD % -3), {"Content_Type": "application/x-npy"}, 400, "not a .npy array"),
        (npy_file(NPY_HEAD % 10**12), {"Content_Type": "application/x-npy"}, 400, "not a .npy array"),
        ({"instances": [], "inputs": []}, {}, 400, "exactly one of"),
    ],
)
def test_bad_invocations_are_told(
    served: Served, body: object, headers: dict[str, str], status: int, told: str
) -> None:
    named = {} if told.startswith("4 models") else target(served.linear)
    found, answer = served.json("POST", "/invocations", body, **headers, **named)
    assert (found, told in answer["error"]) == (status, True), answer
