"""TLS of the control API and of accelerators: a made authority, client certificates, what is refused."""

from __future__ import annotations

import re
import signal
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509

from elastic_inference import EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ConnectError, InvalidInput, TransportError
from elastic_inference.host import tls
from elastic_inference.host.certificates import Certificates
from elastic_inference.host.tls import AUTHORITY_DAYS, MAX_DAYS, init_tls, issue_client
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.protocol.tls import Tls
from tests.host.conftest import HostProcess
from tests.host.support import wait_until
from tests.integration.tiny_model import write_doubling_graph

StartHost = Callable[..., HostProcess]


def test_the_made_certificate_names_the_host_and_this_machine(tmp_path: Path) -> None:
    ca, files = init_tls(tmp_path / "tls", ["gpu1.example.org", "10.0.0.5"])
    cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gpu1.example.org", "localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "127.0.0.1", "::1"]
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.read_bytes()))
    for key in (files.key, tmp_path / "tls" / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_second_time_keeps_the_authority_that_clients_trust(tmp_path: Path) -> None:
    ca, files = init_tls(tmp_path, ["a.example"])
    before = ca.read_bytes(), files.cert.read_bytes()
    init_tls(tmp_path, ["b.example"])
    assert ca.read_bytes() == before[0]
    assert files.cert.read_bytes() != before[1]


@pytest.mark.parametrize(
    ("names", "days", "told"),
    [(["a b"], 365, "'a b' is neither"), ([], 0, "days 0 is not between 1"), ([], 99999, "days 99999")],
)
def test_names_and_days_beyond_limits_are_refused(
    tmp_path: Path, names: list[str], days: int, told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        init_tls(tmp_path, names, days)


def test_over_tls_everything_works_and_only_for_who_trusts_the_authority(
    start_host: StartHost, state_dir: Path, tmp_path: Path
) -> None:
    host = start_host("--tls")
    ca = str(state_dir / "tls" / "ca.pem")
    assert host.url.startswith("https://")
    session = host.session(tls=Tls(ca=ca))
    attached = session.attach("cpu.quarter")
    tls_endpoint = next(e for e in attached.endpoints if e.startswith("tls:"))
    model = write_doubling_graph(tmp_path / "doubling.pb")
    names = {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}}
    with EIPredictor(str(model), **names, address=tls_endpoint, token=attached.token, tls_ca=ca) as predict:
        assert predict({"x": np.array([21], np.int32)})["y"].tolist() == [42]
        assert predict.report.transport == "tls"
    with pytest.raises(ConnectError, match="certificate verify failed"):
        host.session().attach("cpu.quarter")
    with pytest.raises(ConnectError, match="certificate verify failed"):
        EIPredictor(str(model), **names, address=tls_endpoint, token=attached.token)
    plain = HostSession(host.url.replace("https:", "http:"), host.operator_token)
    with pytest.raises(TransportError):
        plain.request("GET", "/v1/types")


def test_client_certificates_are_asked_for_where_the_operator_wants_them(
    start_host: StartHost, state_dir: Path
) -> None:
    folder = state_dir / "tls"
    state_dir.mkdir()
    ca, _ = init_tls(folder)
    cert, key = issue_client(folder, "alice")
    host = start_host("--tls", "--tls-client-ca", str(ca))
    attached = host.session(tls=Tls(str(ca), str(cert), str(key))).attach("cpu.quarter")
    with pytest.raises(TransportError):
        host.session(tls=Tls(ca=str(ca))).attach("cpu.quarter")
    endpoint = Endpoint.parse(next(e for e in attached.endpoints if e.startswith("tls:")))
    without = ssl.create_default_context(cafile=str(ca))
    with pytest.raises(TransportError):
        request_json(endpoint, "GET", "/v2/accelerator", token=attached.token, tls=without)
    shown = ssl.create_default_context(cafile=str(ca))
    shown.load_cert_chain(cert, key)
    answer = request_json(endpoint, "GET", "/v2/accelerator", token=attached.token, tls=shown)
    assert answer["accelerator_id"] == attached.accelerator_id


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--tls-cert", "/none.pem"), "--tls-cert and --tls-key belong together"),
        (("--tls-cert", "/none.pem", "--tls-key", "/none.key"), "TLS file /none.pem does not exist"),
        (("--tls-client-ca", "/none.pem"), "--tls-client-ca needs --tls"),
    ],
)
def test_wrong_tls_files_are_named(start_host: StartHost, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(RuntimeError, match=told):
        start_host(*arguments)


def test_the_authority_outlives_what_it_signs(tmp_path: Path) -> None:
    ca, files = init_tls(tmp_path, days=10)
    authority = x509.load_pem_x509_certificate(ca.read_bytes())
    cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
    assert (cert.not_valid_after_utc - cert.not_valid_before_utc).days == 10
    assert (authority.not_valid_after_utc - authority.not_valid_before_utc).days == AUTHORITY_DAYS
    init_tls(tmp_path, days=MAX_DAYS)
    cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
    assert cert.not_valid_after_utc == authority.not_valid_after_utc


def test_an_authority_that_has_ended_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "AUTHORITY_DAYS", 0)
    with pytest.raises(InvalidInput, match=r"ca.pem has ended on .*; move it away"):
        init_tls(tmp_path)


