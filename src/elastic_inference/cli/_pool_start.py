"""`ei pool start` and `ei pool stop`: a pool on a Ray cluster, and the file with its options."""

from __future__ import annotations

import contextlib
import json
import os
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
from elastic_inference.errors import ConnectError, ElasticInferenceError, InvalidInput, StartFailed
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
_LEAVE_SECONDS = 10.0
_HOST_KEYS_OF_THE_POOL = ("listen", "data_listen", "state_dir", "tls", "tls_cert", "tls_key", "keep_running")


RayOption = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="The Ray cluster, HOST:PORT; 'auto' for RAY_ADDRESS, else for the one of yours on this machine.",
    ),
]


@dataclass(frozen=True)
class StartedPool:
    """A pool that answers.

    Attributes:
        ray_address: Of the cluster that it runs on.
        was_running: Whether it ran already, with the same options.
    """

    url: str
    ray_address: str
    operator_token_file: Path
    num_hosts: int
    was_running: bool

    def blocks(self) -> Iterable[Block]:
        """Show it in one line."""
        so_far = "" if self.was_running else " so far"
        yield (
            f"pool {self.url} on the Ray cluster {self.ray_address} "
            f"{'ran already with these options' if self.was_running else 'answers'}, with {self.num_hosts} "
            f"hosts{so_far}; the operator's token is in {self.operator_token_file}"
        )


def start(
    ray: RayOption = "auto",
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="TOML file with these options, those of failover (lease, report, margin, drain, drain_pause), url "
            "where hosts reach the pool by another address, and a table [host] "
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
    record_requests: Annotated[
        int | None,
        typer.Option(
            "--record-requests",
            metavar="NUM",
            min=0,
            max=1024,
            help="Of every host, as of `ei host start`; the same as record_requests below [host].",
        ),
    ] = None,
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
        from elastic_inference.pool import actors, clusters
    given = {
        "listen": listen,
        "state_dir": None if state_dir is None else str(state_dir),
        "database": database,
        "tls_ca": None if tls_ca is None else str(tls_ca),
        "tls_cert": None if tls_cert is None else str(tls_cert),
        "tls_key": None if tls_key is None else str(tls_key),
    }
    options = {} if config is None else read_pool_file(config)
    if record_requests is not None:
        options["host"] = {**options.get("host", {}), "record_requests": record_requests}
    made = config_of({**options, **{name: value for name, value in given.items() if value is not None}})
    address = _connect(ray)
    folder, actor = Path(made.state_dir), actors.find()
    was_running, log = actor is not None, folder / "pool.log"
    began_at = log.stat().st_size if log.exists() else 0
    if actor is None:
        _check_free(made)
        actor = actors.start(made)
    running, _ = actors.told(actor)
    others = made.differences(running)
    if others:
        raise InvalidInput(
            f"a pool runs on the Ray cluster {address} already, at {running.url}, with other options: "
            f"{'; '.join(others)}; stop it first (`ei pool stop --ray {address}`), or give the same options"
        )
    folder.mkdir(parents=True, exist_ok=True)
    clusters.remember_cluster(folder, address)
    try:
        return _wait(made, address, was_running, began_at)
    except StartFailed:
        if not was_running:
            actors.stop(actor)
            clusters.forget_cluster(folder)
        raise


def stop(
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="The Ray cluster, HOST:PORT; by default the one that `ei pool start` wrote into the state directory.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", metavar="DIR", help="Of the pool, as at its start.")
    ] = None,
) -> Sentence:
    """Stop a pool, its hosts and their accelerators in order; the Ray cluster stays.

    \b
    Examples:
      ei pool stop
      ei pool stop --ray 10.0.0.1:6379
    """
    with extra("pool"):
        from elastic_inference.pool import actors, clusters
    folder = (default_state_dir() / "pool" if state_dir is None else state_dir).absolute()
    remembered = clusters.remembered_cluster(folder)
    address = _connect(ray or remembered or clusters.AUTO)
    actor = actors.find()
    if actor is None:
        raise ConnectError(f"the Ray cluster {address} runs no pool; start one with `ei pool start`")
    running, uid = actors.told(actor)
    is_its_folder = Path(running.state_dir) == folder
    # Where nobody said which, a cluster of the same address may be another's by now.
    if ray is None and not is_its_folder and (remembered or state_dir or uid != os.geteuid()):
        raise InvalidInput(
            f"the pool on the Ray cluster {address} is another one: it keeps its state in {running.state_dir} of user "
            f"{uid}, not in {folder}; to stop it all the same: `ei pool stop --ray {address}`"
        )
    actors.stop(actor)
    clusters.forget_cluster(Path(running.state_dir))
    return Sentence(
        f"the pool {running.url} on the Ray cluster {address} has ended, with its hosts and their accelerators",
        {"has_ended": True, "url": running.url, "ray_address": address},
    )


def _connect(wanted: str) -> str:
    """Connect to the Ray cluster that is meant; its address."""
    from elastic_inference.pool import actors, clusters

    address = clusters.choose_cluster(wanted)
    clusters.check_answers(address)
    clusters.check_is_node(address)
    return actors.connect(address)


def _check_free(config: PoolConfig) -> None:
    """See that nobody else has the state directory or the port, before an actor tries to take them."""
    from elastic_inference.host.processes.folders import HostFolder
    from elastic_inference.pool import clusters
    from elastic_inference.pool.supervision import LOCK, is_held
    from elastic_inference.protocol.endpoint import Endpoint

    folder = HostFolder(Path(config.state_dir))
    deadline = time.monotonic() + _LEAVE_SECONDS
    while is_held(folder.path / LOCK):  # an actor that was ended a moment ago holds it a moment more
        if time.monotonic() > deadline:
            where = clusters.remembered_cluster(folder.path)
            raise InvalidInput(
                f"state directory {folder.path} is in use by a pool on another Ray cluster"
                f"{'' if where is None else f', {where}'}; stop that, or give another --state-dir"
            )
        time.sleep(0.1)
    if is_held(folder.lock):
        return  # a pool service that lost its actor: the new actor goes on with it, or ends it
    try:
        Endpoint.parse(config.listen).listen(1).close()
    except ConnectError as error:
        raise ConnectError(f"--listen {config.listen}: {error}; give another one") from error


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
    "drain_pause": str,
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
        for name in ("report", "lease", "margin", "drain", "drain_pause")
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


def _wait(config: PoolConfig, address: str, was_running: bool, began_at: int) -> StartedPool:
    """Wait until the pool answers, or says in its log, from `began_at` on, that it cannot."""
    folder = Path(config.state_dir)
    log = folder / "pool.log"
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
                return StartedPool(config.url, address, token_file, len(hosts), was_running)
            except (OSError, ElasticInferenceError) as error:
                why = str(error)
        refusal = _refusal(log, began_at)
        if refusal is not None:
            raise StartFailed(f"the pool service at {config.url} cannot run: {refusal}; its log is {log}")
        time.sleep(0.1)
    raise StartFailed(
        f"the pool service at {config.url} did not answer within {_START_SECONDS:.0f} s: {why}; its log is {log}"
    )


def _refusal(log: Path, began_at: int) -> str | None:
    """Return why the pool service could not run, as it wrote into its log."""
    from elastic_inference.pool.process import CANNOT_RUN

    try:
        with log.open("rb") as file:
            file.seek(began_at)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        with contextlib.suppress(ValueError, KeyError):
            told = json.loads(line)
            if told["message"] == CANNOT_RUN:
                return str(told["why"])
    return None
