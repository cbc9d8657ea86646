"""ovmsclient against an accelerator: every public method, over gRPC and over REST. Prints nothing where all is right.

Arguments: kind ("grpc" or "http"), address, token (not used), model: it gives back its input `x`, uint8[-1, -1].
"""

import sys

import numpy as np
from ovmsclient import InvalidInputError, ModelNotFoundError, make_grpc_client, make_http_client

kind, address, _, model = sys.argv[1:]
client = (make_grpc_client if kind == "grpc" else make_http_client)(address)

status = client.get_model_status(model)
assert status == {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}, status
assert client.get_model_status(model, 1) == status
metadata = client.get_model_metadata(model)
if kind == "http":  # read as OpenVINO Model Server writes it, else given back as TensorFlow Serving does
    (signature,) = metadata["metadata"]["signature_def"]["signature_def"].values()
    assert metadata["model_spec"]["version"] == "1", metadata
    assert signature["inputs"]["x"]["dtype"] == "DT_UINT8", metadata
else:
    tensor = {"shape": [-1, -1], "dtype": "DT_UINT8"}
    assert metadata == {"model_version": 1, "inputs": {"x": tensor}, "outputs": {"x": tensor}}, metadata

given = np.arange(6, dtype=np.uint8).reshape(2, 3)
for version in (0, 1):
    found = client.predict({"x": given}, model, version)
    np.testing.assert_array_equal(found, given)

for wrong, error in (
    (lambda: client.predict({"x": given}, "nothing"), ModelNotFoundError),
    (lambda: client.get_model_status("nothing"), ModelNotFoundError),
    (lambda: client.get_model_status(model, 7), ModelNotFoundError),
    (lambda: client.predict({"y": given}, model), InvalidInputError),
    (lambda: client.predict({"x": given.astype(np.float32) + 0.5}, model), InvalidInputError),
):
    try:
        wrong()
    except error:
        continue
    raise AssertionError(f"no {error.__name__}")
