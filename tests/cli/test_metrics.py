"""/metrics and /health: the text format, the judgement, and a server that gives nothing else."""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import random
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from streamdsl import Config, ConfigError, Topology, col, files, memory
from streamdsl.runtime import metrics_server, serving
from streamdsl.runtime.exposition import FAMILIES, exposition
from streamdsl.runtime.health import Health
from streamdsl.runtime.metrics import histogram
from streamdsl.runtime.serving import MetricsServer

OPERATORS = {
    "late-ones": {"late": 2, "late_refusals": 3},
    "out": {"written": 9},
    "mine": {"emitted": 4, "sent": 6, "my figure": 1.5, "text": "x"},
}
TASK = {
    "id": "0.0", "name": "in → out", "processed": 10, "batches": 2, "busy_ms": 1500, "blocked": 3, "starved": 4, "no_room": 5,
    "ended": False,
    "watermark": 900_000, "idle": False, "rejected": 1, "splits": {"in-0": 7, "in-1": 3}, "lag": {"in-0": 5, "in-1": None},
    "uncommitted": {"in-0": 0},
    "operators": OPERATORS,
}  # fmt: skip
METRICS: dict[str, Any] = {
    "job": "job",
    "tasks": [TASK],
    "operators": {},
    "checkpoints": {"completed": 2, "failed": 1, "last_id": 8, "last_duration_ms": 20, "last_bytes": 4096, "longest_ms": 30,
                    "interval_ms": 1000, "timeout_ms": 10_000},
    "latency_ms": {"p50": 2.0, "p95": None, "p99": 8.0},
    "latency": {"buckets": {0.001: 4, 0.01: 3, None: 2}, "sum_s": 0.5},
    "sinks": {"out": 9},
    "state": {"bytes": 100, "keys": 5, "cold_keys": 1, "evicted": 2, "reads": 3},
    "phase": "running",
}  # fmt: skip

ORDER = ("job", "task", "name", "split", "operator", "figure")
LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"')
LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')


def samples(text: str) -> dict[str, float]:
    """Parse the text as Prometheus would; each family is declared before its samples, and together."""
    found: dict[str, float] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family and line.split()[3] in ("counter", "gauge", "histogram")
        else:
            match = LINE.fullmatch(line)
            assert match and re.fullmatch(f"{family}(_bucket|_count|_sum)?", match[1]), line
            labels = sorted(LABEL.findall(match[2] or ""), key=lambda label: (*ORDER, label[0]).index(label[0]))
            inside = ",".join(f'{label}="{value}"' for label, value in labels)
            name = match[1] + (f"{{{inside}}}" if labels else "")
            assert name not in found
            found[name] = float(match[3])
    return found


def text_of(metrics: dict[str, Any]) -> str:
    return exposition(metrics, healthy=True, checkpoint_age_s=2.5, now_ms=1_000_000)


