"""All that the gRPC door serves, by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from elastic_inference.accelerator.doors.grpc import health, inference_service, messages, reflection
from elastic_inference.accelerator.doors.grpc.call import Call, Method
from elastic_inference.accelerator.doors.grpc.pace import Pace
from elastic_inference.accelerator.inference import Inference
from elastic_inference.accelerator.rpc import RpcMethod, RpcServices

DOOR = "grpc"


def all_methods(
    inference: Inference, doors: Sequence[str], others: Mapping[str, RpcServices]
) -> dict[str, Method]:
    """Return what serves which path; made once for all connections of an endpoint.

    Args:
        doors: Those that are open there; methods of the others are not there.
        others: Services of other doors, by their names.
    """
    found = inference_service.methods(inference) if DOOR in doors else {}
    pools = [messages.POOL]
    for name, services in others.items():
        if name in doors:
            found |= {path: _method(one, inference) for path, one in services.methods.items()}
            pools.append(services.pool)
    own = frozenset([health.SERVICE, *map(reflection.service_name, reflection.VERSIONS)])
    served = own | {path.split("/")[1] for path in found}
    return {**found, **health.methods(inference, served), **reflection.methods(served, pools)}


def _method(method: RpcMethod, inference: Inference) -> Method:
    def serve(call: Call) -> None:
        limit = inference.shared.body_limit_bytes
        if not method.carries_tensors:
            limit = min(limit, inference_service.MAX_CONTROL_BYTES)
        answer = method.answer(call.take(limit), call)
        if call.timing is not None:
            pace.note(call.timing)
        call.answer(answer)

    pace = Pace()
    return Method(serve, pace=lambda _: pace) if method.carries_tensors else Method(serve)
