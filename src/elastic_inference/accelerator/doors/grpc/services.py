"""All that the gRPC door serves, by path."""

from __future__ import annotations

from elastic_inference.accelerator.doors.grpc import health, inference_service, reflection
from elastic_inference.accelerator.doors.grpc.call import Method
from elastic_inference.accelerator.inference import Inference


def all_methods(inference: Inference) -> dict[str, Method]:
    """Return what serves which path; made once for all connections of an accelerator."""
    services = frozenset(
        [inference_service.SERVICE, health.SERVICE, *map(reflection.service_name, reflection.VERSIONS)]
    )
    return {
        **inference_service.methods(inference),
        **health.methods(inference, services),
        **reflection.methods(),
    }
