"""The no-op model as MLServer wants it."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Noop(MLModel):  # type: ignore[misc]
    """Views the body as an array and answers one number."""

    async def load(self) -> bool:
        """Nothing to load."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The no-op."""
        np.frombuffer(payload.inputs[0].data.root[0], np.uint8)
        output = ResponseOutput(name="sum", shape=[1], datatype="INT32", data=[1])
        return InferenceResponse(model_name=self.name, outputs=[output])
