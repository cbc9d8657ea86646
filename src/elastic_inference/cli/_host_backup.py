"""`ei host backup` and `ei host restore`: a host's state as one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from elastic_inference.cli._host_config import kinds_of, read_file
from elastic_inference.cli._host_options import database_url
from elastic_inference.cli._host_start import StateDirOption, start
from elastic_inference.cli._support import extra
from elastic_inference.cli.rendering import Block, Pairs
from elastic_inference.settings import state_dir as default_state_dir


@dataclass(frozen=True)
class BackupShown:
    """A backup that was written, checked or put back.

    Attributes:
        did: What happened to it.
        made_by: Version of elastic-inference.
        schema: Of the database in it.
        files: SHA-256 of its parts, by name.
        state_dir: Where it was put back; None where it was not.
        before: A backup of what was there before; None where there was nothing.
    """

    did: str
    file: Path
    host_id: str
    made_at: str
    made_by: str
    schema: str
    num_accelerators: int
    files: Mapping[str, str]
    state_dir: Path | None = None
    before: Path | None = None

    def blocks(self) -> Iterable[Block]:
        """Show what it holds, and that it holds secrets."""
        rows: list[tuple[str, object]] = [
            ("host", self.host_id),
            ("made", f"{self.made_at} by elastic-inference {self.made_by}"),
            ("database", f"schema {self.schema}, {self.num_accelerators} accelerators"),
            ("files", ", ".join(sorted(self.files))),
        ]
        if self.before is not None:
            rows.append(("before that", self.before))
        yield f"{self.did} {self.file}, which holds the host's tokens and keys: whoever reads it is the operator"
        yield Pairs(rows)
        if self.state_dir is not None:
            yield (
                f"warning: all tokens of {self.made_at} are valid again, the operator's and tenants', those too that "
                "were revoked since: revoke them once more, and make a new operator's token (`ei host new-token`) "
                "where that one was lost; tokens made since are refused"
            )


def _take_options(context: typer.Context, path: Path | None) -> Path | None:
    """Let the file of a start say where the state lies, as it says it to the host."""
    if path is not None:
        context.default_map = read_file(path, kinds_of(start))
    return path


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_take_options,
        help="The host's file of options, which says where its state lies.",
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="URL", help="As `ei host start` has it; default EI_DATABASE, else SQLite."
    ),
]
PasswordOption = Annotated[
    Path | None,
    typer.Option("--database-password-file", metavar="FILE", help="As `ei host start` has it."),
]


def backup(
    file: FileArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    database: DatabaseOption = None,
    database_password_file: PasswordOption = None,
) -> BackupShown:
    """Write a host's state into one file, while it runs.

    It holds accelerators, usage, tokens, certificates and the audit log as they are at one moment; not models,
    which clients send again, and not logs. It is read back and checked before it appears under its name.

    \b
    Examples:
      ei host backup host.tar
      ei host backup host.tar --config /etc/elastic-inference/host.toml
    """
    del config  # which has said what the others are
    with extra("host"):
        from elastic_inference.host.backup import write_backup
        from elastic_inference.host.processes.folders import HostFolder
    directory = (state_dir or default_state_dir()).absolute()
    made = write_backup(HostFolder(directory), database_url(database, database_password_file), file)
    return BackupShown("wrote", file, **vars(made))


def restore(
    file: FileArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    database: DatabaseOption = None,
    database_password_file: PasswordOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Even where the state directory is another host's.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check that the backup is whole.")] = False,
) -> BackupShown:
    """Put a host's state back, while no host runs there (`ei host stop --keep-running`); accelerators
    keep serving.

    The state of before is kept in before-restore.tar of the state directory. At its next start the host
    continues with accelerators that the backup knows and that still run, starts those that do not run, and ends those
    that the backup does not know. An older version's backup is upgraded.

    \b
    Examples:
      ei host restore host.tar --check
      ei host restore host.tar
    """
    del config
    with extra("host"):
        from elastic_inference.host.backup import read_backup, restore_backup
        from elastic_inference.host.processes.folders import HostFolder
    if check:
        return BackupShown("checked", file, **vars(read_backup(file)))
    directory = (state_dir or default_state_dir()).absolute()
    url = database_url(database, database_password_file)
    found, before = restore_backup(file, HostFolder(directory), url, may_replace_another=replace)
    return BackupShown("put back", file, **vars(found), state_dir=directory, before=before)
