"""The operator's access key in its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.host.doors.aws_directory import CredentialsFile, read_credentials


def only_key(file: CredentialsFile) -> tuple[str, str]:
    ((key_id, secret),) = read_credentials(file.path.read_text()).items()
    return key_id, secret


def test_the_file_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = CredentialsFile(tmp_path / "credentials")
    file.make()
    key_id, secret = only_key(file)
    file.make()
    assert only_key(file) == (key_id, secret)
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert len(secret) == 40
    assert file.find_secret(key_id) == secret
    assert file.find_secret("AKIDOTHER") is None


@pytest.mark.parametrize("text", ["", "no section", "[default]\naws_access_key_id = A\n", "[a]\n[a]\n"])
def test_a_file_without_a_whole_key_lets_nobody_in(tmp_path: Path, text: str) -> None:
    file = CredentialsFile(tmp_path / "credentials")
    file.path.write_text(text)
    assert file.find_secret("A") is None
    assert file.find_secret("") is None


def test_every_profile_of_the_file_counts() -> None:
    text = "[default]\naws_access_key_id = A\naws_secret_access_key = a%b\n" + (
        "[second]\naws_access_key_id = B\naws_secret_access_key = c\n"
    )
    assert read_credentials(text) == {"A": "a%b", "B": "c"}
    with pytest.raises(InvalidInput, match="credentials"):
        read_credentials("neither key nor section")


def test_an_empty_key_id_or_secret_is_none() -> None:
    assert read_credentials("[default]\naws_access_key_id =\naws_secret_access_key = x\n") == {}
    assert read_credentials("[default]\naws_access_key_id = A\naws_secret_access_key =\n") == {}
