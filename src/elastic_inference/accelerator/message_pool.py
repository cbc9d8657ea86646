"""Protobuf messages in a descriptor pool of their own: an engine may bring others of these names."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory

from elastic_inference.errors import InvalidInput


class MessagePool:
    """The messages of one file of descriptors, read when the first is used.

    Args:
        descriptors: A FileDescriptorSet, which `make generate` writes from the protos beside it.
    """

    def __init__(self, descriptors: Path) -> None:
        self.descriptors = descriptors
        self._classes: dict[str, Any] = {}

    @cached_property
    def file_set(self) -> descriptor_pb2.FileDescriptorSet:
        """The descriptors of all files, each behind those that it imports."""
        return descriptor_pb2.FileDescriptorSet.FromString(self.descriptors.read_bytes())

    @cached_property
    def pool(self) -> Any:
        """The pool that knows these messages and no others."""
        ours = descriptor_pool.DescriptorPool()
        for file in self.file_set.file:
            ours.Add(file)
        return ours

    def message_class(self, name: str) -> Any:
        """Return the class of a message by its full name."""
        found = self._classes.get(name)
        if found is None:
            found = message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))
            self._classes[name] = found
        return found

    def parse(self, name: str, data: bytes | memoryview) -> Any:
        """Read a message; raises InvalidInput where the bytes are none of that name."""
        try:
            return self.message_class(name).FromString(bytes(data))
        except message.DecodeError as error:
            raise InvalidInput(f"the message is not a {name}: {error}") from error

    def of_json(self, name: str, value: dict[str, Any]) -> Any:
        """Make a message of its JSON form; what the message has no field for is left out."""
        return json_format.ParseDict(
            value, self.message_class(name)(), ignore_unknown_fields=True, descriptor_pool=self.pool
        )
