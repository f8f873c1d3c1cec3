"""Figures and spans for OpenTelemetry: what a collector gets."""

from __future__ import annotations

import http.server
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streamdsl import Config, ConfigError, Topology, count, files
from streamdsl.runtime import send_telemetry
from streamdsl.runtime.exposition import FAMILIES

ROWS = 100


class Collector(http.server.ThreadingHTTPServer):
    """Keeps what is sent to it; refuses everything while `away`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.away = False
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(dict(self.headers))
        if self.server.away:
            self.send_response(400)
        else:
            if self.path == "/v1/traces":
                for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.server.spans += [span for scope in part.scope_spans for span in scope.spans]
            else:
                for part in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    self.server.metrics |= {metric.name: metric for scope in part.scope_metrics for metric in scope.metrics}
                    self.server.metrics["resource"] = {one.key: one.value.string_value for one in part.resource.attributes}
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def counted(directory: Path, rate: float | None = None) -> Topology:
    path = directory / "rows.csv"
    path.write_text("k,i\n" + "".join(f"{'ab'[i % 2]},{i}\n" for i in range(ROWS)))
    topology = Topology("counts")
    topology.stream(files(str(path), {"k": str, "i": int}, rate=rate), name="rows").key_by("k").aggregate(n=count(), name="counted").to(
        files(str(directory / "out.jsonl")), name="out"
    )
    return topology


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_collector_gets_figures_and_a_span_of_each_checkpoint(collector: Collector, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hidden")
    config = Config(state_dir=tmp_path / "state", checkpoint_interval="50ms")
    with counted(tmp_path, rate=500).start(config) as run, send_telemetry(run, endpoint=collector.url):
        run.wait(30)
    figures = run.metrics()
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"start", "checkpoint"}
    ids = [one.value.int_value for span in collector.spans for one in span.attributes if one.key == "streamdsl.checkpoint.id"]
    assert ids == [one["id"] for one in figures["checkpoints"]["history"]]
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano > 1_600_000_000 * 10**9 for span in collector.spans)
    found = collector.metrics
    assert found["resource"]["service.name"] == "counts"
    assert set(found) - {"resource"} <= {name.removesuffix("_total") for name in FAMILIES}
    (taken,) = (point for point in found["streamdsl_sink_records"].sum.data_points)
    assert taken.as_double == figures["sinks"]["out"] == ROWS and found["streamdsl_sink_records"].sum.is_monotonic
    (latency,) = found["streamdsl_latency_seconds"].histogram.data_points
    assert sum(latency.bucket_counts) == latency.count > 0 and len(latency.bucket_counts) == len(latency.explicit_bounds) + 1
    assert all(one["authorization"] == "Bearer hidden" for one in collector.asked)


def test_a_restore_is_a_span_within_the_start(collector: Collector, tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path / "state")
    run = counted(tmp_path, rate=200).start(config)
    wait_for(lambda: run.metrics()["sinks"]["out"])
    run.stop()
    run.wait(30)
    with counted(tmp_path).start(config) as run, send_telemetry(run, endpoint=collector.url):
        run.wait(30)
    spans = {span.name: span for span in collector.spans}
    assert spans["restore"].parent_span_id == spans["start"].span_id
    assert [one.value.int_value for one in spans["restore"].attributes] == [1]


def test_a_collector_that_is_away_is_told_of_once_and_gets_its_spans_later(collector: Collector, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "streamdsl")
    collector.away = True
    config, url = Config(state_dir=tmp_path / "state", checkpoint_interval="50ms"), collector.url.replace("127", "user:hidden@127")
    with counted(tmp_path, rate=40).start(config) as run, send_telemetry(run, endpoint=url, every="1ms"):
        wait_for(lambda: len(collector.asked) > 1)
        collector.away = False
        run.wait(30)
    told = [record.message for record in caplog.records if "OpenTelemetry" in record.message]
    assert len(told) == 2 and "do not reach" in told[0] and "again" in told[1]
    assert "hidden" not in caplog.text
    ids = [one.value.int_value for span in collector.spans for one in span.attributes if one.key == "streamdsl.checkpoint.id"]
    assert ids == [one["id"] for one in run.metrics()["checkpoints"]["history"]]


def test_a_checkpoint_that_failed_is_an_error(collector: Collector, tmp_path: Path) -> None:
    run = counted(tmp_path).start(Config())
    run.wait(30)
    figures = run.metrics()
    figures["checkpoints"]["history"] = [{"id": 3, "at_ms": 2_000, "duration_ms": 500, "bytes": 0, "error": "the disk is full"}]
    with send_telemetry(_Finished(figures), endpoint=collector.url):
        pass
    (span,) = (span for span in collector.spans if span.name == "checkpoint")
    assert (span.status.code, span.status.message) == (2, "the disk is full")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_500 * 10**6, 2_000 * 10**6)


class _Finished:
    finished = True

    def __init__(self, figures: dict[str, Any]) -> None:
        self.figures = figures

    def metrics(self) -> dict[str, Any]:
        return self.figures

    def wait(self, timeout: float | None = None) -> bool:
        return True


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://localhost", "http://"])
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="no address of a collector"):
        send_telemetry(_Finished({}), endpoint=endpoint)
