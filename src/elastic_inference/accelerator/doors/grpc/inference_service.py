"""GRPCInferenceService but for inference itself: each method turns a message into a call of `inference` and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from elastic_inference.accelerator.doors.grpc import messages
from elastic_inference.accelerator.doors.grpc.call import Call, Method
from elastic_inference.accelerator.doors.grpc.infer import InferDoor, first_tensor
from elastic_inference.accelerator.inference import Inference
from elastic_inference.accelerator.switches import Switches
from elastic_inference.errors import InvalidInput, ModelNotFound, ModelNotReady

SERVICE = "inference.GRPCInferenceService"
MAX_CONTROL_BYTES = 64 << 20
_MAY_BRING_FILES = "RepositoryModelLoad"


def methods(inference: Inference) -> dict[str, Method]:
    """Return what serves which path of the service."""
    service, door = _Service(inference), InferDoor(inference)
    found = {
        f"/{SERVICE}/{name}": Method(_one(name, getattr(service, _snake(name)), inference))
        for name in (
            "ModelMetadata", "ServerMetadata", "ModelReady", "ModelConfig", "ModelStatistics", "RepositoryIndex",
            "RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryStatus", "SystemSharedMemoryUnregister",
            "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting",
            "LogSettings",
        )
    }  # fmt: skip
    register = "SystemSharedMemoryRegister"
    found[f"/{SERVICE}/{register}"] = Method(
        _one(register, service.system_shared_memory_register, inference, of_peer=True)
    )
    for name in ("ServerLive", "ServerReady"):
        serve = _one(name, getattr(service, _snake(name)), inference)
        found[f"/{SERVICE}/{name}"] = Method(serve, needs_token=False)
    found[f"/{SERVICE}/ModelInfer"] = Method(door.infer, first_tensor=first_tensor, pace=door.pace)
    found[f"/{SERVICE}/ModelStreamInfer"] = Method(
        door.infer_stream, takes_many=True, first_tensor=first_tensor
    )
    return found


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")


def _one(
    name: str, handle: Callable[..., dict[str, Any]], inference: Inference, of_peer: bool = False
) -> Callable[[Call], None]:
    """Return what reads one message, has it handled, and answers with a message of the JSON form that comes back.

    Args:
        of_peer: Whether `handle` is told which user is at the other end.
    """

    def serve(call: Call) -> None:
        limit = inference.shared.body_limit_bytes
        if name != _MAY_BRING_FILES:
            limit = min(MAX_CONTROL_BYTES, limit)
        request = messages.parse(f"inference.{name}Request", call.take(limit))
        value = handle(request, call.peer_uid) if of_peer else handle(request)
        answer = messages.of_json(f"inference.{name}Response", value)
        call.answer([answer.SerializeToString()])

    return serve


class _Service:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def server_live(self, _: Any) -> dict[str, Any]:
        return {"live": True}

    def server_ready(self, _: Any) -> dict[str, Any]:
        return {"ready": self._inference.is_ready()}

    def server_metadata(self, _: Any) -> dict[str, Any]:
        return self._inference.server_metadata()

    def model_ready(self, request: Any) -> dict[str, Any]:
        try:
            return {"ready": self._inference.is_model_ready(request.name, request.version)}
        except (ModelNotFound, ModelNotReady):
            return {"ready": False}

    def model_metadata(self, request: Any) -> dict[str, Any]:
        return self._inference.metadata(request.name, request.version)

    def model_config(self, request: Any) -> dict[str, Any]:
        return {"config": self._inference.model_config(request.name, request.version)}

    def model_statistics(self, request: Any) -> dict[str, Any]:
        return {"model_stats": self._inference.statistics(request.name, request.version)}

    def repository_index(self, request: Any) -> dict[str, Any]:
        return {"models": self._inference.index(request.ready)}

    def repository_model_load(self, request: Any) -> dict[str, Any]:
        parameters = {}
        for name, value in request.parameters.items():
            choice = value.WhichOneof("parameter_choice")
            parameters[name] = None if choice is None else getattr(value, choice)
        self._inference.load(request.model_name, parameters)
        return {}

    def repository_model_unload(self, request: Any) -> dict[str, Any]:
        self._inference.unload(request.model_name)
        return {}

    def system_shared_memory_status(self, request: Any) -> dict[str, Any]:
        self._inference.check_shared_memory()
        statuses = self._inference.shared.regions.statuses(request.name or None)
        return {"regions": {status.name: asdict(status) for status in statuses}}

    def system_shared_memory_register(self, request: Any, peer_uid: int | None) -> dict[str, Any]:
        self._inference.register_region(
            request.name, request.key, request.offset, request.byte_size, peer_uid
        )
        return {}

    def system_shared_memory_unregister(self, request: Any) -> dict[str, Any]:
        self._inference.check_shared_memory()
        regions = self._inference.shared.regions
        if request.name:
            regions.unregister(request.name)
        else:
            regions.unregister_all()
        return {}

    def cuda_shared_memory_status(self, request: Any) -> dict[str, Any]:
        if request.name:
            raise InvalidInput(f"unable to find CUDA shared memory region {request.name!r:.80}")
        return {}

    def cuda_shared_memory_register(self, _: Any) -> dict[str, Any]:
        raise InvalidInput("CUDA shared memory is not offered; use system shared memory, or send the tensors")

    def cuda_shared_memory_unregister(self, _: Any) -> dict[str, Any]:
        return {}

    def trace_setting(self, request: Any) -> dict[str, Any]:
        if request.model_name:
            raise InvalidInput("trace settings are of the whole accelerator, not of a model")
        wanted = {name: list(value.value) or None for name, value in request.settings.items()}
        values = _changed(self._inference.trace, wanted)
        return {"settings": {k: {"value": v if isinstance(v, list) else [str(v)]} for k, v in values.items()}}

    def log_settings(self, request: Any) -> dict[str, Any]:
        wanted = {}
        for name, value in request.settings.items():
            choice = value.WhichOneof("parameter_choice")
            wanted[name] = None if choice is None else getattr(value, choice)
        values = _changed(self._inference.logs, wanted)
        return {"settings": {name: _log_value(value) for name, value in values.items()}}


def _changed(switches: Switches, wanted: dict[str, Any]) -> dict[str, Any]:
    switches.change(wanted)
    return switches.values()


def _log_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"bool_param": value}
    return {"uint32_param": value} if isinstance(value, int) else {"string_param": value}
