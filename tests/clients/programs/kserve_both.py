"""KServe's clients over REST and gRPC: `python kserve_both.py ADDRESS TOKEN MODEL`; the model gives back its `x`."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

ADDRESS, TOKEN, MODEL = sys.argv[1:]
VALUES = np.arange(6, dtype=np.uint8).reshape(2, 3)
HEADERS = {"authorization": f"Bearer {TOKEN}"}


def request():
    tensor = InferInput("x", [2, 3], "UINT8")
    tensor.set_data_from_numpy(VALUES, binary_data=False)
    return InferRequest(MODEL, [tensor])


async def rest():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    url = f"http://{ADDRESS}"
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, MODEL, headers=HEADERS)
    answer = await client.infer(url, request(), model_name=MODEL, headers=HEADERS)
    np.testing.assert_array_equal(answer.outputs[0].as_numpy(), VALUES)
    await client.close()


async def grpc():
    client = InferenceGRPCClient(ADDRESS)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    metadata = list(HEADERS.items())
    assert await client.is_model_ready(MODEL, headers=metadata)
    answer = await client.infer(request(), headers=metadata)
    np.testing.assert_array_equal(answer.outputs[0].as_numpy(), VALUES)
    await client.close()


asyncio.run(rest())
asyncio.run(grpc())
