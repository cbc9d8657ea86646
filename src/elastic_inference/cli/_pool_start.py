"""`ei pool start` and `ei pool stop`: a pool on a Ray cluster, and the file with its options."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elastic_inference.cli._host_config import check_values, kinds_of
from elastic_inference.cli._host_options import database_url
from elastic_inference.cli._host_start import settings_of
from elastic_inference.cli._host_start import start as start_host
from elastic_inference.cli._pool_host import host_options
from elastic_inference.cli._support import extra
from elastic_inference.cli.rendering import Block, Sentence
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ElasticInferenceError, InvalidInput, StartFailed
from elastic_inference.protocol.tls import Tls
from elastic_inference.settings import state_dir as default_state_dir
from elastic_inference.units import parse_seconds

if TYPE_CHECKING:
    from elastic_inference.pool.config import PoolConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_START_SECONDS = 90.0
_HOST_KEYS_OF_THE_POOL = ("listen", "data_listen", "state_dir", "tls", "tls_cert", "tls_key", "keep_running")


@dataclass(frozen=True)
class StartedPool:
    """A pool that answers."""

    url: str
    operator_token_file: Path
    num_hosts: int

    def blocks(self) -> Iterable[Block]:
        """Show it in one line."""
        yield (
            f"pool {self.url} answers, with {self.num_hosts} hosts so far; the operator's token is in "
            f"{self.operator_token_file}"
        )


def start(
    ray: Annotated[
        str,
        typer.Option("--ray", metavar="ADDRESS", help="The Ray cluster; 'auto' for the one of this machine."),
    ] = "auto",
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="TOML file with these options, those of failover (lease, report, margin, drain), url where hosts "
            "reach the pool by another address, and a table [host] "
            "with options of `ei host start` for every host.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Of the control API; default 0.0.0.0:8500."),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            metavar="DIR",
            help="Where the pool service keeps its data, and each host its own, on its machine.",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", metavar="URL", help="SQLAlchemy URL; default SQLite in the state directory."
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option("--tls-ca", metavar="FILE", help="The authority by which all parts know each other."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert", metavar="FILE", help="Certificate of each machine, at the same path on all."
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key.")] = None,
) -> StartedPool:
    """Start a pool on a Ray cluster: a host on each of its nodes, and one address for all of them.

    Ray runs on the machines already (`ray start`). The pool service runs on this one. The command returns when it
    answers; the pool runs until `ei pool stop`.

    \b
    Examples:
      ei pool start
      ei pool start --listen 0.0.0.0:8500 --config pool.toml
    """
    with extra("pool"):
        from elastic_inference.pool import actors
    given = {
        "listen": listen,
        "state_dir": None if state_dir is None else str(state_dir),
        "database": database,
        "tls_ca": None if tls_ca is None else str(tls_ca),
        "tls_cert": None if tls_cert is None else str(tls_cert),
        "tls_key": None if tls_key is None else str(tls_key),
    }
    options = {} if config is None else read_pool_file(config)
    made = config_of({**options, **{name: value for name, value in given.items() if value is not None}})
    actors.connect(ray)
    actors.start(made)
    return _wait(made)


def stop(
    ray: Annotated[
        str,
        typer.Option("--ray", metavar="ADDRESS", help="The Ray cluster; 'auto' for the one of this machine."),
    ] = "auto",
) -> Sentence:
    """Stop a pool, its hosts and their accelerators in order; the Ray cluster stays.

    \b
    Examples:
      ei pool stop
    """
    with extra("pool"):
        from elastic_inference.pool import actors
    actors.connect(ray)
    actors.stop(actors.find())
    return Sentence("the pool has ended, with its hosts and their accelerators", {"has_ended": True})


_POOL_KEYS: dict[str, type] = {
    "listen": str,
    "url": str,
    "state_dir": str,
    "host_state_dir": str,
    "database": str,
    "report": str,
    "lease": str,
    "margin": str,
    "drain": str,
    "placement": str,
    "tls_ca": str,
    "tls_cert": str,
    "tls_key": str,
}


def read_pool_file(path: Path) -> dict[str, Any]:
    """Read a pool's options from a TOML file.

    Raises:
        InvalidInput: It cannot be read, or a key or a value is not one of a pool's or, below [host], of a host's.
    """
    where = f"pool configuration {path}"
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{where} is not TOML: {error}") from error
    host = values.pop("host", {})
    if not isinstance(host, dict):
        raise InvalidInput(f"{where}: host must be a table [host], not {host!r:.100}")
    check_values(values, _POOL_KEYS, where)
    kinds = {name: kind for name, kind in kinds_of(start_host).items() if name not in _HOST_KEYS_OF_THE_POOL}
    check_values(host, kinds, f"{where}, [host]")
    settings_of(host_options(host, []), is_trial=True)
    return {**values, "host": host}


def config_of(options: dict[str, Any]) -> PoolConfig:
    """Make a pool's configuration of its options.

    Raises:
        InvalidInput: An option is not what it should be.
    """
    from elastic_inference.pool.config import PoolConfig, PoolTls
    from elastic_inference.protocol.endpoint import Endpoint

    listen = options.get("listen", "0.0.0.0:8500")
    endpoint = Endpoint.parse(listen)
    if endpoint.kind == "unix" or not endpoint.port:
        raise InvalidInput(f"--listen {listen!r} must be HOST:PORT with a fixed port: hosts come to it")
    files = [options.get(name) for name in ("tls_ca", "tls_cert", "tls_key")]
    if any(files) and not all(files):
        raise InvalidInput("--tls-ca, --tls-cert and --tls-key belong together: give all three or none")
    tls = PoolTls(*(str(Path(str(each)).absolute()) for each in files)) if all(files) else None
    folder = Path(options.get("state_dir") or default_state_dir() / "pool").absolute()
    host = endpoint.host if endpoint.host not in ("", "0.0.0.0", "::") else _own_address()
    shown = f"[{host}]" if ":" in host else host
    times: dict[str, Any] = {
        f"{name}_seconds": parse_seconds(options[name])
        for name in ("report", "lease", "margin", "drain")
        if name in options
    }
    return PoolConfig(
        listen=listen,
        url=options.get("url") or f"{'http' if tls is None else 'https'}://{shown}:{endpoint.port}",
        state_dir=str(folder),
        host_state_dir=str(options.get("host_state_dir") or folder / "hosts"),
        database_url=database_url(options.get("database"), None),
        host_options=options.get("host", {}),
        tls=tls,
        placement=options.get("placement", "pack"),
        **times,
    )


def _own_address() -> str:
    """Return the address by which other machines reach this one, as Ray finds it."""
    with extra("pool"):
        import ray.util
    address: str = ray.util.get_node_ip_address()
    return address


def _wait(config: PoolConfig) -> StartedPool:
    folder = Path(config.state_dir)
    token_file = folder / "operator.token"
    deadline = time.monotonic() + _START_SECONDS
    why = "it has not answered yet"
    while time.monotonic() < deadline:
        if token_file.exists():
            try:
                tls = None if config.tls is None else Tls(config.tls.ca)
                session = HostSession(
                    config.url, token_file.read_text().strip(), tls=tls, timeout_seconds=5.0
                )
                session.request("GET", "/v1/pool")
                hosts = session.request("GET", "/v1/pool/hosts")
                return StartedPool(config.url, token_file, len(hosts))
            except (OSError, ElasticInferenceError) as error:
                why = str(error)
        time.sleep(0.1)
    raise StartFailed(
        f"the pool service at {config.url} did not answer within {_START_SECONDS:.0f} s: {why}; its log is "
        f"{folder / 'pool.log'}"
    )
