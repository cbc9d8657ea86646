"""Logs as JSON lines, and OpenTelemetry's tracer where its own variables ask for one: the same in every process.

`OTEL_TRACES_EXPORTER=otlp` (or an `OTEL_EXPORTER_OTLP_ENDPOINT`) switches traces on; they need the extra `otel`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

from elastic_inference.errors import EngineNotAvailable

MAX_FIELD_CHARACTERS = 2000  # of one value of a line; a request's path may have 64 KB
MAX_LINES_PER_SECOND = 50  # of one statement of the program, after which it says only how many were left out


class JsonFormatter(logging.Formatter):
    """One JSON object a line; whatever is given as `extra` becomes a field."""

    converter = time.gmtime  # type: ignore[assignment]
    # `color_message` is uvicorn's, for terminals.
    _LEFT_OUT = frozenset(vars(logging.makeLogRecord({}))) | {
        "message",
        "asctime",
        "taskName",
        "color_message",
    }

    def format(self, record: logging.LogRecord) -> str:
        value: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        value |= {k: v for k, v in vars(record).items() if k not in self._LEFT_OUT}
        value = {k: _cut(v) for k, v in value.items()}
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)[-4 * MAX_FIELD_CHARACTERS :]
        return json.dumps(value, default=str)


def _cut(value: object) -> object:
    if not isinstance(value, str) or len(value) <= MAX_FIELD_CHARACTERS:
        return value
    return f"{value[:MAX_FIELD_CHARACTERS]}... ({len(value)} characters)"


class RateLimit(logging.Filter):
    """Lets each statement of the program write so many lines a second, and says how many it left out.

    Without it one connection that is refused again and again wrote 13 MB of log a second.
    """

    def __init__(self, max_per_second: int = MAX_LINES_PER_SECOND) -> None:
        super().__init__()
        self._max_per_second = max_per_second
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}  # by statement: the second, and lines in it

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        statement, second = (record.pathname, record.lineno), int(record.created)
        last, count = self._counts.get(statement, (second, 0))
        if last != second:
            if count > self._max_per_second:
                record.num_left_out = count - self._max_per_second
            count = 0
        self._counts[statement] = (second, count + 1)
        return count < self._max_per_second


def set_up_logging(level: str, filters: Sequence[logging.Filter] = ()) -> None:
    """Write every log record as one JSON object a line to standard error.

    Args:
        level: Lowest level that is written, such as "info".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for one in (RateLimit(), *filters):
        handler.addFilter(one)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def tracer_provider(attributes: dict[str, str]) -> Any:
    """Return a provider that sends spans by OTLP over HTTP, in the background; `shutdown()` sends the last ones.

    Args:
        attributes: Of the resource, such as `service.name`.

    Raises:
        EngineNotAvailable: OpenTelemetry's packages are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise EngineNotAvailable(
            f"OTEL_* variables ask for traces, which need `pip install 'elastic-inference[otel]'`: {error}"
        ) from error
    provider = TracerProvider(resource=Resource.create(attributes))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
