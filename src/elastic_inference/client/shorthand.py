"""The flat keywords of EIPredictor as the values that they stand for; the one place that knows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from elastic_inference.client import checks
from elastic_inference.client.accelerator import (
    Accelerator,
    At,
    Attach,
    Embedded,
    FromEnvironment,
    HostAccess,
    Local,
    OfId,
)
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.tls import Tls

_PLACES = ("address", "host", "accelerator_type", "accelerator_id")


@dataclass(frozen=True)
class PlaceKeywords:
    """Those that say where; see EIPredictor's arguments of the same names."""

    accelerator_id: str | int | None = None
    address: str | None = None
    token: str | None = None
    host: str | None = None
    accelerator_type: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    num_threads: int | None = None
    allow_unsafe_operations: bool | None = None

    def given(self) -> list[str]:
        """Return the names of those that the caller gave."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def accelerator(self, use_ei: bool) -> Accelerator:
        """Return the value that they stand for.

        Raises:
            InvalidInput: They contradict each other.
        """
        checks.threads("num_threads", self.num_threads)
        if not use_ei:
            return Local(self.num_threads)  # which runs whatever this program trusts
        if self.allow_unsafe_operations:
            self._refuse_beside("allow_unsafe_operations", "address", "host", "accelerator_type")
        if self.address is not None:
            self._refuse_beside("address", "host", "accelerator_id", "accelerator_type")
            return At(self.address, self.token, self._tls())
        access = HostAccess(self.host, self.token, self._tls())
        if self.accelerator_type is not None:
            self._refuse_beside("accelerator_type", "accelerator_id")
            return Attach(self.accelerator_type, access)
        by_id = OfId(self.accelerator_id, access)
        if self.host is not None or not by_id.is_ordinal:
            return by_id
        ordinal = None if self.accelerator_id is None else int(self.accelerator_id)
        return FromEnvironment(ordinal, access, self.num_threads, bool(self.allow_unsafe_operations))

    def _refuse_beside(self, name: str, *others: str) -> None:
        for other in others:
            if getattr(self, other) is not None:
                raise InvalidInput(
                    f"{name} and {other} contradict each other: where {name} is given, {other} must be None"
                )

    def _tls(self) -> Tls | None:
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        return None if files == (None, None, None) else Tls(*files)


def where(accelerator: Accelerator | None, use_ei: bool, keywords: PlaceKeywords) -> Accelerator:
    """Return the place that the caller means: the value, or what the flat keywords stand for.

    Raises:
        InvalidInput: Both are given, or the keywords contradict each other.
    """
    if accelerator is None:
        return keywords.accelerator(use_ei)
    if not isinstance(accelerator, Accelerator) or type(accelerator) is Accelerator:
        raise InvalidInput(
            f"accelerator must be made by a method of Accelerator, such as Accelerator.attach('cpu.half'), "
            f"not {checks.shown(accelerator)}"
        )
    if keywords.given():
        raise InvalidInput(
            f"accelerator and {keywords.given()[0]} contradict each other: say it in accelerator, which is "
            f"{accelerator!r}"
        )
    if not use_ei and not isinstance(accelerator, Local):
        raise InvalidInput(
            f"use_ei=False and accelerator contradict each other: accelerator is {accelerator!r}; "
            "Accelerator.local() computes in this process"
        )
    return accelerator


def how(
    load: LoadOptions | None,
    engine: str | None,
    precision: str | None,
    warm_up: bool | Mapping[str, Sequence[int]] | None,
    cache_dir: str | Literal[False] | None,
    proof: str | None,
    batching: str | None,
    max_batch_rows: int | None,
    name: str | None,
) -> LoadOptions:
    """Return the options that the caller means: the value, or what the flat keywords stand for.

    Raises:
        InvalidInput: Both are given, or a value is wrong.
    """
    keywords = {
        "engine": engine, "precision": precision, "warm_up": warm_up, "cache_dir": cache_dir, "proof": proof,
        "batching": batching, "max_batch_rows": max_batch_rows, "name": name,
    }  # fmt: skip
    given: dict[str, Any] = {key: value for key, value in keywords.items() if value is not None}
    if load is None:
        return LoadOptions(**given)
    if not isinstance(load, LoadOptions):
        raise InvalidInput(f"load must be a LoadOptions, or None, not {checks.shown(load)}")
    if given:
        raise InvalidInput(
            f"load and {next(iter(given))} contradict each other: say it in load, which is {load!r}"
        )
    return load


def cache_dir_of(accelerator: Accelerator, load: LoadOptions) -> str | Literal[False] | None:
    """Where an embedded accelerator keeps models, which either value may say; None where neither does.

    Raises:
        InvalidInput: They say two places.
    """
    own = accelerator.cache_dir if isinstance(accelerator, Embedded) else None
    if own is not None and load.cache_dir not in (None, own):
        raise InvalidInput(
            f"accelerator and load contradict each other: cache_dir is {own!r} in one and {load.cache_dir!r} in "
            "the other"
        )
    return load.cache_dir if own is None else own


def unused(accelerator: Accelerator, keywords: PlaceKeywords) -> str:
    """Return a sentence for the report where flat keywords have no effect, "" where there are none."""
    places = [name for name in keywords.given() if name in _PLACES]
    if isinstance(accelerator, Local) and places:  # use_ei=False switches a program over that names its place
        return f"{' and '.join(places)} {'has' if len(places) == 1 else 'have'} no effect: use_ei=False computes here"
    num_threads = keywords.num_threads
    if num_threads is None or isinstance(accelerator, Local | FromEnvironment):
        return ""
    return f"num_threads={num_threads} is not used: an attached accelerator has the threads of its type"