def test_every_figure_is_there_once_under_its_name():
    found = samples(text_of(METRICS))
    job = 'job="job"'
    task = f'{job},task="0.0",name="in → out"'
    assert found[f"streamdsl_task_records_total{{{task}}}"] == 10
    assert found[f"streamdsl_task_busy_seconds_total{{{task}}}"] == 1.5
    assert found[f"streamdsl_task_blocked_total{{{task}}}"] == 3 and found[f"streamdsl_task_starved_total{{{task}}}"] == 4
    assert found[f"streamdsl_task_no_room_total{{{task}}}"] == 5
    assert found[f"streamdsl_watermark_lag_seconds{{{task}}}"] == 100
    assert found[f"streamdsl_source_rejected_total{{{task}}}"] == 1
    assert found[f'streamdsl_source_records_total{{{job},task="0.0",split="in-0"}}'] == 7
    assert found[f'streamdsl_source_lag_records{{{job},task="0.0",split="in-0"}}'] == 5
    assert f'streamdsl_source_lag_records{{{job},task="0.0",split="in-1"}}' not in found  # unknown is not zero
    assert found[f'streamdsl_operator_late_total{{{job},task="0.0",operator="late-ones"}}'] == 2
    assert found[f'streamdsl_sink_records_total{{{job},task="0.0",operator="out"}}'] == 9
    assert found[f'streamdsl_operator_emitted_total{{{job},task="0.0",operator="mine"}}'] == 10
    assert found[f'streamdsl_operator_figure{{{job},task="0.0",operator="mine",figure="my figure"}}'] == 1.5
    assert found[f'streamdsl_checkpoints_total{{{job},result="failed"}}'] == 1
    assert found[f"streamdsl_checkpoint_age_seconds{{{job}}}"] == 2.5
    assert found[f"streamdsl_checkpoint_duration_seconds{{{job}}}"] == 0.02 and found[f"streamdsl_checkpoint_size_bytes{{{job}}}"] == 4096
    below = [found[f'streamdsl_latency_seconds_bucket{{{job},le="{bound}"}}'] for bound in ("0.001", "0.01", "+Inf")]
    assert below == [4, 7, 9]
    assert found[f"streamdsl_latency_seconds_count{{{job}}}"] == 9 and found[f"streamdsl_latency_seconds_sum{{{job}}}"] == 0.5
    assert found[f"streamdsl_state_bytes{{{job}}}"] == 100 and found[f"streamdsl_healthy{{{job}}}"] == 1
    assert found[f'streamdsl_phase{{{job},phase="running"}}'] == 1 and found[f'streamdsl_phase{{{job},phase="ended"}}'] == 0
    assert found["process_resident_memory_bytes"] > 1 << 20 and found["process_cpu_seconds_total"] > 0


def test_the_histogram_of_latency_has_every_row_once():
    buckets = {ns: n + 1 for n, ns in enumerate([16, 500_000, 530_000, 900_000, 4_900_000, 9_000_000_000, 90_000_000_000])}
    found = histogram(buckets)
    assert sum(found["buckets"].values()) == sum(buckets.values())
    assert found["buckets"][0.0005] == 1 + 2 + 3 and found["buckets"][0.001] == 4 and found["buckets"][None] == 7
    assert found["sum_s"] == pytest.approx(sum(ns * rows for ns, rows in buckets.items()) / 1e9)


def test_names_cannot_break_the_format():
    metrics = copy.deepcopy(METRICS)
    hostile = 'a"b\\c\nd{},= 1'
    metrics["job"] = metrics["tasks"][0]["name"] = hostile
    metrics["tasks"][0]["splits"] = {hostile: 1}
    metrics["tasks"][0]["operators"] = {hostile: {hostile: 1, "late": 2}}
    found = samples(text_of(metrics))
    assert len(found) > 20


def test_an_ended_task_has_no_watermark_lag_and_no_checkpoint_has_no_figures():
    metrics = copy.deepcopy(METRICS)
    metrics["tasks"][0]["watermark"] = (1 << 63) - 1
    metrics["checkpoints"] |= {"last_id": None, "last_duration_ms": None, "last_bytes": None}
    found = samples(text_of(metrics))
    assert not any(name.startswith(("streamdsl_watermark_lag", "streamdsl_checkpoint_size", "streamdsl_checkpoint_last")) for name in found)


def test_every_family_is_a_metric_of_some_run():
    """A name that nothing ever shows would stand on boards as an empty panel."""
    metrics = copy.deepcopy(METRICS)
    metrics["tasks"][0]["operators"]["all"] = dict.fromkeys(
        [
            "filtered",
            "null_keys",
            "errors",
            "dead_letters",
            "timers_fired",
            "windows_closed",
            "open_windows",
            "keys",
            "waiting",
            "in_flight",
        ],
        1,
    )
    shown = {line.split()[2] for line in text_of(metrics).splitlines() if line.startswith("# TYPE")}
    assert shown == set(FAMILIES)


# ---------------------------------------------------------------------------------------------------- health


