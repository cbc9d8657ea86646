"""gRPC's server reflection: what services there are and what their messages look like, for tools such as grpcurl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elastic_inference.accelerator.doors.grpc import messages
from elastic_inference.accelerator.doors.grpc.call import Call, Method
from elastic_inference.protocol.status import GrpcCode

VERSIONS = ("v1", "v1alpha")
_MAX_BYTES = 1 << 16


def methods() -> dict[str, Method]:
    """Return what serves which path of both versions, which differ in their name alone."""
    return {
        f"/{service_name(version)}/ServerReflectionInfo": Method(_serve(version), takes_many=True)
        for version in VERSIONS
    }


def service_name(version: str) -> str:
    """Return the full name of a version's service."""
    return f"grpc.reflection.{version}.ServerReflection"


def _serve(version: str) -> Callable[[Call], None]:
    package = f"grpc.reflection.{version}"

    def serve(call: Call) -> None:
        while (view := call.next(_MAX_BYTES)) is not None:
            request = messages.parse(f"{package}.ServerReflectionRequest", view)
            response = messages.message_class(f"{package}.ServerReflectionResponse")(
                valid_host=request.host, original_request=request
            )
            _answer(request, response)
            call.send([response.SerializeToString()])

    return serve


def _answer(request: Any, response: Any) -> None:
    kind = request.WhichOneof("message_request")
    pool = messages.pool()
    try:
        match kind:
            case "list_services":
                response.list_services_response.SetInParent()
                for file in messages.file_set().file:
                    for service in file.service:
                        response.list_services_response.service.add(name=f"{file.package}.{service.name}")
            case "file_by_filename":
                _add_file(response, pool.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                _add_file(response, pool.FindFileContainingSymbol(request.file_containing_symbol))
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                pool.FindMessageTypeByName(name)
                response.all_extension_numbers_response.base_type_name = name
            case _:
                raise KeyError("no such extension")
    except KeyError:
        response.error_response.error_code = int(GrpcCode.NOT_FOUND)
        response.error_response.error_message = f"not found: {kind}"


def _add_file(response: Any, file: Any) -> None:
    response.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
