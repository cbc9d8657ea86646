"""The protocols that an accelerator can speak, each a door of its endpoints."""

from __future__ import annotations

from collections.abc import Collection

from elastic_inference.errors import InvalidInput

DOORS = ("http", "grpc", "tensorflow-serving", "sagemaker")


def check_doors(doors: Collection[str], what: str) -> tuple[str, ...]:
    """Return doors in their usual order.

    Raises:
        InvalidInput: One is unknown, or "http" is not among them, by which the host calls and models come.
    """
    if "http" not in doors or not set(doors) <= set(DOORS):
        raise InvalidInput(
            f"{what} must be 'http' and others of {', '.join(DOORS)}, not {', '.join(doors) or 'none':.80}"
        )
    return tuple(door for door in DOORS if door in doors)


def parse_doors(text: str) -> tuple[str, ...]:
    """Read the option `--doors`, such as `http,grpc`; raises as `check_doors`."""
    return check_doors([part.strip() for part in text.split(",") if part.strip()], "--doors")
