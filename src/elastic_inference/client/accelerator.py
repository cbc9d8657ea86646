"""Where a model computes, as one value: `Accelerator` and its kinds. Finding and starting one is `placement`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from elastic_inference.client import checks
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.doors import check_doors
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.tls import Tls

DEFAULT_LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class HostAccess:
    """A host, and by what right it is asked.

    Attributes:
        url: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`; None: EI_HOST, else the local default.
        token: The operator's or a tenant's to attach, an accelerator's for what is its own; None: EI_TOKEN.
        tls: For the host and its accelerators; None: EI_TLS_CA and its kin, else the system's authorities.
    """

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    def __post_init__(self) -> None:
        checks.text("host", self.url)
        if self.url is not None:
            Endpoint.parse(self.url)
        checks.token(self.token)
        _check_tls(self.tls)


class Accelerator:
    """Where a model computes. Made by one of its class methods, compared by value, printed without its token."""

    @classmethod
    def attach(
        cls,
        accelerator_type: str,
        *,
        host: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
        name: str | None = None,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
        wait_seconds: float = 0.0,
        priority: int = 0,
        doors: Collection[str] | None = None,
    ) -> Attach:
        """Attach a new accelerator of this type at a host, and detach it at the end.

        Args:
            accelerator_type: Such as `cpu.half` or `eia1.medium`; `ei types` lists them.
            host: URL; None: EI_HOST, else `http://127.0.0.1:8500`.
            token: The operator's or a tenant's; None: EI_TOKEN.
            tls: For the host and the accelerator.
            name: For lists and reports; None: the host makes one up.
            lease_seconds: The host takes it back when this program was not heard of for so long.
            wait_seconds: How long to stand in the host's line where there is no room now; 0: not at all. The log
                says, as a warning, which place that is.
            priority: In the line, 0 to 9; a tenant may have as much of it as its quota says.
            doors: Protocols that it speaks at its endpoints: "http", and those named of "grpc",
                "tensorflow-serving" and "sagemaker"; None: all that its type has on the host.
        """
        access = HostAccess(host, token, tls)
        opened = doors if doors is None or isinstance(doors, str) else tuple(doors)
        return Attach(accelerator_type, access, name, lease_seconds, wait_seconds, priority, opened)

    @classmethod
    def of_id(
        cls,
        accelerator_id: str | int | None = None,
        *,
        host: str | None = None,
        token: str | None = None,
        tls: Tls | None = None,
    ) -> OfId:
        """One that is attached already, and stays so.

        Args:
            accelerator_id: Its id, the beginning of it or its name; or its ordinal among those that are visible;
                None: the first.
            host: URL; None: EI_HOST, else `http://127.0.0.1:8500`.
            token: The accelerator's; None: EI_TOKEN.
            tls: For the host and the accelerator.
        """
        return OfId(accelerator_id, HostAccess(host, token, tls))

    @classmethod
    def at(cls, address: str, *, token: str | None = None, tls: Tls | None = None) -> At:
        """One that serves at this address; no host is asked.

        Args:
            address: `tcp:HOST:PORT`, `tls:HOST:PORT` or `unix:/PATH`.
            token: The accelerator's; None: EI_TOKEN.
            tls: For a `tls:` address.
        """
        return At(address, token, tls)

    @classmethod
    def embedded(
        cls,
        *,
        threads: int | None = None,
        cache_dir: str | Literal[False] | None = None,
        allow_unsafe_operations: bool = False,
    ) -> Embedded:
        """Return a private one on this machine, in a process that ends with this program.

        Args:
            threads: Of the engine; None: all cores that this process may use.
            cache_dir: The folder of its store, of models and what was compiled of them; None: `store` in EI_CACHE_DIR;
                False keeps nothing for the next load.
            allow_unsafe_operations: Whether it runs models that touch files, processes or the network.
        """
        return Embedded(threads, cache_dir, allow_unsafe_operations)

    @classmethod
    def local(cls, *, threads: int | None = None) -> Local:
        """None: the model computes in this process."""
        return Local(threads)

    @classmethod
    def from_environment(cls, ordinal: int | None = None) -> FromEnvironment:
        """Return what the environment says: one attached at EI_HOST, or an embedded one where it names none.

        Args:
            ordinal: Among those that are visible; None: the first.
        """
        return FromEnvironment(ordinal)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `accelerator_from_json` reads back. It holds the token.

        Raises:
            InvalidInput: It holds an ssl.SSLContext, which is of this process alone.
        """
        fields = {name: _field_to_json(value) for name, value in vars(self).items()}
        return {"kind": type(self).__name__, **fields}


