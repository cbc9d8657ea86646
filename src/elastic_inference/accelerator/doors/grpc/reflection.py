"""gRPC's server reflection: what services there are and what their messages look like, for tools such as grpcurl."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from elastic_inference.accelerator.doors.grpc import messages
from elastic_inference.accelerator.doors.grpc.call import Call, Method
from elastic_inference.accelerator.message_pool import MessagePool
from elastic_inference.protocol.status import GrpcCode

VERSIONS = ("v1", "v1alpha")
_MAX_BYTES = 1 << 16


def methods(services: Collection[str], pools: Sequence[MessagePool]) -> dict[str, Method]:
    """Return what serves which path of both versions, which differ in their name alone.

    Args:
        services: Full names of those that are open beside this one.
        pools: Where their messages are.
    """
    all_services = sorted({*services, *map(service_name, VERSIONS)})
    return {
        f"/{service_name(version)}/ServerReflectionInfo": Method(
            _serve(version, all_services, pools), takes_many=True
        )
        for version in VERSIONS
    }


def service_name(version: str) -> str:
    """Return the full name of a version's service."""
    return f"grpc.reflection.{version}.ServerReflection"


def _serve(version: str, services: Sequence[str], pools: Sequence[MessagePool]) -> Callable[[Call], None]:
    package = f"grpc.reflection.{version}"

    def serve(call: Call) -> None:
        while (view := call.next(_MAX_BYTES)) is not None:
            request = messages.parse(f"{package}.ServerReflectionRequest", view)
            response = messages.message_class(f"{package}.ServerReflectionResponse")(
                valid_host=request.host, original_request=request
            )
            _answer(request, response, services, pools)
            call.send([response.SerializeToString()])

    return serve


def _answer(request: Any, response: Any, services: Sequence[str], pools: Sequence[MessagePool]) -> None:
    kind = request.WhichOneof("message_request")
    try:
        match kind:
            case "list_services":
                response.list_services_response.SetInParent()
                for name in services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _add_file(response, _first(pools, "FindFileByName", request.file_by_filename))
            case "file_containing_symbol":
                _add_file(response, _first(pools, "FindFileContainingSymbol", request.file_containing_symbol))
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                _first(pools, "FindMessageTypeByName", name)
                response.all_extension_numbers_response.base_type_name = name
            case _:
                raise KeyError("no such extension")
    except KeyError:
        response.error_response.error_code = int(GrpcCode.NOT_FOUND)
        response.error_response.error_message = f"not found: {kind}"


def _first(pools: Sequence[MessagePool], find: str, name: str) -> Any:
    """Return what the first pool finds that has it; KeyError where none does."""
    for each in pools:
        try:
            return getattr(each.pool, find)(name)
        except KeyError:
            continue
    raise KeyError(name)


def _add_file(response: Any, file: Any) -> None:
    response.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
