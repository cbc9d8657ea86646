"""What a predictor says of itself: where it computes, with what, and how long things took. Value objects."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class PredictorReport:
    """What is in force for one predictor.

    Attributes:
        use_ei: Whether an accelerator process computes.
        engine, engine_version, device, precision, num_threads: As the engine tells them.
        transport: "in process", "unix", "tcp", "tls", with " + shared memory" where large inputs go that way.
        address: Of the accelerator, "" in process.
        accelerator_id, accelerator_type: None in process; the type is None for an embedded accelerator.
        limits: What holds the accelerator and by what means; empty where nothing does.
        upload_seconds: Sending the model's files; 0 where they were there already.
        load_seconds: Reading and compiling the model.
        warm_up_seconds: One prediction on made-up values, after loading.
        start_seconds: Starting the embedded accelerator or attaching one.
        source: Where the compiled model comes from, such as "compiled here in 6.2 s" or "from the store, ..."; "" where
            the engine keeps none.
        proof: What comparing the engine with the reference of the model's format came to; "" where the reference
            itself computes.
        batching: Whether requests that wait together run together, in which sizes, or why not; "" in process.
        notes: What a user should know; a sentence each.
    """

    use_ei: bool
    engine: str
    engine_version: str
    device: str
    precision: str
    num_threads: int
    transport: str
    address: str = ""
    accelerator_id: str | None = None
    accelerator_type: str | None = None
    limits: dict[str, str] = field(default_factory=dict)
    start_seconds: float = 0.0
    upload_seconds: float = 0.0
    load_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    source: str = ""
    proof: str = ""
    batching: str = ""
    notes: tuple[str, ...] = ()

    @property
    def total_load_seconds(self) -> float:
        """From the constructor's start to readiness: start, upload, load and warm-up."""
        return self.start_seconds + self.upload_seconds + self.load_seconds + self.warm_up_seconds

    def to_json(self) -> dict[str, Any]:
        """All fields as a JSON object."""
        return asdict(self) | {"total_load_seconds": self.total_load_seconds}

    def summary(self) -> str:
        """One line: engine, device, precision, threads, transport, and where the compiled model comes from."""
        place = f"accelerator {self.accelerator_id}, " if self.accelerator_id else ""
        threads = "1 thread" if self.num_threads == 1 else f"{self.num_threads} threads"
        return (
            f"{self.engine} {self.engine_version} on {self.device}, {self.precision}, {threads}, "
            f"{place}{self.transport}{'; ' if self.source else ''}{self.source}"
        )


@dataclass(frozen=True)
class CallTiming:
    """Where the time of one call went.

    Attributes:
        latency_seconds: From the call to its return.
        queue_seconds: Waiting for the turn on the accelerator.
        service_seconds: The engine's computation.
    """

    latency_seconds: float
    queue_seconds: float
    service_seconds: float

    @property
    def wire_seconds(self) -> float:
        """All the rest: casting, sending, receiving and both sides' own work."""
        return self.latency_seconds - self.queue_seconds - self.service_seconds
