"""All that the gRPC door serves, by path."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_inference.accelerator.doors.grpc import health, inference_service, reflection
from elastic_inference.accelerator.doors.grpc.call import Method
from elastic_inference.accelerator.inference import Inference

DOOR = "grpc"


def all_methods(inference: Inference, doors: Sequence[str]) -> dict[str, Method]:
    """Return what serves which path; made once for all connections of an endpoint.

    Args:
        doors: Those that are open there; methods of the others are not there.
    """
    own = inference_service.methods(inference) if DOOR in doors else {}
    services = frozenset(path.split("/")[1] for path in own) | {
        health.SERVICE,
        *map(reflection.service_name, reflection.VERSIONS),
    }
    return {
        **own,
        **health.methods(inference, services),
        **reflection.methods(),
    }
