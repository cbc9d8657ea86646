"""What options of `ei host start` mean: ports, devices, TLS files, and the database with its password."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elastic_inference import settings
from elastic_inference.cli._support import extra
from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_usd

DEFAULT_CORE_PRICE = Decimal("0.048")
"""USD an hour for one core: half an m5.large (us-west-2, 2019-06), the client of Amazon's own article."""

if TYPE_CHECKING:
    from elastic_inference.host.processes.folders import TlsFiles


def database_url(url: str | None, password_file: Path | None) -> str | None:
    """Take the database's URL of the option, else of EI_DATABASE, and put the password into it.

    The password is that of the file, else of EI_DATABASE_PASSWORD; without both the URL stays as it is.

    Raises:
        InvalidInput: The file cannot be read, or there is no URL for the password. No text holds the password.
    """
    url = settings.DATABASE.of(url)
    password = settings.DATABASE_PASSWORD.get()
    if password_file is not None:
        password = _first_line(password_file)
    if password is None:
        return url
    if url is None:
        if password_file is None:
            return None  # the variable may be there for another program
        raise InvalidInput(
            "--database-password-file needs a database: give --database URL, or set EI_DATABASE"
        )
    with extra("host"):
        import sqlalchemy as sa
    try:
        return sa.make_url(url).set(password=password).render_as_string(hide_password=False)
    except sa.exc.ArgumentError as error:
        raise InvalidInput("--database is not a URL such as postgresql+psycopg://USER@HOST/NAME") from error


def _first_line(path: Path) -> str:
    try:
        line = path.read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--database-password-file {path} cannot be read: {error}") from error
    if not line:
        raise InvalidInput(
            f"--database-password-file {path} has an empty first line; write the password there"
        )
    return line


def choose_devices(devices: Any, names: list[str] | None) -> tuple[Any, ...]:
    """Take the devices of these names, all of them for None."""
    known = {device.name: device for device in devices}
    for name in names or ():
        if name not in known:
            raise InvalidInput(f"--device {name!r} is not one of this machine's devices: {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names or known))


def data_host(given: str | None, listen_host: str) -> str | None:
    """Say where accelerators serve TCP: where the host listens unless another address is given; None for nowhere."""
    if given == "none":
        return None
    return given or listen_host or None


def parse_ports(text: str) -> range:
    """Read FIRST-LAST."""
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last) <= 65535):
        raise InvalidInput(f"--ports {text!r} must be FIRST-LAST within 1-65535, such as 8600-9599")
    return range(int(first), int(last) + 1)


def core_price(text: str) -> Decimal | None:
    """Read USD an hour for one core; None for "none"."""
    return None if text == "none" else parse_usd(text, "--cpu-price")


def tls_files(
    wanted: bool,
    cert: Path | None,
    key: Path | None,
    client_ca: Path | None,
    directory: Path,
    name: str,
    makes_absent: bool = True,
) -> TlsFiles | None:
    """Return the user's own files where they are given, else those that `init-tls` made, or makes now.

    Args:
        makes_absent: Whether to make them now; else None stands for those that a start would make.
    """
    if (cert is None) != (key is None):
        raise InvalidInput("--tls-cert and --tls-key belong together: give both")
    if not wanted and cert is None:
        if client_ca is not None:
            raise InvalidInput("--tls-client-ca needs --tls, or --tls-cert and --tls-key")
        return None
    with extra("host"):
        from elastic_inference.host import tls
        from elastic_inference.host.processes.folders import TlsFiles
    if cert is not None and key is not None:
        files = TlsFiles(cert.absolute(), key.absolute(), client_ca)
    else:
        made = directory / "tls"
        files = TlsFiles(made / tls.HOST_CERT, made / tls.HOST_KEY, client_ca)
        if not files.cert.exists() and not makes_absent:
            return None
        if not files.cert.exists():
            tls.init_tls(made, (name,) if name not in ("", "0.0.0.0", "::") else ())
    for path in (files.cert, files.key, files.client_ca):
        if path is not None and not path.is_file():
            raise InvalidInput(f"TLS file {path} does not exist or is not a file")
    return files


def published_folder(directory: Path | None) -> Path | None:
    """Return the folder of published models; refuse one that others than its owner may write, or that is none."""
    if directory is None:
        return None
    if not directory.is_dir():
        raise InvalidInput(f"--published {directory} is not a folder")
    found = directory.stat()
    if found.st_mode & 0o022 or found.st_uid not in (os.geteuid(), 0):
        raise InvalidInput(
            f"--published {directory} can be written by other users (owner {found.st_uid}, mode "
            f"{found.st_mode & 0o777:o}), who could give all tenants models of theirs"
        )
    return directory.absolute()