class Watched:
    """A run with figures that the test moves."""

    def __init__(self) -> None:
        self.figures = copy.deepcopy(METRICS)
        self.error: Exception | None = None
        self.ended = self.finished = False

    def wait(self, timeout: float | None = None) -> bool:
        if self.error is not None:
            raise self.error
        return self.ended

    def metrics(self) -> dict[str, Any]:
        return copy.deepcopy(self.figures)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watched():
    run, clock = Watched(), Clock()
    return run, clock, Health(run, stalled_after_s=30, clock=clock)


def looked(health: Health, clock: Clock, seconds: float = 0.0) -> list[str]:
    clock.now += seconds
    health.look()
    return list(health.problems)


def test_a_run_that_goes_on_is_healthy(watched):
    run, clock, health = watched
    for step in range(200):
        run.figures["checkpoints"]["last_id"] = step
        run.figures["tasks"][0]["splits"]["in-0"] += 1
        assert looked(health, clock, 5) == []
    assert health.report() == {
        "healthy": True,
        "status": "running",
        "problems": [],
        "job": "job",
        "checkpoint": {"last_id": 199, "age_s": 0.0},
    }


def test_no_checkpoint_for_three_intervals_and_a_timeout_is_unhealthy(watched):
    run, clock, health = watched
    run.figures["tasks"][0]["lag"] = {}
    assert looked(health, clock) == []
    assert looked(health, clock, 13) == []
    assert looked(health, clock, 0.1) == ["no checkpoint has completed for 13 s, 13 s are allowed"]
    assert health.status == "unhealthy" and not health.report()["healthy"]
    run.figures["checkpoints"]["last_id"] = 9
    assert looked(health, clock) == []


def test_a_run_that_never_has_a_checkpoint_is_unhealthy(watched):
    run, clock, health = watched
    run.figures["tasks"][0]["lag"] = {}
    run.figures["checkpoints"]["last_id"] = None
    assert looked(health, clock, 13) == [] and looked(health, clock, 1) != []


def test_a_restart_that_counts_checkpoints_anew_is_no_lack_of_them(watched):
    run, clock, health = watched
    looked(health, clock)
    run.figures["checkpoints"] |= {"completed": 0, "last_id": None}
    run.figures["tasks"][0]["lag"] = {}
    assert looked(health, clock, 10) == []
    run.figures["checkpoints"] |= {"completed": 1, "last_id": 9}
    assert looked(health, clock, 10) == []


def stalled(run, health, clock, seconds, step=1.0):
    """Look every second while checkpoints go on; return the problems at the end."""
    for _ in range(int(seconds / step)):
        run.figures["checkpoints"]["last_id"] += 1
        looked(health, clock, step)
    return list(health.problems)


def test_a_partition_with_lag_that_stands_still_is_unhealthy(watched):
    run, clock, health = watched
    assert stalled(run, health, clock, 30) == []
    assert stalled(run, health, clock, 1) == ["partition in-0 has 5 records waiting and has made no progress for 30 s"]
    run.figures["tasks"][0]["splits"]["in-0"] += 1
    assert stalled(run, health, clock, 1) == []


@pytest.mark.parametrize("lag", [0, None])
def test_a_partition_where_nothing_is_known_to_wait_is_healthy(watched, lag):
    run, clock, health = watched
    run.figures["tasks"][0]["lag"] = {"in-0": lag}
    assert stalled(run, health, clock, 100) == []


def test_a_partition_that_has_caught_up_begins_anew(watched):
    run, clock, health = watched
    stalled(run, health, clock, 29)
    run.figures["tasks"][0]["lag"]["in-0"] = 0
    stalled(run, health, clock, 1)
    run.figures["tasks"][0]["lag"]["in-0"] = 5
    assert stalled(run, health, clock, 29) == []


def test_a_failed_run_is_unhealthy_and_does_not_tell_the_record(watched):
    run, clock, health = watched
    run.error = ValueError("the record {canary}")
    assert looked(health, clock) == ["the run has failed with ValueError: see its log"]
    assert health.status == "failed" and "canary" not in json.dumps(health.report())


