"""Where an accelerator listens: `unix:/path`, `tcp:HOST:PORT` or `tls:HOST:PORT`; and sockets made for it."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import stat
from dataclasses import dataclass

from elastic_inference.deadline import Deadline
from elastic_inference.errors import ConnectError, DeadlineExceeded, InvalidInput
from elastic_inference.protocol.stream import SOCKET_BUFFER_BYTES

_SCHEMES = {"http": "tcp", "https": "tls", "tcp": "tcp", "tls": "tls"}
_HOST = re.compile(r"\[[0-9A-Fa-f:.%\w]+\]|[^\s\[\]/@?#\x00-\x1f\x7f]+")
_PORT = re.compile(r"[0-9]{1,5}")
HAS_UNIX_SOCKETS = hasattr(socket, "AF_UNIX")  # not in Python on Windows
UNIX_PATH_LIMIT = 107  # bytes, of the kernel's sun_path with its end


@dataclass(frozen=True)
class Endpoint:
    """One address of a server.

    Attributes:
        kind: "unix", "tcp" or "tls".
        path: Of the Unix socket, "" otherwise.
        host, port: Of the TCP socket, "" and 0 otherwise; port 0 is only for listening.
    """

    kind: str
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `unix:/path`, `tcp:HOST:PORT`, `tls:HOST:PORT`, `http(s)://HOST:PORT` or `HOST:PORT`."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").removeprefix("//")
            if not _is_socket_path(path):
                raise InvalidInput(
                    f"address {text!r}: the socket's path must be absolute and of at most {UNIX_PATH_LIMIT} bytes"
                )
            return cls("unix", path=path)
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, separator, rest = text.partition(":")
            if scheme not in ("tcp", "tls"):
                scheme, rest = "tcp", text
        host, _, port = rest.removesuffix("/").rpartition(":")
        if (
            scheme not in _SCHEMES
            or not _HOST.fullmatch(host)
            or not _PORT.fullmatch(port)
            or int(port) > 65535
        ):
            raise InvalidInput(
                f"address {text!r} is not unix:/PATH, tcp:HOST:PORT, tls:HOST:PORT or a http(s) URL"
            )
        return cls(_SCHEMES[scheme], host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}:{host}:{self.port}"

    @property
    def host_header(self) -> str:
        """What the Host header says."""
        return "localhost" if self.kind == "unix" else str(self).split(":", 1)[1]

    def is_local(self) -> bool:
        """Whether the peer is certainly addressed on this machine."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def connect(self, timeout_seconds: float | None, tls: ssl.SSLContext | None = None) -> socket.socket:
        """Connect, with TLS where the kind says so.

        Raises:
            ConnectError: Refused, unreachable or the TLS handshake failed. Nothing was sent.
            DeadlineExceeded: No connection within the time.
        """
        deadline = Deadline(timeout_seconds)
        try:
            if self.kind == "unix":
                sock = _connect_unix(self.path, timeout_seconds)
            else:
                sock = _connect_tcp(self.host, self.port, deadline)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no connection to {self} within {timeout_seconds} s") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            raise ConnectError(f"cannot connect to {self}: {error}") from error
        if self.kind == "tls":
            sock = self._wrap(sock, tls or ssl.create_default_context(), deadline)
        sock.settimeout(None)
        return sock

    def _wrap(self, sock: socket.socket, tls: ssl.SSLContext, deadline: Deadline) -> socket.socket:
        try:
            sock.settimeout(deadline.check(f"TLS with {self}"))  # for the whole handshake
            return tls.wrap_socket(sock, server_hostname=self.host)
        except TimeoutError as error:
            sock.close()
            raise DeadlineExceeded(f"no TLS with {self} within {deadline.timeout_seconds} s") from error
        except (OSError, ValueError) as error:
            sock.close()
            raise ConnectError(f"TLS with {self} failed: {error}") from error

    def listen(self, backlog: int = 128) -> socket.socket:
        """Open the listening socket; a Unix socket's file is for its owner alone.

        Raises:
            ConnectError: The port or path is taken, or may not be used.
        """
        try:
            if self.kind == "unix":
                return self._listen_unix(backlog)
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
            address = (self.host, self.port)
            return socket.create_server(address, family=family, backlog=backlog, dualstack_ipv6=both)
        except (OSError, UnicodeError) as error:
            raise ConnectError(f"cannot listen on {self}: {error}") from error

    def _listen_unix(self, backlog: int) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self._is_stale():
                os.unlink(self.path)
            sock.bind(self.path)
            os.chmod(self.path, 0o600)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    def unlink(self) -> None:
        """Remove the Unix socket's file."""
        os.unlink(self.path)

    def _is_stale(self) -> bool:
        """Whether a socket's file is there on which nobody listens; any other file refuses connections too."""
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                return False
            _connect_unix(self.path, 1.0).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


def _connect_tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first of the name's addresses that answers; `create_connection` gives each all of the time."""
    last: OSError | None = None
    for family, kind, number, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, number)
        try:
            sock.settimeout(deadline.check("a connection"))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(sock)
            return sock
        except DeadlineExceeded:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
    raise last or OSError(f"{host} has no address")


def _connect_unix(path: str, timeout_seconds: float | None) -> socket.socket:
    if not HAS_UNIX_SOCKETS:
        raise OSError("this system has no Unix sockets; use a tcp: or tls: address")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_seconds)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_socket_path(path: str) -> bool:
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return path.startswith("/") and path[1:2] != "/" and "\0" not in path and len(encoded) <= UNIX_PATH_LIMIT


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel ask a silent peer whether it is still there, and break the connection where it is not.

    After a minute of silence, four times with ten seconds between them: a machine that lost its power is noticed in
    under two minutes, in place of the kernel's two hours.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # not everywhere
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def tune(sock: socket.socket) -> None:
    """Set buffer sizes of a Unix socket, whose default holds few packets; TCP tunes itself."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