def serial_number(address: str, ca: Path) -> int:
    """Of the certificate that a server shows."""
    endpoint = Endpoint.parse(address)
    with endpoint.connect(30.0, ssl.create_default_context(cafile=ca)) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        der = sock.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def test_a_new_certificate_is_shown_after_sighup_by_the_host_and_its_accelerators(
    start_host: StartHost, state_dir: Path, tmp_path: Path
) -> None:
    host = start_host("--tls")
    ca = state_dir / "tls" / "ca.pem"
    attached = host.session(tls=Tls(ca=str(ca))).attach("cpu.quarter")
    endpoint = next(e for e in attached.endpoints if e.startswith("tls:"))
    model = write_doubling_graph(tmp_path / "doubling.pb")
    names = {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}}
    with EIPredictor(str(model), **names, address=endpoint, token=attached.token, tls_ca=str(ca)) as predict:
        before = serial_number(host.url, ca)
        _, files = init_tls(state_dir / "tls", ["new.example"])
        after = x509.load_pem_x509_certificate(files.cert.read_bytes()).serial_number
        assert before == serial_number(endpoint, ca) != after
        host.process.send_signal(signal.SIGHUP)
        for address in (host.url, endpoint):
            wait_until(lambda a=address: serial_number(a, ca) == after, f"{address} to show the new one")
        assert predict({"x": np.array([3], np.int32)})["y"].tolist() == [6]
        files.cert.write_text("not a certificate")
        host.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded, and as before" in host.log_path.read_text(), "the log to say so")
        assert serial_number(host.url, ca) == serial_number(endpoint, ca) == after
        init_tls(state_dir / "tls")
    assert host.end() == 0


def test_sighup_without_tls_ends_nothing(start_host: StartHost) -> None:
    host = start_host()
    host.process.send_signal(signal.SIGHUP)
    wait_until(lambda: '"reloaded"' in host.log_path.read_text(), "the log to say so")
    assert host.session().request("GET", "/v1/health") == {"status": "ok", "warnings": []}


def test_the_end_of_a_certificate_is_warned_about(start_host: StartHost, state_dir: Path) -> None:
    state_dir.mkdir()
    ca, _ = init_tls(state_dir / "tls", days=20)
    session = start_host("--tls").session(tls=Tls(ca=str(ca)))
    (warning,) = session.request("GET", "/v1/health")["warnings"]
    assert re.fullmatch(
        r"the host's certificate ends on 20\d\d-\d\d-\d\d, in (19|20) days; make a .*", warning
    )
    assert session.request("GET", "/v1/host")["warnings"] == [warning]
    assert "elastic_inference_host_certificate_ends_seconds" in session.request("GET", "/metrics")


def test_there_is_no_warning_while_there_is_time_and_one_after_the_end(tmp_path: Path) -> None:
    certificates = Certificates(init_tls(tmp_path, days=40)[1])
    ends_at = certificates.ends_at
    assert ends_at is not None
    assert certificates.warning(ends_at - 31 * 86400) is None
    assert "in 29 days" in (certificates.warning(ends_at - 29.5 * 86400) or "")
    assert "has ended on" in (certificates.warning(ends_at + 1) or "")
    assert Certificates(None).warning(ends_at) is None