@pytest.mark.parametrize(("finished", "status"), [(True, "finished"), (False, "stopped")])
def test_a_run_that_ended_as_it_should_is_healthy(watched, finished, status):
    run, clock, health = watched
    run.ended, run.finished = True, finished
    assert looked(health, clock, 1e6) == [] and health.status == status


# ---------------------------------------------------------------------------------------------------- the server


@pytest.fixture
def server():
    with metrics_server(Watched()) as serving:
        yield serving


def get(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    host, port = server.address.removeprefix("http://").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_real_run_is_served(tmp_path):
    rows = [{"k": "a", "v": i} for i in range(100)]
    topology = Topology("served")
    kept = topology.stream(memory("in", rows=rows), name="in").filter(col("v") >= 40)
    kept.to(memory("out"), name="out")
    kept.key_by("v").count().to(memory("each"), name="each")
    run = topology.start(Config())
    run.wait()
    with metrics_server(run) as server:
        found = samples(get(server, "/metrics")[2].decode())
        assert found['streamdsl_checkpoint_size_bytes{job="served"}'] > 60
        assert found['streamdsl_sink_records_total{job="served",task="0.0",operator="out"}'] == 60
        status, _, body = get(server, "/health")
    assert status == 200 and json.loads(body)["status"] == "finished"


def test_a_real_failure_turns_health_red(tmp_path):
    (tmp_path / "in.csv").write_text("k,v\na,canary\n")
    topology = Topology("failing")
    topology.stream(files(tmp_path / "in.csv", schema={"k": str, "v": int}), name="in").to(memory("out"), name="out")
    run = topology.start(Config())
    with pytest.raises(Exception, match="a record cannot be read"):
        run.wait()
    with metrics_server(run) as server:
        status, _, body = get(server, "/health")
        assert status == 503 and b"canary" not in body + get(server, "/metrics")[2]


def test_figures_that_cannot_be_read_turn_health_red_and_green_again():
    run = Watched()
    figures = run.metrics

    def broken():
        raise RuntimeError("canary")

    run.metrics = broken
    with metrics_server(run) as server:
        status, _, body = get(server, "/health")
        assert status == 503 and b"the figures cannot be read: RuntimeError" in body and b"canary" not in body
        assert get(server, "/metrics")[0] == 503
        run.metrics = figures
        assert get(server, "/health")[0] == get(server, "/metrics")[0] == 200


def test_the_server_is_seen_from_here_alone_and_says_little(server):
    assert server.address.startswith("http://127.0.0.1:")
    status, headers, _ = get(server, "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "access-control-allow-origin" not in headers and headers["server"] == "streamdsl"
    assert get(server, "/health?verbose=1")[0] == 200
    head = get(server, "/metrics", "HEAD")
    assert head[0] == 200 and head[2] == b""


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/../etc/passwd", "//etc/passwd", "/health/../metrics", "/%2e%2e/metrics", "http://a/metrics"]
)
def test_there_is_nothing_else(server, path):
    status, _, body = get(server, path)
    assert status == 404 and body == b"there are /metrics, /health and /tables\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_it_only_reads(server, method):
    assert get(server, "/metrics", method)[0] == 501


def test_what_strangers_send_does_no_harm(server):
    """Random bytes, and halves of requests that never end."""
    chance = random.Random(7)
    host, port = server.address.removeprefix("http://").rsplit(":", 1)
    words = [b"GET ", b"/metrics", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"\x00\xff", b"A" * 70_000, b"Content-Length: -1", b": ", b"../"]
    kept = []
    for number in range(300):
        connection = socket.create_connection((host, int(port)), timeout=30)
        try:
            connection.sendall(b"".join(chance.choices(words, k=chance.randrange(6))))
        except OSError:
            pass
        if number % 100 == 0:
            kept.append(connection)
        else:
            connection.close()
    for connection in kept:
        connection.close()
    assert get(server, "/metrics")[0] == 200
    assert threading.active_count() < 30


def connected(server: MetricsServer) -> socket.socket:
    host, port = server.address.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


def test_slow_clients_do_not_silence_it(server):
    """Thirty clients that send a byte of their request now and then: whoever asks meanwhile is answered at once."""
    slow = [connected(server) for _ in range(30)]
    for connection in slow:
        connection.sendall(b"GET /metr")
    began = time.monotonic()
    assert all(get(server, path)[0] == 200 for path in ("/metrics", "/health") for _ in range(5))
    assert time.monotonic() - began < 3
    assert threading.active_count() < 30
    for connection in slow:
        connection.close()


def test_a_request_has_a_deadline_however_often_it_sends(server, monkeypatch):
    monkeypatch.setattr(serving, "_DEADLINE_S", 1.0)
    with connected(server) as trickling:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 20:
                trickling.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def asked_as(server: MetricsServer, host: str) -> int:
    with connected(server) as connection:
        connection.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:9100", "localhost", "LOCALHOST:1", "[::1]:9100", "10.2.3.4", "worker:9100", "worker.ns.svc.local", "a.internal."),
        *("[fe80::1%25eth0]:9100", "[::ffff:10.0.0.1]", "my_worker"),
    ],
)
def test_who_asks_for_an_address_or_a_private_name_is_answered(server, host):
    assert asked_as(server, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("rebound.example.com", "evil.example:9100", "127.0.0.1.evil.example", "localhost.evil.example", "[::1].evil.example"),
        *("localhost:80.evil.example", "localhost@evil.example", "evil.example\\.local", "::1", ":80", "[::1", "localhost:80:80", "."),
    ],
)
def test_a_page_whose_name_was_bound_anew_is_refused(server, host):
    assert asked_as(server, host) in (403, 400)


