"""The certificate that a host shows: read anew without a restart, and watched for its end."""

from __future__ import annotations

import datetime
import logging
import ssl
from pathlib import Path

from cryptography import x509

from elastic_inference.errors import InvalidInput
from elastic_inference.host.processes.folders import TlsFiles
from elastic_inference.protocol.tls import server_context

logger = logging.getLogger(__name__)

WARN_DAYS = 30
_DAY_SECONDS = 86400.0


class Certificates:
    """The TLS files in force.

    Raises:
        InvalidInput: They cannot be used.
    """

    def __init__(self, files: TlsFiles | None) -> None:
        self.files = files
        self._context: ssl.SSLContext | None = None
        self.ends_at: float | None = None  # of the first that ends, in seconds since 1970; None without TLS
        self._logged_at: float | None = None
        self.reload()

    @property
    def context(self) -> ssl.SSLContext | None:
        """For connections from now on; None without TLS."""
        return self._context

    def reload(self) -> None:
        """Read the files again; where they cannot be used, those of before stay in force and InvalidInput says why."""
        if self.files is None:
            return
        cert, key, client_ca = self.files.cert, self.files.key, self.files.client_ca
        context = server_context(str(cert), str(key), None if client_ca is None else str(client_ca))
        ends_at = min(_end_of(path) for path in (cert, client_ca) if path is not None)
        self._context, self.ends_at, self._logged_at = context, ends_at, None

    def warning(self, now: float) -> str | None:
        """Return a sentence for who looks after the host, from 30 days before the end on; None where there is time.

        Args:
            now: Seconds since 1970 of the machine's clock, by which clients decide.
        """
        if self.ends_at is None or self.ends_at - now > WARN_DAYS * _DAY_SECONDS:
            return None
        day = datetime.datetime.fromtimestamp(self.ends_at, datetime.timezone.utc).strftime("%Y-%m-%d")
        days = int((self.ends_at - now) // _DAY_SECONDS)
        when = f"ends on {day}, in {days} days" if now < self.ends_at else f"has ended on {day}"
        return f"the host's certificate {when}; make a new one (`ei host init-tls`) and send the host SIGHUP"

    def log_warning(self, now: float) -> None:
        """Write the warning into the log, once a day."""
        text = self.warning(now)
        if text is not None and (self._logged_at is None or now - self._logged_at >= _DAY_SECONDS):
            self._logged_at = now
            logger.warning(text)


def _end_of(path: Path) -> float:
    """When the first certificate of a file ends."""
    try:
        certs = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"TLS file {path} cannot be used: {error}") from error
    return min(cert.not_valid_after_utc.timestamp() for cert in certs)
