"""What Amazon's API must know of a host, as a small interface, and how a real host gives it."""

from __future__ import annotations

import configparser
import io
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.tokens import write_private

if TYPE_CHECKING:
    from elastic_inference.host.control import ControlApi

_PROFILE = "default"


@dataclass(frozen=True)
class Place:
    """What a host is called where Amazon has regions, zones and accounts.

    Attributes:
        account: 12 digits.
    """

    region: str = "local"
    zone: str = "local-a"
    zone_id: str = "local-az1"
    account: str = "000000000000"


@dataclass(frozen=True)
class ListedType:
    """A type of the catalogue.

    Attributes:
        fp32_tflops: On this host's devices; 0.0 where they were not measured.
        is_offered: Whether an empty host could give one.
    """

    name: str
    memory_bytes: int
    fp32_tflops: float
    is_offered: bool


@dataclass(frozen=True)
class ListedAccelerator:
    """An attached accelerator.

    Attributes:
        health: "healthy" where it serves, else the state that it is in, such as "restarting".
        client: The name given at attach.
    """

    accelerator_id: str
    type_name: str
    health: str
    client: str


class AcceleratorDirectory(Protocol):
    """What Amazon's API reads from a host, and the tags that it writes. Any thread may call."""

    def list_types(self) -> Sequence[ListedType]:
        """Return the whole catalogue."""

    def list_accelerators(self) -> Sequence[ListedAccelerator]:
        """All accelerators, in any order."""

    def get_tags(self, accelerator_id: str) -> dict[str, str]:
        """Return an accelerator's tags; raises AcceleratorNotFound."""

    def set_tags(self, accelerator_id: str, tags: Mapping[str, str]) -> None:
        """Set tags, others stay; raises AcceleratorNotFound."""

    def remove_tags(self, accelerator_id: str, keys: Iterable[str]) -> None:
        """Take tags away, absent ones are fine; raises AcceleratorNotFound."""


class HostDirectory:
    """The directory of a running host."""

    def __init__(self, host: ControlApi) -> None:
        self._host = host

    def list_types(self) -> Sequence[ListedType]:
        service = self._host.service
        empty = replace(service.capacity, held={})
        fastest = max((device.fp32_tflops for device in empty.devices), default=0.0)
        return [
            ListedType(
                kind.name,
                kind.memory_bytes,
                kind.fp32_tflops if kind.fp32_tflops is not None else fastest * (kind.device_share or 0.0),
                empty.num_available(kind) > 0,
            )
            for kind in service.catalogue.values()
        ]

    def list_accelerators(self) -> Sequence[ListedAccelerator]:
        return [_listed(record) for record in self._host.service.list_all()]

    def get_tags(self, accelerator_id: str) -> dict[str, str]:
        self._host.service.get(accelerator_id)
        return self._host.store.get_tags(accelerator_id)

    def set_tags(self, accelerator_id: str, tags: Mapping[str, str]) -> None:
        self._host.service.get(accelerator_id)
        self._host.store.set_tags(accelerator_id, dict(tags))

    def remove_tags(self, accelerator_id: str, keys: Iterable[str]) -> None:
        self._host.service.get(accelerator_id)
        self._host.store.remove_tags(accelerator_id, keys)


def _listed(record: AcceleratorRecord) -> ListedAccelerator:
    health = "healthy" if record.state is State.READY else record.state.value
    return ListedAccelerator(record.accelerator_id, record.kind.name, health, record.name)


class CredentialsFile:
    """The operator's access key for Amazon's API, in a file as Amazon's tools read it.

    `AWS_SHARED_CREDENTIALS_FILE` may name it. It is made with a random key when absent; an edited file counts
    from the next request on, so the key can be changed while the host runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: tuple[int, int] | None = None
        self._keys: dict[str, str] = {}

    def make(self) -> None:
        """Write the file unless it is there; only its owner may read it."""
        if self.path.exists():
            return
        parser = configparser.ConfigParser(interpolation=None)
        parser[_PROFILE] = {
            "aws_access_key_id": f"EIHOST{secrets.token_hex(7).upper()}",
            "aws_secret_access_key": secrets.token_urlsafe(30),
        }
        text = io.StringIO()
        parser.write(text)
        write_private(self.path, text.getvalue())

    def find_secret(self, access_key_id: str) -> str | None:
        """Return the secret access key; None for a key id that the file does not have."""
        self._refresh()
        return self._keys.get(access_key_id)

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._read_at:
                return
            keys = read_credentials(self.path.read_text())
        except (OSError, InvalidInput):  # gone or broken: nobody may
            self._read_at, self._keys = None, {}
            return
        self._read_at, self._keys = stamp, keys


def read_credentials(text: str) -> dict[str, str]:
    """Access key id -> secret, of all profiles of a credentials file; raises InvalidInput where it is none."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise InvalidInput(f"not a file of credentials: {error}") from error
    pairs = ((s.get("aws_access_key_id"), s.get("aws_secret_access_key")) for s in parser.values())
    return {key_id: secret for key_id, secret in pairs if key_id and secret}
