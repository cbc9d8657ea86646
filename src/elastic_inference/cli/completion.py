"""What the shell offers for a word that is being typed: names and ids from the host, where it answers quickly.

A completion that fails or is slow offers nothing: the line that the user types is not the place for an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import typer

from elastic_inference.cli._hosts import open_session

TIMEOUT_SECONDS = 1.0

Offer = tuple[str, str]  # a word and what it is


def accelerators(context: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the names of attached accelerators, and ids to whoever types one."""

    def look() -> list[Offer]:
        found = _ask(context, "/v1/accelerators")
        names = [(each["name"], f"{each['type']}, {each['state']}") for each in found]
        ids = [(each["accelerator_id"], each["name"]) for each in found] if incomplete else []
        return names + ids

    return [offer for offer in _in_time(look) if offer[0].startswith(incomplete)]


def types(context: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the accelerator types of the host."""

    def look() -> list[Offer]:
        return [(each["name"], each["compute"]) for each in _ask(context, "/v1/types")]

    return [offer for offer in _in_time(look) if offer[0].startswith(incomplete)]


def models(incomplete: str) -> list[Offer]:
    """Offer the models that are known by name."""
    from elastic_inference.zoo import MODELS

    return [(model.name, model.description) for model in MODELS.values() if model.name.startswith(incomplete)]


def _ask(context: typer.Context, path: str) -> Any:
    options = {name: context.params.get(name) for name in ("host", "token", "tls_ca", "tls_cert", "tls_key")}
    return open_session(**options, timeout_seconds=TIMEOUT_SECONDS).request("GET", path)


def _in_time(look: Callable[[], list[Offer]]) -> list[Offer]:
    """Run `look` for at most TIMEOUT_SECONDS; time-outs of sockets alone start anew with each byte."""
    offers: list[Offer] = []

    def run() -> None:
        try:
            offers.extend(look())
        except Exception:  # whatever it is, there is nothing to offer
            offers.clear()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    return list(offers) if not thread.is_alive() else []
