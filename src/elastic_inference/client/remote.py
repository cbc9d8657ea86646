"""A model on an accelerator: sent once, loaded, and called over the wire or through shared memory."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from elastic_inference.client import regions
from elastic_inference.client.connection import MAX_JSON_BYTES, Connection, ConnectionPool
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.load_stages import OnStage, watching
from elastic_inference.client.model_name import model_name
from elastic_inference.client.prediction import Outputs, Prediction
from elastic_inference.client.report import PredictorReport
from elastic_inference.client.response import ResponseHead, parse_tensors
from elastic_inference.client.upload import Progress, upload
from elastic_inference.deadline import Deadline
from elastic_inference.errors import (
    ConnectError,
    ConnectionLost,
    ElasticInferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ProtocolError,
)
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import (
    ALIGNMENT,
    RegionRange,
    encode_head,
    encode_tensor,
)
from elastic_inference.protocol.heads import ResponseHead as ParsedHead
from elastic_inference.protocol.shared_memory import Region
from elastic_inference.tensors import NUMPY_DTYPES

log = logging.getLogger(__name__)
T = TypeVar("T")

SHARED_MEMORY_FROM_BYTES = 1 << 15  # below this, one send is as quick as a copy
GIVE_BACK_SECONDS = 2.0
LOAD_SECONDS = 600.0  # a large graph takes tens of seconds to compile on a small share
MAX_LOADS_A_CALL = 3  # an accelerator that lost its store; more often, and it is something else that answers
CONTROL_SECONDS = 10.0  # for what an accelerator answers at once
RETRY_FIRST_SECONDS = 0.02
RETRY_MOST_SECONDS = 0.5
MAX_CACHED_HEADS = 64
_SERVER_TIMING = re.compile(rb"queue;dur=([0-9.]+), service;dur=([0-9.]+)")


class RemoteModel:
    """One signature of one model on one accelerator. Safe for several threads.

    Args:
        pool: Connections to the accelerator.
        package, request: What to send and load.
        options: How it is loaded.
        use_shared_memory: Whether to try it; it is used where the accelerator can open the region.
        progress: Called with (bytes sent, bytes in all) while files are sent.
        on_stage: Told what is done meanwhile, here and there.
        explain: Asked after each broken connection, with the call's deadline; returns the error to raise where the
            accelerator has ended for good, None where it may come back.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        package: ModelPackage,
        request: SignatureRequest,
        options: LoadOptions,
        use_shared_memory: bool = True,
        progress: Progress | None = None,
        explain: Callable[[Deadline], Exception | None] = lambda _: None,
        on_stage: OnStage | None = None,
    ) -> None:
        self._pool = pool
        self._explain = explain
        self._package = package
        self._load_body = self._make_load_body(package, request, options)
        self._shared_name = self.name = options.name or model_name(package, self._load_body)
        # For a model that keeps what a call changes: the accelerator then gives this predictor one of its own. Whoever
        # names a model wants that one, which others ask for too.
        self._instance = secrets.token_hex(8) if options.name is None else None
        self._pid = os.getpid()
        self._use_shared_memory = use_shared_memory and pool.address.endpoint.is_local()
        self._shared_memory_note = ""
        self._progress = progress
        self._on_stage = on_stage
        self._request_heads: dict[tuple[Any, ...], bytes] = {}
        self._response_heads: dict[bytes, ParsedHead] = {}
        self.signature: Signature
        self._config: dict[str, Any] = {}
        self._upload_seconds = 0.0

    @staticmethod
    def _make_load_body(
        package: ModelPackage, request: SignatureRequest, options: LoadOptions
    ) -> dict[str, Any]:
        files = [{"path": f.path, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in package.files]
        described = {"format": package.format.value, "files": files}
        return {"package": described, "signature": request.to_json(), **options.parameters()}

    def load(self, deadline: Deadline | None = None) -> None:
        """Send what the accelerator lacks, load, warm up. Raises what the accelerator answers.

        Args:
            deadline: None: 600 s from now.
        """
        deadline = deadline or Deadline(LOAD_SECONDS)
        self._config = self._retried(deadline, lambda _: self._load_once(deadline))
        self.signature = Signature.from_json(self._config["signature"])
        if self._use_shared_memory:
            with self._pool.connection(deadline.within(CONTROL_SECONDS)) as connection:
                # As large as calls are, so that the first of them need not make a larger one.
                ahead = regions.bytes_ahead(self.signature, self._config.get("last_shapes", {}))
                self._region(connection, max(ahead, SHARED_MEMORY_FROM_BYTES))

    def _load_once(self, deadline: Deadline) -> dict[str, Any]:
        with watching(self._pool, self._shared_name, self._on_stage):
            start = time.monotonic()
            upload(self._pool, self._package, self._progress, deadline)
            self._upload_seconds = time.monotonic() - start
            own: dict[str, Any] = {"label": str(self._package.main_path)}
            if self._instance is not None:
                own["instance"] = self._instance
            body = json.dumps({"parameters": {**self._load_body, **own}}).encode()
            with self._pool.connection(deadline) as connection:
                config = connection.call("POST", f"/v2/repository/models/{self._shared_name}/load", body)
        if config["name"] != self.name:
            self.name = config["name"]
            self._request_heads.clear()
        return config

    def predict(self, inputs: Mapping[str, npt.NDArray[Any]], deadline: Deadline) -> Prediction:
        """Run once; see `EIPredictor.__call__`.

        Raises:
            DeadlineExceeded: No reply in time, retries included.
            TransportError: The accelerator could not be reached in time.
            ElasticInferenceError: What the accelerator answered.
        """
        return self._retried(deadline, lambda seconds: self._predict_once(inputs, deadline, seconds))

    def _predict_once(
        self, inputs: Mapping[str, npt.NDArray[Any]], deadline: Deadline, timeout_seconds: float | None
    ) -> Prediction:
        views = {alias: wire.to_bytes(array) for alias, array in inputs.items()}
        with self._pool.connection(deadline) as connection:
            request = self._request(connection, inputs, views, timeout_seconds)
            head = connection.exchange(request)
            if head.status != 200:
                raise connection.read_error(head)
            outputs = self._outputs(connection, head)
            connection.finish(head)
        timing = _SERVER_TIMING.search(head.timing or head.headers.get(b"server-timing", b""))
        if timing is None:
            return Prediction(outputs)
        return Prediction(outputs, float(timing[1]) / 1e3, float(timing[2]) / 1e3)

    def _request(
        self,
        connection: Connection,
        inputs: Mapping[str, npt.NDArray[Any]],
        views: Mapping[str, memoryview],
        timeout_seconds: float | None,
    ) -> list[bytes | memoryview]:
        size = sum(len(view) for view in views.values())
        region = None
        if not self._use_shared_memory:
            if connection.region is not None:  # of a time before it was given up
                connection.end_region()
        elif size >= SHARED_MEMORY_FROM_BYTES:
            region = self._region(connection, size + len(views) * ALIGNMENT)
        key = (
            timeout_seconds,
            region and region.key,
            *((alias, array.shape, len(views[alias])) for alias, array in inputs.items()),
        )
        text = self._request_heads.get(key)
        if text is None:
            text = self._encode_request(inputs, views, region, timeout_seconds)
            if len(self._request_heads) >= MAX_CACHED_HEADS:
                self._request_heads.clear()
            self._request_heads[key] = text
        if region is None:
            return [text, *views.values()]
        offset = 0
        for view in views.values():
            region.view[offset : offset + len(view)] = view
            offset = _aligned(offset + len(view))
        return [text]

    def _encode_request(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        views: Mapping[str, memoryview],
        region: Region | None,
        timeout_seconds: float | None,
    ) -> bytes:
        tensors = []
        offset = 0
        for alias in inputs:
            size = len(views[alias])
            where = None if region is None else RegionRange(region.key[1:], offset, size)
            dtype = self.signature.inputs[alias].base_dtype
            tensors.append(encode_tensor(alias, dtype, inputs[alias].shape, size, where))
            offset = _aligned(offset + size)
        parameters: dict[str, Any] = {"binary_data_output": True}
        if timeout_seconds is not None:
            parameters["timeout"] = max(int(timeout_seconds * 1e6), 1)
        text = encode_head({"inputs": tensors, "parameters": parameters})
        body = len(text) + (0 if region is not None else sum(len(view) for view in views.values()))
        lines = (
            f"POST /v2/models/{self.name}/infer HTTP/1.1\r\n"
            f"Inference-Header-Content-Length: {len(text)}\r\nContent-Length: {body}\r\n"
        )
        return lines.encode() + self._pool.address.headers() + b"\r\n" + text

    def _region(self, connection: Connection, size_bytes: int) -> Region | None:
        """Return the connection's own region, made larger where needed; None where shared memory cannot be had."""
        connection.region_used = time.monotonic()
        region = connection.region
        if region is not None and region.size_bytes >= size_bytes:
            return region
        connection.end_region()  # before there is a larger one: both at once may not fit
        try:
            fresh = Region.create(size_bytes)
        except OSError as error:
            self._stop_shared_memory(f"no region of {size_bytes} bytes: {error}")
            return None
        try:
            regions.register(connection, fresh)
        except InvalidInput as error:
            self._stop_shared_memory(str(error))
            return None
        connection.region = fresh
        return fresh

    def _stop_shared_memory(self, reason: str) -> None:
        self._use_shared_memory = False
        self._shared_memory_note = f"shared memory is not used: {reason}"
        log.info(self._shared_memory_note)
        self._pool.drop_regions()

    def _outputs(self, connection: Connection, head: ResponseHead) -> Outputs:
        stream = connection.stream
        length = head.number(b"inference-header-content-length")
        if length is None:
            length = head.content_length
        if length > MAX_JSON_BYTES:
            raise ProtocolError(f"the response's inference header has {length} bytes")
        text = stream.read(length)
        parsed = self._response_heads.get(text)
        if parsed is None:
            parsed = parse_tensors(text)
            if len(self._response_heads) >= MAX_CACHED_HEADS:
                self._response_heads.clear()
            self._response_heads[text] = parsed
        if length + parsed.num_binary_bytes != head.content_length:
            raise ProtocolError(
                f"the response's tensors have {parsed.num_binary_bytes} bytes, its body {head.content_length - length}"
            )
        outputs: Outputs = {}
        for part in parsed.outputs:
            if part.data is not None:
                outputs[part.name] = wire.from_json(part.data, part.dtype, part.shape, part.name)
            elif part.dtype == "string":
                data = memoryview(stream.read(part.size_bytes))
                outputs[part.name] = wire.decode_strings(data, part.shape, part.name)
            else:
                array = np.empty(part.shape, NUMPY_DTYPES[part.dtype])
                stream.read_into(array.reshape(-1).view(np.uint8).data)
                outputs[part.name] = array
        return outputs

    def _retried(self, deadline: Deadline, once: Callable[[float | None], T]) -> T:
        """Call `once` until it succeeds; predictions have no effects, so a retry is safe.

        Args:
            once: Given the seconds that the accelerator is to know of. At the first try they are the whole time-out,
                of which nothing has passed yet: the same number in each call, so that the same head can be sent.
        """
        seconds = deadline.timeout_seconds
        pause = RETRY_FIRST_SECONDS
        num_loads = 0
        lost: ModelNotFound | None = (
            None  # an accelerator that was restarted lost its store, or another took its place
        )
        while True:
            try:
                if lost is not None:
                    self._load_again(deadline, num_loads, lost)
                    num_loads, lost = num_loads + 1, None
                return once(seconds)
            except ModelNotFound as error:
                if not self._config or lost is not None:
                    raise  # of a load, which must not come back here
                if num_loads:
                    pause = self._pause(pause, deadline, error)
                lost = error
            except (ConnectError, ConnectionLost, ModelNotReady) as error:
                if deadline.is_cancelled:
                    raise
                self._pool.drop_idle()
                before = self._pool.address
                ended = self._explain(deadline)
                if ended is not None:
                    raise ended from error
                if not self._config and self._pool.address is before:
                    raise  # it was never reached: a wrong address is told at once
                pause = self._pause(pause, deadline, error)
            seconds = deadline.check("the reply, retries included,")

    @staticmethod
    def _pause(pause: float, deadline: Deadline, error: Exception) -> float:
        wait = pause * random.uniform(0.5, 1.0)
        left = deadline.left_seconds()
        if left is not None and left <= wait:
            raise error
        time.sleep(wait)
        return min(pause * 2, RETRY_MOST_SECONDS)

    def _load_again(self, deadline: Deadline, num_loads: int, error: ModelNotFound) -> None:
        if num_loads == MAX_LOADS_A_CALL:
            raise ModelNotFound(
                f"{self._pool.address.endpoint} loaded the model {num_loads} times in one call and each time knew "
                f"nothing of it afterwards ({error}); is there a proxy that sends requests to several accelerators?"
            ) from error
        deadline.check("the model, which the accelerator lost,")
        self._config = self._load_once(deadline.within(LOAD_SECONDS))

    def report(self, start_seconds: float) -> PredictorReport:
        """Return what is in force on the accelerator's side."""
        with self._pool.connection(Deadline(CONTROL_SECONDS)) as connection:
            accelerator = connection.call("GET", "/v2/accelerator")
            now = connection.call("GET", f"/v2/models/{self.name}/config")
        engine = now["report"]
        notes = [*engine["notes"], self._config["warm_up_note"], self._shared_memory_note]
        endpoint = self._pool.address.endpoint
        return PredictorReport(
            use_ei=True,
            engine=engine["engine"],
            engine_version=engine["engine_version"],
            device=engine["device"],
            precision=engine["precision"],
            num_threads=engine["num_threads"],
            transport=endpoint.kind + (" + shared memory" if self._use_shared_memory else ""),
            address=str(endpoint),
            accelerator_id=accelerator["accelerator_id"],
            accelerator_type=accelerator["accelerator_type"],
            limits=accelerator["limits"],
            start_seconds=start_seconds,
            upload_seconds=self._upload_seconds,
            load_seconds=engine["load_seconds"],
            warm_up_seconds=self._config["warm_up_seconds"],
            source=engine.get("source", ""),
            proof=now.get("proof", ""),
            batching=now.get("batching", ""),
            notes=tuple(note for note in notes if note),
        )

    def close(self) -> None:
        """Close the connections; a shared model stays on the accelerator for others. Closing twice is fine."""
        self.give_back()
        self._pool.close()

    def give_back(self) -> None:
        """Unload a model that is this predictor's alone, where the accelerator can still be asked."""
        if self.name == self._shared_name or self._pid != os.getpid():
            return
        path, self.name = f"/v2/repository/models/{self.name}/unload", self._shared_name
        with (
            contextlib.suppress(ElasticInferenceError),
            self._pool.connection(Deadline(GIVE_BACK_SECONDS)) as connection,
        ):
            connection.call("POST", path)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
