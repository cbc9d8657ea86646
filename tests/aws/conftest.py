"""Amazon's own tools, unmodified, in an environment of their own, against our API over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from elastic_inference.errors import AcceleratorNotFound
from elastic_inference.host.doors.aws_directory import CredentialsFile, ListedAccelerator, ListedType
from tests.waiting import read_line

_ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = Path(os.environ.get("EI_AWS_ENVIRONMENT", _ROOT / ".venv-aws"))


class MemoryDirectory:
    """A host's directory in memory: what is attached is said by the test."""

    def __init__(self) -> None:
        self.types = [
            ListedType("eia1.medium", 1024 * 2**20, 1.0, True),
            ListedType("eia2.xlarge", 8192 * 2**20, 4.0, False),
            ListedType("cpu.half", 512 * 2**20, 0.11, True),
        ]
        self.accelerators: list[ListedAccelerator] = []
        self.tags: dict[str, dict[str, str]] = {}

    def attach(self, accelerator_id: str, type_name: str = "eia1.medium", client: str = "web") -> str:
        self.accelerators.append(ListedAccelerator(accelerator_id, type_name, "healthy", client))
        self.tags[accelerator_id] = {}
        return accelerator_id

    def list_types(self) -> Sequence[ListedType]:
        return self.types

    def list_accelerators(self) -> Sequence[ListedAccelerator]:
        return self.accelerators

    def get_tags(self, accelerator_id: str) -> dict[str, str]:
        if accelerator_id not in self.tags:
            raise AcceleratorNotFound(f"no accelerator {accelerator_id} is attached here")
        return dict(self.tags[accelerator_id])

    def set_tags(self, accelerator_id: str, tags: Mapping[str, str]) -> None:
        self.tags[accelerator_id].update(tags)

    def remove_tags(self, accelerator_id: str, keys: Iterable[str]) -> None:
        for key in keys:
            self.tags[accelerator_id].pop(key, None)


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """An ASGI app on a real port of this machine; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="session")
def aws_environment() -> Path:
    """The virtual environment that holds boto3 1.36.26 and awscli 1.37.26, the last that know this service."""
    if not (_ENVIRONMENT / "bin" / "aws").exists():
        pytest.skip(f"needs boto3==1.36.26 and awscli==1.37.26 in {_ENVIRONMENT} (make .venv-aws/.done)")
    return _ENVIRONMENT


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> CredentialsFile:
    """A host's access key for its operator."""
    file = CredentialsFile(tmp_path_factory.mktemp("aws") / "credentials")
    file.make()
    return file


@pytest.fixture(scope="session")
def aws_variables(credentials: CredentialsFile) -> dict[str, str]:
    """What Amazon's tools read from their environment; nothing of the user's own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(credentials.path.parent),
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials.path),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Boto:
    """boto3 in its own process."""

    def __init__(self, python: Path, url: str, variables: dict[str, str], *options: str) -> None:
        command = [str(python), str(Path(__file__).with_name("boto_driver.py")), url, *options]
        self._process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=variables)

    def _ask(self, told: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(read_line(self._process)))

    def call(self, operation: str, **arguments: Any) -> Any:
        """Call an operation that must succeed; its answer."""
        reply = self._ask({"operation": operation, "arguments": arguments})
        assert "answer" in reply, reply
        return reply["answer"]

    def pages(self, operation: str, **arguments: Any) -> Any:
        """What boto3's own paginator gives, page by page."""
        reply = self._ask({"operation": operation, "arguments": arguments, "paginate": True})
        assert "answer" in reply, reply
        return reply["answer"]

    def error(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation that must fail; the error as boto3 understood it."""
        reply = self._ask({"operation": operation, "arguments": arguments})
        assert "error" in reply, reply
        return dict(reply["error"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def start_boto(aws_environment: Path, aws_variables: dict[str, str]) -> Iterator[Callable[..., Boto]]:
    """Starts boto3 against a URL; ended with the session."""
    started: list[Boto] = []

    def start(url: str, *options: str, **changed: str) -> Boto:
        python = aws_environment / "bin" / "python"
        started.append(Boto(python, url, {**aws_variables, **changed}, *options))
        return started[-1]

    yield start
    for boto in started:
        boto.close()


@pytest.fixture(scope="session")
def run_aws(
    aws_environment: Path, aws_variables: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command `aws elastic-inference` against a URL."""

    def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(aws_environment / "bin" / "aws"), "elastic-inference", *arguments]
        return subprocess.run(
            [*command, "--endpoint-url", url, "--output", "json"],
            env={**aws_variables, "AWS_PAGER": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run
