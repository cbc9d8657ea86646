"""The manifests against the schemas of Kubernetes, and what they must say of tokens, readiness and rights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import elastic_inference
from elastic_inference.cli._host_start import read_start

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
MANIFESTS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
FILES = ("host.yaml", "serve.yaml")


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def pod_specs() -> list[dict[str, Any]]:
    found = [
        each["spec"]["template"]["spec"]
        for name in FILES
        for each in objects(name)
        if "template" in each.get("spec", {})
    ]
    assert len(found) == 2
    return found


def containers() -> list[dict[str, Any]]:
    return [each for spec in pod_specs() for each in (*spec.get("initContainers", ()), *spec["containers"])]


@pytest.mark.parametrize("name", FILES)
def test_every_object_is_one_of_kubernetes_own_schema(name: str) -> None:
    for each in objects(name):
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    broken = objects(name)[-1]
    broken["spec"]["selectr"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="selectr"):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_tokens_and_keys_come_from_secrets_and_stand_nowhere() -> None:
    for spec in pod_specs():
        secrets = [v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v]
        secrets += [
            env["valueFrom"]["secretKeyRef"]["name"]
            for container in spec["containers"]
            for env in container.get("env", ())
        ]
        assert [name for name in secrets if name.endswith("token")]
    for name in FILES:
        text = (MANIFESTS / name).read_text()
        assert "stringData" not in text
        assert not re.search(r"value: .*[Tt]oken", text)


def test_containers_are_of_this_version_confined_bounded_and_probed() -> None:
    for container in containers():
        assert container["image"].endswith(f":{elastic_inference.__version__}")
        confined = container["securityContext"]
        assert confined["allowPrivilegeEscalation"] is False
        assert confined["readOnlyRootFilesystem"] is True
        assert confined["capabilities"]["drop"] == ["ALL"]
        assert "memory" in container["resources"]["limits"]
    for spec in pod_specs():
        for container in spec["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] in ports
        mounted = {
            m["name"]
            for c in (*spec.get("initContainers", ()), *spec["containers"])
            for m in c["volumeMounts"]
        }
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_the_hosts_arguments_are_options_of_a_host(tmp_path: Path) -> None:
    (host,) = pod_specs()[0]["containers"]
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("")
    arguments = [text.replace("/tls/", f"{tmp_path}/") for text in host["args"]]
    options = {option.name: option.value for option in read_start(arguments).options}
    assert (options["listen"], options["ports"]) == ("0.0.0.0:8500", "8600-8699")
