"""The client that is generated from the protocol's OpenAPI text: `python openapi.py ADDRESS TOKEN MODEL`."""

import sys

import httpx
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.types import InferenceRequest

ADDRESS, TOKEN, MODEL = sys.argv[1:]
http = httpx.Client(headers={"authorization": f"Bearer {TOKEN}"})
client = OpenInferenceClient(base_url=f"http://{ADDRESS}", httpx_client=http)
REQUEST = InferenceRequest.parse_obj(
    {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 3], "data": [1, 2, 3]}]}
)

client.check_server_liveness()
client.check_server_readiness()
client.check_model_readiness(MODEL)
client.check_model_version_readiness(MODEL, "1")
assert client.read_server_metadata().name == "elastic-inference"
assert client.read_model_metadata(MODEL).inputs[0].datatype == "UINT8"
assert client.read_model_version_metadata(MODEL, "1").name == MODEL
for answer in (
    client.model_infer(MODEL, request=REQUEST),
    client.model_version_infer(MODEL, "1", request=REQUEST),
):
    assert answer.outputs[0].shape == [1, 3]
    data = answer.outputs[0].data
    assert list(getattr(data, "__root__", data)) == [1, 2, 3], data
try:
    client.read_model_metadata("nothing")
except ApiError as error:
    assert error.status_code == 404, error
else:
    raise AssertionError("a model that there is not was described")
