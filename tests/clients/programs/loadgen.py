"""MLPerf's load generator, SingleStream and Server: what its summaries say. Arguments: client, folder, seconds, where.

`client` is "grpc" (NVIDIA's) or "predictor" (ours, from the model's file).
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlperf_loadgen as lg
import numpy as np

NUM_SAMPLES = 64
QUERIES_PER_SECOND = 200.0
MIN_QUERIES = 600  # the least with which it believes a 99th percentile, and a third more
client_name, folder, seconds, address, token, model = sys.argv[1:7]
samples = [np.full((1, 256), index, np.uint8) for index in range(NUM_SAMPLES)]
local = threading.local()


def ask_grpc(values):
    import tritonclient.grpc as triton

    if not hasattr(local, "client"):
        local.client = triton.InferenceServerClient(address)
    tensor = triton.InferInput("x", list(values.shape), "UINT8")
    tensor.set_data_from_numpy(values)
    return local.client.infer(model, [tensor], headers={"authorization": f"Bearer {token}"}).as_numpy("x")


def predictor():
    from elastic_inference import EIPredictor

    asked = EIPredictor(model, address=f"tcp:{address}", token=token)
    return lambda values: asked({"x": values})["x"]


ask = ask_grpc if client_name == "grpc" else predictor()
workers = ThreadPoolExecutor(4)


def answer(query):
    values = ask(samples[query.index])
    assert (values == samples[query.index]).all()
    response = lg.QuerySampleResponse(query.id, values.ctypes.data, values.nbytes)
    lg.QuerySamplesComplete([response])


def failed(future):
    if future.exception() is not None:
        print(repr(future.exception()), file=sys.stderr, flush=True)


def issue(queries):
    for query in queries:
        workers.submit(answer, query).add_done_callback(failed)


for scenario in (lg.TestScenario.SingleStream, lg.TestScenario.Server):
    settings = lg.TestSettings()
    settings.scenario = scenario
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = int(float(seconds) * 1000)
    settings.min_query_count = MIN_QUERIES
    settings.single_stream_expected_latency_ns = 20_000  # of which it makes its number of queries
    settings.server_target_qps = QUERIES_PER_SECOND
    settings.server_target_latency_ns = 1_000_000_000
    output = Path(folder) / scenario.name
    output.mkdir()
    outputs = lg.LogOutputSettings()
    outputs.outdir = str(output)
    logs = lg.LogSettings()
    logs.log_output = outputs
    sut = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(NUM_SAMPLES, NUM_SAMPLES, lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, library, settings, logs)
    lg.DestroyQSL(library)
    lg.DestroySUT(sut)
    summary = (output / "mlperf_log_summary.txt").read_text()
    print(scenario.name, "VALID" if "Result is : VALID" in summary else summary)
