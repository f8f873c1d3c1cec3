"""The worker, in a process of its own: banner, signals, exit codes, and going on where it was."""

from __future__ import annotations

import json
import re
import signal
import sys
import textwrap
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from .jobs import command, worker, write_job

FAST = ("--checkpoint-interval", "50ms")


def counted(place: Path) -> list[dict]:
    return [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("target", ["counting:topology", "counting", "counting.py", "counting.py:other"])
def test_a_topology_is_named_by_module_or_file(target, tmp_path):
    write_job(tmp_path, rows=100, rate=1e6)
    ran = command("-A", target, "worker", place=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "" and "finished with checkpoint" in ran.stderr
    assert sum(row["count"] for row in counted(tmp_path)) == 100


def test_a_file_is_found_from_any_directory(tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "elsewhere").mkdir()
    job = write_job(tmp_path / "job", rows=100, rate=1e6)
    ran = command("-A", f"{job}:topology", "worker", place=tmp_path, cwd=tmp_path / "elsewhere")
    assert ran.returncode == 0, ran.stderr


def test_the_banner_says_what_runs(tmp_path):
    write_job(tmp_path, rows=100, rate=1e6)
    ran = command("-A", "counting", "worker", "-c", 2, "--broker", "a:9092", "-X", "linger.ms=5", place=tmp_path)
    lines = dict(line.strip().split(maxsplit=1) for line in ran.stderr.splitlines() if line.startswith("  "))
    assert lines["topology"] == "counting"
    assert lines["reads"].startswith("in: ") and lines["writes"].startswith("out: ") and "exactly once" in lines["writes"]
    assert lines["state"].startswith(f"{tmp_path}/state-home/streamdsl/counting ")
    assert lines["checkpoints"] == "every 5s" and lines["parallelism"] == "2" and lines["kafka"] == "linger.ms=5"
    assert "metrics" not in lines


def test_a_finished_run_says_so_and_does_nothing(tmp_path):
    write_job(tmp_path, rows=100, rate=1e6)
    assert command("-A", "counting", "worker", place=tmp_path).returncode == 0
    before = (tmp_path / "out.jsonl").read_bytes()
    again = command("-A", "counting", "worker", place=tmp_path)
    assert again.returncode == 0 and "had finished: nothing to do" in again.stderr
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_a_last_checkpoint_and_the_next_worker_goes_on(number, tmp_path):
    write_job(tmp_path, rows=300)
    with worker("-A", "counting", "worker", *FAST, place=tmp_path) as running:
        running.until("stop ")
        running.process.send_signal(number)
        code, said = running.ended()
    assert code == 0 and "stopped with checkpoint" in said
    assert sum(row["count"] for row in counted(tmp_path)) < 300
    (tmp_path / "rate").write_text("1e6")
    ran = command("-A", "counting", "worker", place=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert sum(row["count"] for row in counted(tmp_path)) == 300
    assert len({(row["k"], row["window_start"]) for row in counted(tmp_path)}) == len(counted(tmp_path))


STUCK = """
    import time
    from counting import topology as counting
    from streamdsl import Topology, memory
    from streamdsl.connectors.base import Sink, SinkWriter

    class Stuck(Sink, SinkWriter):
        name = "stuck"
        def open_writer(self, schema, keys, task, tasks, state): return self
        def write(self, rows, timestamps): pass
        def snapshot(self, checkpoint_id): time.sleep(3600)

    topology = Topology("stuck")
    topology.stream(counting.sources()["in"], timestamp="at", name="in").to(Stuck())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_leaves_at_once(number, code, tmp_path):
    write_job(tmp_path)
    (tmp_path / "stuck.py").write_text(textwrap.dedent(STUCK))
    with worker("-A", "stuck", "worker", place=tmp_path) as running:
        running.until("stop ")
        running.process.send_signal(number)
        running.until("stopping: a last checkpoint is taken; once more leaves at once")
        running.process.send_signal(number)
        found, said = running.ended()
    assert found == code and "left at once" in said and "Traceback" not in said


def test_drain_closes_the_windows(tmp_path):
    write_job(tmp_path)
    with worker("-A", "counting", "worker", "--drain", "--metrics-port", 0, *FAST, place=tmp_path) as running:
        address = running.until("metrics ").split()[1]
        while read(address.removesuffix(",")) < 25:
            time.sleep(0.05)
        running.process.send_signal(signal.SIGTERM)
        code, said = running.ended()
    assert code == 0 and "finished with checkpoint" in said
    found = Counter({(row["k"], row["window_start"]): row["count"] for row in counted(tmp_path)})
    # The last windows are cut short, and there: what is written are the counts of the first n records, all of them.
    records = range(found.total())
    starts = sorted({start for _, start in found})
    assert len(records) >= 25 and found == Counter((f"k{i % 3}", starts[i // 10]) for i in records)


def read(address: str) -> int:
    """Return how many records a worker has read."""
    with urllib.request.urlopen(address, timeout=30) as page:
        found = re.search(rb"^streamdsl_source_records_total{.*} (\d+)(?:\.0)?$", page.read(), re.M)
    return int(found[1]) if found else 0


def test_a_second_worker_on_the_job_is_refused_by_name(tmp_path):
    write_job(tmp_path)
    with worker("-A", "counting", "worker", *FAST, place=tmp_path) as running:
        running.until("stop ")
        second = command("-A", "counting", "worker", place=tmp_path)
        assert second.returncode == 1
        assert f"is in use by process {running.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr


def test_metrics_are_served_on_loopback_when_asked_for(tmp_path):
    write_job(tmp_path)
    with worker("-A", "counting", "worker", "--metrics-port", 0, *FAST, place=tmp_path) as running:
        address = running.until("metrics ").split()[1].removesuffix("/metrics,")
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/metrics", timeout=30) as page:
            assert b'streamdsl_source_records_total{job="counting"' in page.read()
        with urllib.request.urlopen(f"{address}/health", timeout=30) as page:
            assert json.load(page)["healthy"] is True


def test_a_port_in_use_is_an_error_and_nothing_is_left_running(tmp_path):
    write_job(tmp_path)
    with worker("-A", "counting", "worker", "--metrics-port", 0, place=tmp_path) as running:
        port = running.until("metrics ").split("/metrics")[0].rpartition(":")[2]
        second = command("-A", "counting", "worker", "--metrics-port", port, "--state-dir", "other", place=tmp_path)
    assert second.returncode == 2 and f"cannot be served at 127.0.0.1:{port}" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["worker"], 2, "-A names it"),
        (["-A", "no_such_module", "worker"], 2, "there is no module 'no_such_module'"),
        (["-A", "no/such.py", "worker"], 2, "there is no file"),
        (["-A", "counting:topologie", "worker"], 2, "has no attribute 'topologie'"),
        (["-A", "counting:number", "worker"], 2, "is not a Topology, it is of type int"),
        (["-A", "counting:", "worker"], 2, "names no topology"),
        (["-A", "counting", "worker", "-l", "LOUD"], 2, "loglevel='LOUD' is unknown"),
        (["-A", "counting", "worker", "-c", "0"], 2, "parallelism=0 is out of range"),
        (["-A", "counting", "worker", "--config", "none.toml"], 2, "cannot be read"),
        (["-A", "counting", "worker", "-X", "sasl.password=canary"], 2, "others can read a command line"),
        (["-A", "counting", "worker", "--no-such-option"], 2, "No such option"),
        (["no-such-command"], 2, "No such command"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_without_a_traceback(arguments, code, said, tmp_path, here):
    write_job(tmp_path, rows=10)
    found, _, err = here(*arguments)
    assert found == code and said in err
    assert "Traceback" not in err and "canary" not in err


@pytest.mark.parametrize(("level", "traceback"), [("INFO", False), ("DEBUG", True)])
def test_a_failed_run_shows_its_error_and_its_traceback_to_who_asks(level, traceback, tmp_path, here):
    write_job(tmp_path, rows=10, rate=1e6)
    with (tmp_path / "in.csv").open("a") as file:
        file.write("k,5,no time\n")
    code, _, err = here("-A", "counting", "worker", "-l", level)
    assert code == 1
    assert "error: a record cannot be read" in err and ("Traceback" in err) == traceback


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library' ("),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero ("),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_line(source, said, tmp_path, here):
    (tmp_path / "broken.py").write_text(source)
    for target in ("broken", "broken.py"):
        code, _, err = here("-A", target, "worker")
        assert code == 2 and said in err and "broken.py" in err and "Traceback" not in err
        sys.modules.pop("broken", None)


def test_a_file_may_be_called_as_a_library_is(tmp_path):
    job = write_job(tmp_path, rows=10, rate=1e6)
    job.rename(tmp_path / "json.py")
    ran = command("-A", "./json.py", "explain", place=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "Topology('counting')" in ran.stdout
