"""A host as a service of systemd: its unit, with what it may do and nothing more."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from elastic_inference.errors import InvalidInput

UNIT = "elastic-inference-host.service"
UNIT_DIR = Path("/etc/systemd/system")

# What a host needs as root: users and groups of accelerators and what is theirs, their limits and priorities.
_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
)  # fmt: skip
_UNIT = """\
[Unit]
Description=elastic-inference host: shares of this machine's devices
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=1
# The host ends its accelerators itself, in order; what is left after that is killed.
KillMode=mixed
TimeoutStopSec=120
# Below its own group it makes one for each accelerator.
Delegate=yes
StateDirectory=elastic-inference elastic-inference-users
StateDirectoryMode=0711
CacheDirectory=elastic-inference
Environment=EI_CACHE_DIR=/var/cache/elastic-inference
LimitNOFILE=65536

NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @privileged
SystemCallFilter=~@clock @cpu-emulation @module @mount @obsolete @raw-io @reboot @swap
# Not set, and why: MemoryDenyWriteExecute, because engines compile machine code; PrivateDevices, because of GPUs;
# ProtectControlGroups and ProcSubset, because limits are groups and /proc is where the host finds its processes.

[Install]
WantedBy=multi-user.target
"""


def unit_text(config: Path, program: Path | None = None) -> str:
    """Write the unit of a host that is configured by a file.

    Args:
        program: The `ei` to start; None: the one beside this interpreter.

    Raises:
        InvalidInput: There is no such program.
    """
    program = program or Path(sys.executable).with_name("ei")
    if not os.access(program, os.X_OK):
        raise InvalidInput(
            f"{program} is not a program; install elastic-inference where the service may find it"
        )
    command = shlex.join([str(program), "host", "start", "--config", str(config.absolute())])
    return _UNIT.format(command=command, capabilities=" ".join(_CAPABILITIES))


def write_unit(text: str, directory: Path) -> Path:
    """Write the unit file; raises InvalidInput where that cannot be done."""
    path = directory / UNIT
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise InvalidInput(f"unit {path} cannot be written: {error.strerror or error}") from error
    return path
