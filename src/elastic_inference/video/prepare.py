"""Choosing the precision for a clip before it is worked on: pictures of the clip itself calibrate and judge."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elastic_inference import settings
from elastic_inference.client.accelerator import Accelerator, Embedded, FromEnvironment
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.placement import from_environment
from elastic_inference.client.shorthand import cache_dir_of
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest


def embedded_to_choose_for(accelerator: Accelerator, load: LoadOptions) -> Embedded | None:
    """Return the accelerator on this machine whose precision is to be measured here; None where none is.

    Accelerators elsewhere take what was chosen where they are.
    """
    if load.precision != "auto":
        return None
    place = from_environment(accelerator) if isinstance(accelerator, FromEnvironment) else accelerator
    return place if isinstance(place, Embedded) else None


@contextmanager
def store_folder(accelerator: Accelerator, load: LoadOptions) -> Iterator[str | Literal[False] | None]:
    """Give the folder of the store, as LoadOptions has it.

    Where nothing is to be kept, what is chosen lies in a folder that ends with the block.
    """
    folder = cache_dir_of(accelerator, load)
    if embedded_to_choose_for(accelerator, load) is None or isinstance(folder, str):
        yield folder
    elif folder is None and settings.store_limit_bytes():
        yield str(settings.store_dir())
    else:
        with tempfile.TemporaryDirectory(prefix="elastic-inference-") as temporary:
            yield temporary


@dataclass(frozen=True)
class Preparation:
    """What is to be chosen for a clip.

    Attributes:
        request: As the predictor will ask for the model, since a choice is found by it.
        folder: Of the store in which the choice is kept and the accelerator will look.
        num_frames: Pictures are taken of the first so many; None: of the whole clip.
        tell: Called with a sentence for each step.
    """

    video: Path
    package: ModelPackage
    request: SignatureRequest
    accelerator: Embedded
    engine: str
    folder: str
    num_frames: int | None = None
    tell: Callable[[str], None] = lambda _: None

    def run(self) -> None:
        """Choose, unless that was done before for this model, these versions and this processor.

        Raises:
            ElasticInferenceError: See `engines.choosing.choose`.
        """
        # Imported here: only who asks for this needs engines beside the client.
        from elastic_inference.engines import choices
        from elastic_inference.engines.base import EngineOptions
        from elastic_inference.engines.choosing import Task, choose
        from elastic_inference.video.photos import SampleSource

        limit_bytes = settings.store_limit_bytes() or None
        with closing(ArtifactStore.at(Path(self.folder), limit_bytes)) as store:
            options = EngineOptions(
                self.engine,
                precision="auto",
                num_threads=self.accelerator.threads,
                store=store,
                allow_unsafe_operations=self.accelerator.allow_unsafe_operations,
            )
            if choices.find(self.package, self.request, options) is not None:
                return
            self.tell(
                f"choosing a precision with pictures of {self.video.name}, once for this model and machine"
            )
            source = SampleSource(self.video, {}, tell=self.tell, num_frames=self.num_frames)
            choose(Task(self.package, self.request, options, source.read, tell=self.tell))
