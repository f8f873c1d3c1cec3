"""The figures of a run, its starts, restores and checkpoints, sent to an OpenTelemetry collector (OTLP over HTTP)."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from streamdsl.durations import parse_duration
from streamdsl.errors import ConfigError
from streamdsl.runtime.exposition import families
from streamdsl.runtime.health import Health, Watched

__all__ = ["Telemetry", "send_telemetry"]

_log = logging.getLogger("streamdsl")
_EXPORTERS: Final = logging.getLogger("opentelemetry.exporter")

#: How often the run is looked at: its last checkpoints must not be forgotten by then.
_LOOK_S: Final = 1.0
#: How long one sending may take, repetitions included.
_SEND_S: Final = 5.0
#: So many spans wait at most for a collector that is away.
_KEPT: Final = 1_000
_SCOPE: Final = InstrumentationScope("streamdsl")
_NANOS: Final = 1_000_000


class _Watched(Watched, Protocol):
    """What of a `Run` is sent."""


def send_telemetry(run: _Watched, *, endpoint: str | None = None, every: str | int = "10s") -> Telemetry:
    """Send the figures of a run to an OpenTelemetry collector, and a span for each start, restore and checkpoint.

    The figures are those of ``/metrics``, by the same names; counters without ``_total``. Nothing of a record is among them.

    Parameters
    ----------
    run : Run
    endpoint : str, optional
        Address of the collector, such as ``http://localhost:4318``: ``/v1/metrics`` and ``/v1/traces`` are put behind it.
        Default: what ``OTEL_EXPORTER_OTLP_ENDPOINT`` says. ``OTEL_EXPORTER_OTLP_HEADERS`` has what it asks for besides, a token say.
    every : duration
        How often figures are sent. Spans are sent once they have ended.

    Returns
    -------
    Telemetry
        To be closed at the end, which sends once more; a context manager.

    Raises
    ------
    ConfigError
        The address is no URL.

    Examples
    --------
    ::

        with topology.start(config) as run, send_telemetry(run, endpoint="http://localhost:4318"):
            run.wait()
    """
    given = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    place = urlsplit(given)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ConfigError(f"OpenTelemetry: {_without_secrets(given)!r} is no address of a collector", remedy="write http://HOST:4318")
    return Telemetry(run, given.rstrip("/"), parse_duration(every, "every") / 1000)


class Telemetry:
    """What `send_telemetry` returns."""

    def __init__(self, run: _Watched, endpoint: str, every_s: float) -> None:
        self._run, self._health, self._every_s = run, Health(run), every_s
        self._shown = _without_secrets(endpoint)
        self._closed = threading.Event()
        self._failing = False
        self._known: set[tuple[int, int]] = set()  # checkpoints whose span was sent: number, time of the end
        self._started: int | None = None  # the start whose span was sent, by its time
        self._metrics = OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=_SEND_S)
        self._spans = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_SEND_S)
        name = str(run.metrics()["job"])
        self._resource = Resource.create({"service.name": name, "service.instance.id": f"{socket.gethostname()}:{os.getpid()}"})
        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        self._ended = _Ended()
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("streamdsl")
        # The exporters tell of each failure at length; one line when it begins and one when it ends are enough.
        self._level_of_exporters = _EXPORTERS.level
        _EXPORTERS.setLevel(logging.CRITICAL)
        self._thread = threading.Thread(target=self._send, name="streamdsl-telemetry", daemon=True)
        self._thread.start()

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Send what is there for the last time, `_SEND_S` seconds at most, and stop."""
        self._closed.set()
        self._thread.join(_SEND_S)
        self._metrics.shutdown()
        self._spans.shutdown()  # type: ignore[no-untyped-call]
        self._thread.join(_SEND_S)
        _EXPORTERS.setLevel(self._level_of_exporters)

    def _send(self) -> None:
        due = time.monotonic()
        while True:
            ended = self._closed.wait(_LOOK_S)
            try:
                figures = self._run.metrics()
                self._health.look()
                self._tell(figures)
                sent = self._send_spans()
                if ended or time.monotonic() >= due:
                    due = time.monotonic() + self._every_s
                    sent = self._metrics.export(self._data(figures), timeout_millis=_SEND_S * 1000) is MetricExportResult.SUCCESS and sent
                self._note(sent)
            except Exception as error:  # noqa: BLE001 - the edge of this thread: the run goes on, whatever becomes of its figures
                self._note(False, f"{type(error).__name__}: {error}")
            if ended:
                return

    def _send_spans(self) -> bool:
        waiting = list(self._ended.spans)
        if waiting and self._spans.export(waiting) is not SpanExportResult.SUCCESS:
            return False
        self._ended.spans.clear()
        return True

    def _note(self, sent: bool, why: str = "it does not answer, or refuses them") -> None:
        if sent == self._failing:
            self._failing = not sent
            if sent:
                _log.info("figures reach the OpenTelemetry collector at %s again", self._shown)
            else:
                _log.warning("figures do not reach the OpenTelemetry collector at %s: %s. They are sent anew", self._shown, why)

    # ------------------------------------------------------------------ spans

    def _tell(self, figures: Mapping[str, Any]) -> None:
        """Send spans of what has ended since."""
        start = figures["start"]
        if start["duration_ms"] is not None and start["at_ms"] != self._started:
            self._started = start["at_ms"]
            self._start(start)
        for one in figures["checkpoints"]["history"]:
            known = (one["id"], one["at_ms"])
            if known not in self._known:
                self._known.add(known)
                self._checkpoint(one)
        self._known &= {(one["id"], one["at_ms"]) for one in figures["checkpoints"]["history"]}

    def _start(self, start: Mapping[str, Any]) -> None:
        began = start["at_ms"] * _NANOS
        span = self._tracer.start_span("start", start_time=began)
        if start["restored"] is not None:
            at = start["restore_at_ms"] * _NANOS
            inner = self._tracer.start_span("restore", trace.set_span_in_context(span), start_time=at)
            inner.set_attribute("streamdsl.checkpoint.id", start["restored"])
            inner.end(at + round(start["restore_ms"] * _NANOS))
        span.end(began + round(start["duration_ms"] * _NANOS))

    def _checkpoint(self, one: Mapping[str, Any]) -> None:
        end = one["at_ms"] * _NANOS
        span = self._tracer.start_span("checkpoint", start_time=end - one["duration_ms"] * _NANOS)
        span.set_attributes({"streamdsl.checkpoint.id": one["id"], "streamdsl.checkpoint.size": one["bytes"]})
        if one["error"] is not None:
            span.set_status(trace.StatusCode.ERROR, one["error"])
        span.end(end)

    # ------------------------------------------------------------------ figures

    def _data(self, figures: Mapping[str, Any]) -> MetricsData:
        began, now = figures["start"]["at_ms"] * _NANOS, time.time_ns()
        found = families(figures, healthy=self._health.report()["healthy"], checkpoint_age_s=self._health.checkpoint_age_s)
        made = [Metric(one.name, one.documentation, _unit(one.name), _points(one, began, now)) for one in found]
        return MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(_SCOPE, made, "")], "")])


