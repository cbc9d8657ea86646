"""TLS of the control API and of accelerators: a made authority, client certificates, what is refused."""

from __future__ import annotations

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
from elastic_inference.host.tls import init_tls, issue_client
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.protocol.tls import Tls
from tests.host.conftest import HostProcess
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
    tls = state_dir / "tls"
    state_dir.mkdir()
    ca, _ = init_tls(tls)
    cert, key = issue_client(tls, "alice")
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