@dataclass(frozen=True)
class Attach(Accelerator):
    """See `Accelerator.attach`."""

    accelerator_type: str
    host: HostAccess = field(default_factory=HostAccess)
    name: str | None = None
    lease_seconds: float = DEFAULT_LEASE_SECONDS
    wait_seconds: float = 0.0
    priority: int = 0
    doors: Collection[str] | None = None

    def __post_init__(self) -> None:
        if self.accelerator_type is None:
            raise InvalidInput("accelerator_type must be text, not None; `ei types` lists what a host offers")
        checks.text("accelerator_type", self.accelerator_type)
        checks.text("name", self.name)
        if self.lease_seconds is None:
            raise InvalidInput("lease_seconds must be a number: the lease ends what a dead program leaves")
        checks.seconds("lease_seconds", self.lease_seconds)
        if self.wait_seconds != 0:
            checks.seconds("wait_seconds", self.wait_seconds)
        checks.priority(self.priority)
        if isinstance(self.doors, str):
            raise InvalidInput(
                f"doors must be several texts, such as ('http', 'grpc'), not {self.doors!r:.80}"
            )
        if self.doors is not None:
            object.__setattr__(self, "doors", check_doors(self.doors, "doors"))


@dataclass(frozen=True)
class OfId(Accelerator):
    """See `Accelerator.of_id`."""

    accelerator_id: str | int | None = None
    host: HostAccess = field(default_factory=HostAccess)

    def __post_init__(self) -> None:
        if isinstance(self.accelerator_id, str):
            checks.text("accelerator_id", self.accelerator_id)
        else:
            checks.ordinal("accelerator_id", self.accelerator_id)

    @property
    def is_ordinal(self) -> bool:
        """Whether it counts those that are visible, rather than naming one."""
        return not isinstance(self.accelerator_id, str) or self.accelerator_id.isdigit()


@dataclass(frozen=True)
class At(Accelerator):
    """See `Accelerator.at`."""

    address: str
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.address, str):
            raise InvalidInput(f"address must be text, not {checks.shown(self.address)}")
        endpoint = Endpoint.parse(self.address)
        if "://" in self.address:
            raise InvalidInput(
                f"address {self.address!r} is a URL, as hosts have: Accelerator.attach('cpu.half', host=...) or "
                "Accelerator.of_id('eia-...', host=...) ask one; what serves tensors itself is at tcp:HOST:PORT, "
                "tls:HOST:PORT or unix:/PATH"
            )
        checks.token(self.token)
        _check_tls(self.tls)
        if self.tls is not None and endpoint.kind == "tcp":
            raise InvalidInput(
                f"address {self.address!r} and tls contradict each other: what goes to a tcp: address is not "
                "encrypted; write tls: in its place"
            )


@dataclass(frozen=True)
class Embedded(Accelerator):
    """See `Accelerator.embedded`."""

    threads: int | None = None
    cache_dir: str | Literal[False] | None = None
    allow_unsafe_operations: bool = False

    def __post_init__(self) -> None:
        checks.threads("threads", self.threads)
        object.__setattr__(self, "cache_dir", checks.cache_dir(self.cache_dir))


@dataclass(frozen=True)
class Local(Accelerator):
    """See `Accelerator.local`."""

    threads: int | None = None

    def __post_init__(self) -> None:
        checks.threads("threads", self.threads)


@dataclass(frozen=True)
class FromEnvironment(Accelerator):
    """See `Accelerator.from_environment`.

    Attributes:
        host: With what right the host of the environment is asked; its URL is None.
        threads: Of the engine, where the accelerator is embedded.
        allow_unsafe_operations: See `Accelerator.embedded`; of a host, its operator decides.
    """

    ordinal: int | None = None
    host: HostAccess = field(default_factory=HostAccess)
    threads: int | None = None
    allow_unsafe_operations: bool = False

    def __post_init__(self) -> None:
        checks.ordinal("accelerator_id", self.ordinal)
        checks.threads("threads", self.threads)


_KINDS = {cls.__name__: cls for cls in (Attach, OfId, At, Embedded, Local, FromEnvironment)}


def accelerator_from_json(value: Mapping[str, Any]) -> Accelerator:
    """Read what `Accelerator.to_json` wrote; InvalidInput where it is something else."""
    fields = dict(value)
    cls = _KINDS.get(str(fields.pop("kind", None)))
    if cls is None:
        raise InvalidInput(f"accelerator of kind {value.get('kind')!r} is not one of {', '.join(_KINDS)}")
    if isinstance(fields.get("host"), Mapping):
        fields["host"] = HostAccess(**{**fields["host"], "tls": _tls_from_json(fields["host"].get("tls"))})
    if "tls" in fields:
        fields["tls"] = _tls_from_json(fields["tls"])
    accelerator: Accelerator = cls(**fields)
    return accelerator


def _tls_from_json(value: Mapping[str, Any] | None) -> Tls | None:
    return None if value is None else Tls(**value)


def _field_to_json(value: Any) -> Any:
    if isinstance(value, Tls):
        return value.to_json()
    if isinstance(value, HostAccess):
        return {name: _field_to_json(each) for name, each in vars(value).items()}
    return value


def _check_tls(tls: Any) -> None:
    if tls is not None and not isinstance(tls, Tls):
        raise InvalidInput(f"tls must be a Tls, such as Tls(ca='ca.pem'), or None, not {checks.shown(tls)}")
