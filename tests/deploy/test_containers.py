"""The containers: what their files say; and, where there is a base to build on, built and tried with real calls.

`make test-containers` makes a base by debootstrap and says so by EI_TEST_CONTAINER_BASE; the real one of the
Containerfile is Debian 12 too. buildah runs what it builds by chroot, with the network and processes of this machine,
and without cgroups.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.cli._host_start import read_start
from tests.host.conftest import free_ports
from tests.host.support import wait_until
from tests.integration.tiny_model import write_doubling_graph

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "container" / "Containerfile"
TARGETS = ("client", "serve", "host")
NAMES = {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}}
# Where pip finds packages on a machine that has its own ways; none of it gets into an image.
PIP = ("/etc/pip.conf", "/etc/xdg/pip", "/opt/wheels", "/opt/pypi", "/opt/pypi-more", "/etc/ssl/certs")
yaml = pytest.importorskip("yaml")


def instructions(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", text.replace("\\\n", " "), re.MULTILINE)


def test_the_base_and_every_package_are_pinned() -> None:
    text = FILE.read_text()
    (base,) = instructions(text, "ARG")
    assert re.fullmatch(r"BASE=docker\.io/library/debian:bookworm-\d{8}-slim@sha256:[0-9a-f]{64}", base)
    assert text.count("pip install") == text.count("--constraint /build/constraints.txt")
    lines = (ROOT / "deploy/container/constraints.txt").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+", line) for line in lines)
    pinned = {line.partition("==")[0] for line in lines}
    program = [sys.executable, str(ROOT / "deploy/container/pin.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    assert {
        line.partition("==")[0] for line in done.stdout.splitlines() if not line.startswith("#")
    } == pinned


def test_what_serves_has_a_health_check_and_root_is_the_hosts_alone() -> None:
    stages = dict(
        re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", FILE.read_text(), re.MULTILINE | re.DOTALL)
    )
    assert list(stages)[-1] == "host"
    for name in ("client", "serve"):
        assert "USER ei" in stages[name]
    for name in ("serve", "host"):
        assert "HEALTHCHECK" in stages[name]
    (command,) = instructions(stages["host"], "CMD")[-1:]
    assert {o.name: o.value for o in read_start(json.loads(command)).options}["ports"] == "8600-8699"


def test_the_compose_file_mounts_and_names_what_exists() -> None:
    folder = FILE.parent
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"host", "prometheus", "grafana"}
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert re.search(r":\w[\w.]+$", service["image"]) or "build" in service
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert (folder / source).exists() if source.startswith(".") else source in compose["volumes"]
    (scrape,) = yaml.safe_load((ROOT / "deploy/prometheus/compose.yml").read_text())["scrape_configs"]
    other = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": ["host:8500"]}]
    assert scrape["authorization"]["credentials_file"] == "/host/state/operator.token"
    assert scrape["job_name"] == other["job_name"]


class Images:
    """What buildah built, and containers of it."""

    def __init__(self, root: Path) -> None:
        self._options = [
            "--root",
            str(root / "images"),
            "--runroot",
            str(root / "run"),
            "--storage-driver",
            "vfs",
        ]
        self._env = {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def buildah(self, *arguments: str, timeout: float = 1500) -> str:
        done = subprocess.run(
            ["buildah", *self._options, *arguments], capture_output=True, text=True, timeout=timeout, env=self._env,
            cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
        return done.stdout.strip()

    def make_base(self, base: str) -> str:
        if not Path(base).is_dir():
            return base
        container = self.buildah("from", "scratch")
        self.buildah("add", "-q", container, f"{base}/", "/")
        self.buildah("commit", "-q", container, "localhost/debian:12")
        self.buildah("rm", container)
        return "localhost/debian:12"

    def build(self, base: str, target: str) -> None:
        volumes = [word for path in PIP if Path(path).exists() for word in ("--volume", f"{path}:{path}:ro")]
        self.buildah(
            "build", "-q", "--layers", "--format", "docker", "--target", target, "--build-arg", f"BASE={base}",
            *volumes, "-f", str(FILE), "-t", f"localhost/{target}", ".",
        )  # fmt: skip

    @contextlib.contextmanager
    def running(self, target: str, *command: str, volumes: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
        """A program in a new container of an image; the container's folder and the process."""
        container = self.buildah("from", f"localhost/{target}")
        mounts = [word for volume in volumes for word in ("--volume", volume)]
        process = subprocess.Popen(
            ["buildah", *self._options, "run", *mounts, container, "--", *command], env=self._env, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield self.buildah("mount", container), process
        finally:
            process.terminate()
            process.communicate(timeout=60)
            self.buildah("rm", container)


@pytest.fixture(scope="module")
def images() -> Iterator[Images]:
    base = os.environ.get("EI_TEST_CONTAINER_BASE")
    if base is None or shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.skip("needs root, buildah, and EI_TEST_CONTAINER_BASE: see make test-containers")
    folder = Path(tempfile.mkdtemp(prefix="ei-images-", dir="/var/tmp"))
    folder.chmod(0o755)
    images = Images(folder)
    try:
        name = images.make_base(base)
        for target in TARGETS:
            images.build(name, target)
        yield images
    finally:
        with contextlib.suppress(AssertionError):
            images.buildah("rm", "--all")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def configs(images: Images) -> dict[str, dict[str, Any]]:
    return {
        t: dict(json.loads(images.buildah("inspect", f"localhost/{t}")))["Docker"]["config"] for t in TARGETS
    }


pytestmark = pytest.mark.timeout(1800)


def test_images_say_user_health_and_what_they_start(configs: dict[str, dict[str, Any]]) -> None:
    assert {name: config["User"] for name, config in configs.items()} == {
        "client": "ei",
        "serve": "ei",
        "host": "",
    }
    assert configs["host"]["Entrypoint"] == ["ei", "host", "start"]
    assert configs["serve"]["Entrypoint"] == ["ei", "serve"]
    for name in ("serve", "host"):
        assert configs[name]["Healthcheck"]["Test"][0] == "CMD"


def test_a_client_calls_an_accelerator_of_a_host_and_all_are_containers(
    images: Images, tmp_path: Path
) -> None:
    write_doubling_graph(tmp_path / "doubling.pb")
    tmp_path.chmod(0o755)
    ports = free_ports()
    command = [
        "ei",
        "host",
        "start",
        "--listen",
        f"127.0.0.1:{ports[0]}",
        "--ports",
        f"{ports[1]}-{ports[-1]}",
    ]
    with images.running("host", *command) as (root, process):
        token_file = Path(root) / "var/lib/elastic-inference/state/operator.token"
        url = f"http://127.0.0.1:{ports[0]}"
        wait_until(lambda: process.poll() is not None or is_answering(f"{url}/v1/health"), "the host", 120)
        token = token_file.read_text().strip()
        half = Accelerator.attach("cpu.half", host=url, token=token)
        with EIPredictor(str(tmp_path / "doubling.pb"), accelerator=half, **NAMES) as predict:  # from outside
            assert predict({"x": np.array([3], np.int32)})["y"].tolist() == [6]
        program = (
            "import sys, numpy; from elastic_inference import Accelerator, EIPredictor\n"
            f"place = Accelerator.attach('cpu.half', host={url!r}, token=sys.argv[1])\n"
            f"with EIPredictor('/models/doubling.pb', accelerator=place, **{NAMES!r}) as predict:\n"
            "    print(predict({'x': numpy.array([4], 'int32')})['y'].tolist(), predict.report.transport)"
        )
        mount = f"{tmp_path}:/models:ro"
        with images.running("client", "python3", "-c", program, token, volumes=(mount,)) as (_, client):
            assert client.communicate(timeout=120)[0].split("\n")[0] == "[8] tcp"


def test_a_folder_of_models_is_served_by_the_image_as_its_user_and_its_health_check_says_so(
    images: Images, configs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "doubling").mkdir()
    write_doubling_graph(tmp_path / "doubling" / "model.pb")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    http, grpc = free_ports()[:2]
    config = configs["serve"]
    assert config["Cmd"] == ["/models", "--listen", "0.0.0.0", "--http", "8000", "--grpc", "8001"]
    # The network is this machine's, where the image's own ports may be taken.
    own = [{"0.0.0.0": "127.0.0.1", "8000": str(http), "8001": str(grpc)}.get(w, w) for w in config["Cmd"]]
    check = [word.replace(":8000/", f":{http}/") for word in config["Healthcheck"]["Test"][1:]]
    assert check != config["Healthcheck"]["Test"][1:]
    with images.running("serve", *config["Entrypoint"], *own, volumes=(f"{tmp_path}:/models:ro",)) as served:
        _, process = served
        url = f"http://127.0.0.1:{http}"
        wait_until(lambda: process.poll() is not None or is_answering(f"{url}/v2/health/ready"), "it", 120)
        with images.running("serve", *check) as (_, healthy):
            told = healthy.communicate(timeout=60)[0]
            assert healthy.returncode == 0, told
        with images.running("serve", "id", "-u") as (_, user):
            assert user.communicate(timeout=60)[0].strip() == "10001"
        given = {"name": "x", "datatype": "INT32", "shape": [1], "data": [21]}
        request = urllib.request.Request(
            f"{url}/v2/models/doubling/infer", json.dumps({"inputs": [given]}).encode()
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            (output,) = json.load(answer)["outputs"]
        assert output["data"] == [42]
    with images.running("serve", *check) as (_, ended):
        ended.communicate(timeout=60)
        assert ended.returncode != 0


def is_answering(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
