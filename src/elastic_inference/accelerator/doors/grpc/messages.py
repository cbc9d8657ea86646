"""The messages of the gRPC services, in a descriptor pool of their own: an engine may bring others of these names."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory

from elastic_inference.errors import InvalidInput

# `make generate` writes it from the protos beside it.
DESCRIPTORS = Path(__file__).with_name("protos") / "services.binpb"


@cache
def file_set() -> descriptor_pb2.FileDescriptorSet:
    """Return the descriptors of all our files."""
    return descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())


@cache
def pool() -> Any:
    """Return the pool that knows our messages and no others."""
    ours = descriptor_pool.DescriptorPool()
    for file in file_set().file:
        ours.Add(file)
    return ours


@cache
def message_class(name: str) -> Any:
    """Return the class of a message by its full name."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def parse(name: str, data: bytes | memoryview) -> Any:
    """Read a message; raises InvalidInput where the bytes are none of that name."""
    try:
        return message_class(name).FromString(bytes(data))
    except message.DecodeError as error:
        raise InvalidInput(f"the message is not a {name}: {error}") from error


def of_json(name: str, value: dict[str, Any]) -> Any:
    """Make a message of its JSON form; what the message has no field for is left out."""
    return json_format.ParseDict(
        value, message_class(name)(), ignore_unknown_fields=True, descriptor_pool=pool()
    )