def test_a_public_name_can_be_allowed():
    with metrics_server(Watched(), allowed_hosts=["Metrics.Example.com"]) as server:
        assert asked_as(server, "metrics.example.com:9100") == 200
        assert asked_as(server, "other.example.com") == 403
    with metrics_server(Watched(), allowed_hosts=["metrics.example.com.:9100"]) as server:
        assert asked_as(server, "metrics.example.com") == 200
    with pytest.raises(ConfigError, match="collection of names"):
        metrics_server(Watched(), allowed_hosts="metrics.example.com")
    with pytest.raises(ConfigError, match="is no name of a host"):
        metrics_server(Watched(), allowed_hosts=["http://metrics.example.com/"])


REQUESTS = {
    b"GET /health HTTP/1.0\r\n\r\n": 200,
    b"GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n": 403,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n": 400,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n": 200,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n": 431,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 200 + b"\r\n": 431,
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n": 414,
    b"GET /health HTTP/1.1\r\nHost\r\n\r\n": 200,
}


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_odd_requests_are_answered_or_refused_and_end(server, request_):
    """Whoever asks in an old way, at length or for a connection that stays: one answer, and the connection is closed."""
    with connected(server) as connection:
        connection.sendall(request_)
        answer = connection.makefile("rb").read()
    assert int(answer.split()[1]) == REQUESTS[request_], answer[:200]


def test_who_stays_without_asking_again_holds_nobody_up(server):
    idle = [connected(server) for _ in range(30)]
    for connection in idle:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
    for connection in idle:
        with contextlib.suppress(OSError):
            connection.makefile("rb").read()
    assert get(server, "/health")[0] == 200 and threading.active_count() < 30
    for connection in idle:
        connection.close()


def test_what_is_no_address_is_an_error_of_the_settings():
    with pytest.raises(ConfigError, match=r"cannot be served at 192\.0\.2\.1"):
        metrics_server(Watched(), host="192.0.2.1")


def test_another_address_is_warned_of(caplog):
    with metrics_server(Watched(), host="0.0.0.0"):
        pass
    assert "everybody who can reach it can read them" in caplog.text


def test_nothing_stays_behind(server):
    before = {thread.name for thread in threading.enumerate()}
    assert {"streamdsl-metrics", "streamdsl-health"} <= before
    server.close()
    assert not {"streamdsl-metrics", "streamdsl-health"} & {thread.name for thread in threading.enumerate() if thread.is_alive()}
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{server.address}/metrics", timeout=5)