class _Ended(SpanProcessor):
    """Keeps spans until they are sent: the last ones, where a collector is away for long."""

    def __init__(self) -> None:
        self.spans: deque[ReadableSpan] = deque(maxlen=_KEPT)

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _points(family: Any, began: int, now: int) -> Sum | Gauge | Histogram:
    """Return the samples of a family as OpenTelemetry has them."""
    if family.type == "histogram":
        return _histogram(family, began, now)
    points = [NumberDataPoint(sample.labels, began, now, float(sample.value)) for sample in family.samples]
    if family.type == "counter":
        return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Gauge(points)


def _histogram(family: Any, began: int, now: int) -> Histogram:
    """Return buckets as counts of their own: those of Prometheus hold all that is below."""
    below = {sample.labels["le"]: int(sample.value) for sample in family.samples if sample.name.endswith("_bucket")}
    rest = {sample.name.rpartition("_")[2]: sample for sample in family.samples if not sample.name.endswith("_bucket")}
    counts = [after - before for before, after in zip([0, *below.values()], below.values(), strict=False)]
    point = HistogramDataPoint(
        attributes=rest["count"].labels,
        start_time_unix_nano=began,
        time_unix_nano=now,
        count=int(rest["count"].value),
        sum=float(rest["sum"].value),
        bucket_counts=counts,
        explicit_bounds=[float(bound) for bound in below if bound != "+Inf"],
        min=math.inf,
        max=-math.inf,
    )
    return Histogram([point], AggregationTemporality.CUMULATIVE)


def _unit(name: str) -> str:
    return "s" if "_seconds" in name else "By" if "_bytes" in name else "1"


def _without_secrets(endpoint: str) -> str:
    place = urlsplit(endpoint)
    return endpoint if place.username is None and place.password is None else endpoint.replace(place.netloc.rpartition("@")[0], "…", 1)
