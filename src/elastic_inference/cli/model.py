"""`ei model`: what the store of this user's embedded accelerators holds of each model, and why."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from elastic_inference import settings, zoo
from elastic_inference.cli import _served_models as served_models
from elastic_inference.cli.registration import Command, add_group
from elastic_inference.cli.rendering import Block, Column, Listing, Pairs, Sentence, Table
from elastic_inference.errors import InvalidInput, ModelNotFound
from elastic_inference.models.artifacts.store import Artifact, ArtifactStore, Kind, contents_of
from elastic_inference.proof.choice import Choice
from elastic_inference.proof.proof import Proof
from elastic_inference.units import format_bytes

_SHOWN_HASH = 12
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", help="The store; default `store` in EI_CACHE_DIR.", show_default=False
    ),
]
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Its name (of a file, or as in `ei models`), or the beginning of its hash.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class StoredModel:
    """A model and all that is kept of it.

    Attributes:
        model: The hash of its content.
        size_bytes: Of its files, and of what was compiled of them.
        compiled: Each compiled variant in a few words, such as "openvino fp32 2 threads".
        used_unix: When any of it was used last; seconds since 1970.
    """

    name: str
    model: str
    format: str
    size_bytes: int
    compiled: Sequence[str]
    used_unix: float
    is_published: bool

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("MODEL", lambda m: m.name),
        Column("HASH", lambda m: m.model[:_SHOWN_HASH]),
        Column("FORMAT", lambda m: m.format),
        Column("SIZE MiB", lambda m: m.size_bytes / 2**20, ".1f"),
        Column("COMPILED", lambda m: "; ".join(m.compiled) or None),
        Column("LAST USED", lambda m: _day(m.used_unix)),
    )
    EMPTY: ClassVar[str] = "nothing is stored; `ei models` lists the models that are known by name"


@dataclass(frozen=True)
class CompiledVariant:
    """One compiled model.

    Attributes:
        compile_seconds: Reading and compiling it.
    """

    engine: str
    engine_version: str
    precision: str
    num_threads: int
    size_bytes: int
    compile_seconds: float
    made_unix: float
    used_unix: float

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("ENGINE", lambda c: f"{c.engine} {c.engine_version}"),
        Column("PRECISION", lambda c: c.precision),
        Column("THREADS", lambda c: c.num_threads, "d"),
        Column("SIZE MiB", lambda c: c.size_bytes / 2**20, ".1f"),
        Column("TOOK s", lambda c: c.compile_seconds, ".1f"),
        Column("COMPILED", lambda c: _day(c.made_unix)),
        Column("LAST USED", lambda c: _day(c.used_unix)),
    )


@dataclass(frozen=True)
class StoredDetails:
    """One model in full.

    Attributes:
        has_files: Whether the files are in the store; not before its first load, where it was only compiled.
        shapes: Input shapes that it was called with, the last first.
        found_out: What else is remembered of it, such as proofs and decisions: kind and description.
    """

    stored: StoredModel
    files: Sequence[dict[str, Any]]
    variants: Sequence[CompiledVariant]
    has_files: bool
    shapes: Sequence[dict[str, Any]]
    found_out: Sequence[dict[str, Any]]

    def blocks(self) -> Iterable[Block]:
        """Show what is stored, compiled, seen and found out."""
        yield Pairs([
            ("model", self.stored.name),
            ("hash", self.stored.model),
            ("format", self.stored.format),
            ("files", self._files()),
            ("last used", _day(self.stored.used_unix)),
            ("published", "by the operator" if self.stored.is_published else "no"),
        ])  # fmt: skip
        yield Table(CompiledVariant.COLUMNS, self.variants, "nothing is compiled of it")
        for seen in self.shapes:
            sizes = ", ".join(f"{alias} {shape}" for alias, shape in seen["shapes"].items())
            yield f"called with {sizes}: {seen['seconds']:.3g} s"
        for each in self.found_out:
            yield _sentence(each["kind"], each["about"])

    def _files(self) -> str:
        size = format_bytes(sum(file["size_bytes"] for file in self.files))
        return f"{len(self.files)}, {size}" + ("" if self.has_files else "; not here before its first load")


def _sentence(kind: str, about: Mapping[str, Any]) -> str:
    """Say what was found out, in the words of the report; of another version, as it is."""
    try:
        if kind == Kind.PROOF.value:
            return f"proof: {Proof.from_json(about).summary()}"
        if kind == Kind.DECISION.value:
            return f"chosen: {Choice.from_json(about).reason}"
        return f"calibrated: {about['precision']} on {about['num_samples']} samples"
    except (KeyError, TypeError, ValueError, AttributeError):
        return f"{kind}: {dict(about)}"


def register(app: typer.Typer) -> None:
    """Add `ei model list`, `show`, `remove` and `publish` of the store; `load`, `unload`, `alias` of an accelerator."""
    of_store: dict[str, Command] = {"list": list_models, "show": show, "remove": remove, "publish": publish}
    add_group(app, "model", model, **of_store, **served_models.COMMANDS)


def model() -> Listing:
    """Say what is stored of models: their files, what was compiled of them, and what was found out.

    Models that are known by name, stored or not, are listed by `ei models`.

    \b
    Examples:
      ei model
      ei model --json
    """
    return list_models(None)


def list_models(store: StoreOption = None) -> Listing:
    """List the stored models, the last used first.

    \b
    Examples:
      ei model list
      ei model list --store /srv/models --json
    """
    return Listing(StoredModel, sorted(_models(_open(store)), key=lambda found: -found.used_unix))


def show(name: NameArgument, store: StoreOption = None) -> StoredDetails:
    """Show what is stored, compiled and remembered of a model.

    \b
    Examples:
      ei model show faster_rcnn.pb
      ei model show 3f6c0d --json
    """
    opened = _open(store)
    found = _named(opened, name)
    own = _artifacts_of(opened, found.model)
    about = {kind: [each.about for each in own if each.kind is kind] for kind in Kind}
    told = [
        {"kind": each.kind.value, "about": dict(each.about)}
        for each in own
        if each.kind in (Kind.PROOF, Kind.DECISION, Kind.CALIBRATED)
    ]
    files = [dict(file) for value in about[Kind.MODEL][:1] for file in value.get("files", ())]
    return StoredDetails(
        stored=found,
        files=files,
        has_files=all(opened.blobs.size(str(file["sha256"])) is not None for file in files),
        variants=[_variant(each) for each in own if each.kind is Kind.COMPILED],
        shapes=[dict(seen) for value in about[Kind.SHAPES] for seen in value.get("shapes", ())],
        found_out=told,
    )


def remove(
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Its name or hash.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all models.")] = False,
    store: StoreOption = None,
) -> Sentence:
    """Remove a model from the store, and all that was made of it; loaded models continue.

    \b
    Examples:
      ei model remove faster_rcnn.pb
      ei model remove --all
    """
    if (name is None) is not everything:
        raise InvalidInput("name a model, or give --all")
    opened = _open(store)
    hashes = [each.model for each in _models(opened)] if name is None else [_named(opened, name).model]
    artifacts = [each for one in hashes for each in _artifacts_of(opened, one) if not each.is_published]
    freed = opened.remove(opened.artifacts() if name is None else artifacts)
    what = f"{len(hashes)} models" if name is None else name
    return Sentence(
        f"removed {what}, {format_bytes(freed)}; what a running accelerator has loaded goes when it ends",
        {"models": hashes, "freed_bytes": freed},
    )


def publish(
    name: NameArgument,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="The folder to publish in.", show_default=False)
    ],
    store: StoreOption = None,
) -> Sentence:
    """Copy a model, and what was compiled of it, to a folder for all tenants of a host.

    Start the host with `--published DIR`: its accelerators read the folder and never write it. What is compiled is for
    the threads and the CPU that it was compiled with, so load the model once with those of the accelerator type.

    \b
    Examples:
      ei model publish faster_rcnn.pb --to /srv/models
    """
    opened = _open(store)
    found = _named(opened, name)
    artifacts = _artifacts_of(opened, found.model)
    lacking = {
        sha256 for each in artifacts for sha256 in contents_of(each) if opened.blobs.size(sha256) is None
    }
    if lacking:
        raise InvalidInput(
            f"{found.name} is not whole in {opened.blobs.directory}: load it once, then publish it"
        )
    try:
        opened.publish(artifacts, to)
    except OSError as error:
        raise InvalidInput(f"{to} cannot be written: {error.strerror or error}") from error
    num_compiled = sum(each.kind is Kind.COMPILED for each in artifacts)
    return Sentence(
        f"published {found.name} with {num_compiled} compiled in {to}",
        {"model": found.model, "directory": str(to), "num_compiled": num_compiled},
    )


def _open(directory: Path | None) -> ArtifactStore:
    if directory is not None and not directory.is_dir():
        raise InvalidInput(f"--store {directory} is not a folder")
    return ArtifactStore.at(directory or settings.store_dir())


def _models(store: ArtifactStore) -> list[StoredModel]:
    return [_stored(store, each) for each in store.artifacts() if each.kind is Kind.MODEL]


def _artifacts_of(store: ArtifactStore, content_hash: str) -> list[Artifact]:
    return [each for each in store.artifacts() if each.key.get("model") == content_hash]


def _stored(store: ArtifactStore, found: Artifact) -> StoredModel:
    own = _artifacts_of(store, str(found.key.get("model")))
    sizes = [store.blobs.size(sha256) or 0 for sha256 in {sha for each in own for sha in contents_of(each)}]
    return StoredModel(
        name=str(found.about.get("name")),
        model=str(found.key.get("model")),
        format=str(found.about.get("format")),
        size_bytes=sum(sizes),
        compiled=[_few_words(each) for each in own if each.kind is Kind.COMPILED],
        used_unix=max(each.used_unix for each in own),
        is_published=found.is_published,
    )


def _named(store: ArtifactStore, name: str) -> StoredModel:
    names = {name, zoo.MODELS[name].file_name} if name in zoo.MODELS else {name}
    found = [each for each in _models(store) if each.name in names or (name and each.model.startswith(name))]
    if not found:
        raise ModelNotFound(
            f"no model {name!r} is stored in {store.blobs.directory}; `ei model list` shows those that are"
        )
    if len(found) > 1:
        hashes = ", ".join(each.model[:_SHOWN_HASH] for each in found)
        raise InvalidInput(f"{len(found)} models are called {name!r}; say which by its hash: {hashes}")
    return found[0]


def _variant(each: Artifact) -> CompiledVariant:
    return CompiledVariant(
        engine=str(each.about.get("engine", "")),
        engine_version=str(each.about.get("engine_version", "")),
        precision=str(each.about.get("precision", "")),
        num_threads=int(each.about.get("num_threads", 0)),
        size_bytes=each.size_bytes,
        compile_seconds=float(each.about.get("compile_seconds", 0.0)),
        made_unix=each.made_unix,
        used_unix=each.used_unix,
    )


def _few_words(each: Artifact) -> str:
    threads = each.about.get("num_threads")
    return f"{each.about.get('engine')} {each.about.get('precision')} {threads} thread{'' if threads == 1 else 's'}"


def _day(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))
