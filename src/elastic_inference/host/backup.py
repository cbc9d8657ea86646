"""A host's state in one file: written while the host runs, checked, and put back while its accelerators go on.

The file is a tar: `backup.json` says what it holds and the SHA-256 of each part, which are the host's rows as a SQLite
database and its small files (who it is, its tokens, certificates, calendar and audit log). Models and logs are not in
it: clients send a model again to an accelerator that lacks it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import sqlalchemy as sa

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts import copies
from elastic_inference.host.accounts.upgrade import bring_up_to_date
from elastic_inference.host.lock import DirectoryLock
from elastic_inference.host.processes.folders import HostFolder

_FORMAT = 1
_MANIFEST, _DATABASE = "backup.json", "state.db"
_MAX_MANIFEST_BYTES = 1 << 20
# What an archive may hold beside the database; anything else in one is refused, not written somewhere.
_SMALL_FILE = re.compile(
    r"host\.id|host\.secret|operator\.token|calendar\.json|audit\.log(\.1)?|tls/[^/\0]{1,200}"
)
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Backup:
    """What an archive holds.

    Attributes:
        made_at: UTC, ISO 8601.
        made_by: Version of elastic-inference.
        schema: Of the database.
        files: SHA-256 (hex) of each part, by name.
    """

    host_id: str
    made_at: str
    made_by: str
    schema: str
    num_accelerators: int
    files: dict[str, str]


def write_backup(folder: HostFolder, database_url: str | None, path: Path) -> Backup:
    """Write a host's state into a file for its owner alone, whether the host runs or not.

    The file appears whole and read back, or not at all.

    Args:
        database_url: Where the host keeps its rows; None: in its folder.

    Raises:
        InvalidInput: There is no state, or the file or the database cannot be used.
    """
    if not folder.host_id.is_file():
        raise InvalidInput(
            f"state directory {folder.path} holds no host's state: it has no {folder.host_id.name}"
        )
    if path.exists() and not tarfile.is_tarfile(path):
        raise InvalidInput(f"{path} is there and is no backup; it is not written over")
    host_id = folder.host_id.read_text().strip()
    partial = path.with_name(f".{path.name}.partial")
    try:
        with tempfile.TemporaryDirectory(prefix=".ei-backup-", dir=path.absolute().parent) as scratch:
            database = Path(scratch, _DATABASE)
            if database_url is None:
                copies.copy_file(folder.database, database)
            else:
                copies.take_rows(database_url, host_id, database)
            parts = {_DATABASE: database, **_small_files(folder)}
            with open(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                _write_archive(file, parts, host_id, database)
                file.flush()
                os.fsync(file.fileno())
        backup = read_backup(partial)
        os.replace(partial, path)
    except OSError as error:
        raise InvalidInput(f"backup {path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return backup


def read_backup(path: Path) -> Backup:
    """Check a backup: every part of it is there and as it was written, and its database is whole.

    Raises:
        InvalidInput: It is damaged, is no backup, or was made by a newer version.
    """
    with tempfile.TemporaryDirectory(prefix="ei-backup-") as scratch:
        return _unpack(path, Path(scratch))


def restore_backup(
    path: Path, folder: HostFolder, database_url: str | None, may_replace_another: bool = False
) -> tuple[Backup, Path | None]:
    """Put a host's state back; accelerators that run go on, and the next start of the host finds them.

    Args:
        may_replace_another: Whether the folder may be that of another host until now.

    Returns:
        What was put back, and a backup of what was there before; None where nothing was.

    Raises:
        InvalidInput: The backup is not right, a host runs with this folder, or it is another host's.
    """
    folder.make()
    with (
        DirectoryLock(folder.lock),
        tempfile.TemporaryDirectory(prefix=".restore-", dir=folder.path) as scratch,
    ):
        backup = _unpack(path, Path(scratch))
        before = _save_present(backup, folder, database_url, may_replace_another)
        _put_small_files(backup, Path(scratch), folder)
        # Last, and in one transaction: until then the host has the rows of before.
        unpacked = Path(scratch, _DATABASE)
        if database_url is None:
            copies.copy_file(unpacked, folder.database)
        else:
            bring_up_to_date(sa.make_url(f"sqlite:///{unpacked}"))
            copies.put_rows(unpacked, database_url, backup.host_id)
    return backup, before


def _save_present(
    backup: Backup, folder: HostFolder, database_url: str | None, may_replace_another: bool
) -> Path | None:
    if not folder.host_id.is_file():
        return None
    present = folder.host_id.read_text().strip()
    if present != backup.host_id and not may_replace_another:
        raise InvalidInput(
            f"state directory {folder.path} is that of host {present}, and the backup is of host {backup.host_id}; "
            "give --replace to put it there all the same"
        )
    if database_url is None and not folder.database.is_file():
        return None  # it was lost
    before, number = folder.path / "before-restore.tar", 1
    while before.exists():  # a second restore does not take away what the first one kept
        number += 1
        before = folder.path / f"before-restore-{number}.tar"
    with contextlib.suppress(InvalidInput):  # what is damaged is why somebody restores
        write_backup(folder, database_url, before)
        return before
    return None


def _small_files(folder: HostFolder) -> dict[str, Path]:
    found = (folder.host_id, folder.secret, folder.operator_token, folder.calendar, folder.audit)
    paths = [*found, folder.audit.with_name(f"{folder.audit.name}.1"), *sorted(folder.tls.glob("*"))]
    return {str(path.relative_to(folder.path)): path for path in paths if path.is_file()}


def _put_small_files(backup: Backup, unpacked: Path, folder: HostFolder) -> None:
    for name in backup.files:
        target = folder.path / name
        if name == _DATABASE or (target == folder.calendar and target.exists()):
            continue  # a calendar that is there has gone on; an older one would bill time twice
        target.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(unpacked / name, target)


def _write_archive(file: io.BufferedWriter, parts: dict[str, Path], host_id: str, database: Path) -> None:
    # Read once: a log may grow between its hash and its copy.
    contents = {name: part.read_bytes() for name, part in parts.items() if part != database}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    with open(database, "rb") as rows:
        hashes[_DATABASE] = _hash(rows)
        rows.seek(0)
        backup = Backup(
            host_id=host_id,
            made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            made_by=importlib.metadata.version("elastic-inference"),
            schema=copies.check_file(database),
            num_accelerators=copies.num_accelerators(database),
            files=hashes,
        )
        manifest = json.dumps({"format": _FORMAT, **asdict(backup)}, indent=1).encode()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, content in {_MANIFEST: manifest, **contents}.items():
                archive.addfile(_member(name, len(content)), io.BytesIO(content))
            archive.addfile(_member(_DATABASE, database.stat().st_size), rows)


def _member(name: str, num_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = num_bytes, 0o600
    return member


def _unpack(path: Path, folder: Path) -> Backup:
    """Unpack a backup into an empty folder, and check it; see `read_backup`."""
    try:
        with tarfile.open(path, mode="r:") as archive:
            members = {member.name: member for member in archive}
            backup = _manifest(archive, members)
            for name, sha256 in backup.files.items():
                with _opened(archive, members, name) as part:
                    found = _write_part(part, folder / name)
                if found != sha256:
                    raise InvalidInput(f"{name} in it is damaged: SHA-256 {found}, and it was {sha256}")
    except (OSError, tarfile.TarError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(f"backup {path} cannot be read: {why}") from error
    except InvalidInput as error:
        raise InvalidInput(f"backup {path} cannot be used: {error}") from error
    copies.check_file(folder / _DATABASE)
    return backup


def _manifest(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> Backup:
    with _opened(archive, members, _MANIFEST) as part:
        text = part.read(_MAX_MANIFEST_BYTES)
    try:
        values = json.loads(text)
        number = values.pop("format")
        if number != _FORMAT:
            raise InvalidInput(f"it has format {number}, and this version reads format {_FORMAT}")
        backup = Backup(**values)
        names = set(backup.files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"its {_MANIFEST} is not what this version writes: {error}") from error
    strange = sorted(name for name in names - {_DATABASE} if not _SMALL_FILE.fullmatch(name) or ".." in name)
    if strange or _DATABASE not in names:
        raise InvalidInput(f"it holds {strange[0]!r}" if strange else f"it holds no {_DATABASE}")
    return backup


@contextlib.contextmanager
def _opened(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str
) -> Iterator[io.BufferedReader]:
    member = members.get(name)
    part = archive.extractfile(member) if member is not None and member.isreg() else None
    if part is None:
        raise InvalidInput(f"it holds no file {name}")
    with part:
        yield part  # type: ignore[misc]


def _write_part(part: io.BufferedReader, target: Path) -> str:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    sha256 = hashlib.sha256()
    with open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        while block := part.read(_BLOCK_BYTES):
            sha256.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return sha256.hexdigest()


def _hash(file: io.BufferedReader) -> str:
    sha256 = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        sha256.update(block)
    return sha256.hexdigest()
