"""Makes an authority and certificates for hosts that have none of their own (`ei host init-tls`)."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from elastic_inference.errors import InvalidInput
from elastic_inference.host.processes.folders import TlsFiles
from elastic_inference.host.tokens import write_private

CA_CERT, CA_KEY = "ca.pem", "ca.key"
HOST_CERT, HOST_KEY = "host.pem", "host.key"
MAX_DAYS = 3650
AUTHORITY_DAYS = 3650  # clients trust it: it must outlive the certificates that it signs
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_DNS_NAME = re.compile(
    r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """Who signs: a certificate and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def init_tls(directory: Path, names: Sequence[str] = (), days: int = 365) -> tuple[Path, TlsFiles]:
    """Make an authority, unless one is there, and a new certificate of the host signed by it.

    The authority holds for ten years, so that clients need it once; no certificate holds longer than it.

    Args:
        names: DNS names and addresses by which clients reach the host, beside those of this machine itself.
        days: How long the host's certificate holds.

    Returns:
        The authority's certificate, which clients need as `--tls-ca`, and the host's files.

    Raises:
        InvalidInput: A name or the number of days is not usable.
    """
    if not 1 <= days <= MAX_DAYS:
        raise InvalidInput(f"days {days} is not between 1 and {MAX_DAYS}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _authority(directory)
    everyone = list(dict.fromkeys((*names, *_LOCAL_NAMES)))
    _issue(
        authority, directory / HOST_CERT, directory / HOST_KEY, everyone[0], days, everyone, is_server=True
    )
    return directory / CA_CERT, TlsFiles(directory / HOST_CERT, directory / HOST_KEY)


def issue_client(directory: Path, name: str, days: int = 365) -> tuple[Path, Path]:
    """Make a client's certificate and key; `init_tls` must have been run.

    Returns:
        The paths of the certificate and its key.
    """
    if not name.isidentifier():
        raise InvalidInput(f"client name {name!r} must be letters, digits and '_'")
    authority = _authority(directory)
    cert, key = directory / f"client-{name}.pem", directory / f"client-{name}.key"
    _issue(authority, cert, key, name, days, (), is_server=False)
    return cert, key


def _authority(directory: Path) -> Authority:
    cert_path, key_path = directory / CA_CERT, directory / CA_KEY
    if not cert_path.exists():
        _make_authority(cert_path, key_path)
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        cert = x509.load_pem_x509_certificate(cert_path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the authority in {directory} cannot be used: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput(f"{key_path} is not a key that `ei host init-tls` made")
    if cert.not_valid_after_utc <= _in_days(0):
        raise InvalidInput(
            f"the authority {cert_path} has ended on {cert.not_valid_after_utc:%Y-%m-%d}; move it away, so that a new "
            "one is made, and give that to the clients"
        )
    return Authority(cert, key)


def _make_authority(cert_path: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("elastic-inference authority")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    cert = (
        _builder(name, name, key.public_key(), _in_days(AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(cert, cert_path, key, key_path)


def _issue(
    authority: Authority,
    cert_path: Path,
    key_path: Path,
    common_name: str,
    days: int,
    names: Sequence[str],
    is_server: bool,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH
    ends_at = min(_in_days(days), authority.cert.not_valid_after_utc)
    # The identifiers are asked for by Python 3.13, whose default is strict checking.
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name(common_name), authority.cert.subject, key.public_key(), ends_at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_key, critical=False)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    _write(builder.sign(authority.key, hashes.SHA256()), cert_path, key, key_path)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    ends_at: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_in_days(0) - _CLOCK_SKEW)
        .not_valid_after(ends_at)
    )


def _in_days(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InvalidInput(f"name {name!r} is neither a DNS name nor an address") from error
    if not _DNS_NAME.fullmatch(ascii_name):
        raise InvalidInput(f"name {name!r} is neither a DNS name nor an address")
    return x509.DNSName(ascii_name)


def _write(cert: x509.Certificate, cert_path: Path, key: ec.EllipticCurvePrivateKey, key_path: Path) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key_path, pem.decode())
    cert_path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
