"""What a worker shows: who runs, rows as they are committed, the table of tasks; in a terminal, a pipe and a log of JSON."""

from __future__ import annotations

import gzip
import json
import logging
import os
import pty
import subprocess
import sys
import textwrap
import time

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from streamdsl import Config, Topology, col, files, launch, memory
from streamdsl._native.event_time.clock import ManualClock
from streamdsl._native.operators.sink import SinkOperator
from streamdsl.cli.log import ColouredLines, JsonLines, Lines, has_colours
from streamdsl.cli.printing import printable
from streamdsl.cli.report import Figures, Rows
from streamdsl.runtime.sink_rows import CommittedRows

from .jobs import command, environment, write_job

FIGURES = {
    "tasks": [
        {
            "id": "0.0",
            "name": "in → out",
            "processed": 500,
            "watermark": None,
            "splits": {"t/0": 500},
            "lag": {"t/0": 7, "t/1": None},
            "rejected": 2,
            "latency_ms": {"p50": 0.5, "p95": 1.0, "p99": None},
        },
        {"id": "1.0", "name": "x" * 60, "processed": 1_234_567, "watermark": 0},
    ],
    "operators": {"window": {"late": 3}},
    "sinks": {"out": 40},
    "counters": {"VELOCITY": 4},
    "checkpoints": {"completed": 8, "failed": 1, "last_id": 9, "last_duration_ms": 12, "longest_ms": 1_500},
}

ALERTS = """
    from pathlib import Path
    from streamdsl import Topology, col, files, lit

    here = Path(__file__).parent
    topology = Topology("alerting")
    read = files(here / "in.csv", schema={"k": str, "v": int, "at": int}, rate=float((here / "rate").read_text()))
    found = topology.stream(read, timestamp="at", name="in").filter(col("v") % 50 == 0).with_columns(severity=lit("critical"))
    found.counter("FIFTIES").to(files(here / "out.jsonl"), name="alerts")
"""


def told(caplog, **options):
    caplog.set_level(logging.INFO, "streamdsl")
    Figures(lambda: FIGURES, every_s=0, **options).tell()
    return caplog.messages


def test_figures_are_told_now_and_then(caplog):
    caplog.set_level(logging.INFO, "streamdsl")
    Figures(lambda: FIGURES, every_s=3600).tell()
    assert not caplog.messages
    (said,) = told(caplog, table=False)
    assert "lag 7, 3 late, 2 bad; checkpoint 9 in 12 ms, 1 failed" in said


def test_the_table_has_a_line_for_each_task(caplog):
    first, head, one, two, checkpoints, lag, written, counted = told(caplog)
    assert "records/s in" in first and head.split()[:2] == ["task", "records"]
    assert one.split()[:5] == ["0.0", "in", "→", "out", "500"] and one.split()[-4:] == ["0.50", "1.00", "–", "–"]
    assert "…" in two and "1,234,567" in two and two.split()[-1] == "d"
    assert "8 completed, 1 failed, the longest 1,500 ms" in checkpoints
    assert lag.strip() == "lag by partition: t/0 7" and written.strip() == "written: out 40"
    assert counted.strip() == "counted: VELOCITY 4"


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.jsonl", "in.parquet", "in.arrow"])
def test_files_tell_how_far_they_have_been_read(name, tmp_path, caplog):
    rows = pa.table({"k": [f"key-{n % 7}" for n in range(60_000)], "v": list(range(60_000))})
    if name.endswith(".parquet"):
        parquet.write_table(rows, tmp_path / name, row_group_size=20_000)
    elif name.endswith(".arrow"):
        feather.write_feather(rows, tmp_path / name, chunksize=20_000)
    else:
        lines = (f"{k},{v}" if "csv" in name else json.dumps({"k": k, "v": v}) for k, v in zip(*rows.to_pydict().values(), strict=True))
        text = "\n".join(["k,v", *lines] if "csv" in name else lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    size = (tmp_path / name).stat().st_size
    shares = []

    def follow(v: int) -> bool:
        if v == 50_000:
            shares.append(run.metrics()["tasks"][0]["bytes"])
        return False

    topology = Topology("told")
    topology.stream(files(tmp_path / name, schema={"k": str, "v": int})).filter(lambda row: follow(row["v"])).to(memory("out"))
    run = topology.start()
    run.wait()
    (during,) = shares[0].values()
    assert during[1] == size and size // 4 <= during[0] <= size
    caplog.set_level(logging.INFO, "streamdsl")
    Figures(run.metrics, every_s=0, bounded=True).tell()
    assert ", 100% read;" in caplog.text


def test_how_long_the_rest_of_the_files_takes(caplog):
    caplog.set_level(logging.INFO, "streamdsl")
    found = {**FIGURES, "tasks": [{**FIGURES["tasks"][1], "bytes": {"a": (10, 100), "b": None, "c": (0, 100)}}]}
    figures = Figures(lambda: found, bounded=True)
    figures.tell_now(10.0)
    assert ", 5% read, 3 late" in caplog.text
    found["tasks"][0]["bytes"] = {"a": (100, 100), "b": None, "c": (10, 100)}
    figures.tell_now(10.0)
    assert ", 55% read, about 9 s left, 3 late" in caplog.text


def test_many_partitions_show_those_with_most_lag(caplog):
    lags = {f"t/{number}": number for number in range(100)}
    figures = {**FIGURES, "tasks": [{**FIGURES["tasks"][0], "lag": lags}]}
    caplog.set_level(logging.INFO, "streamdsl")
    Figures(lambda: figures, every_s=0).tell()
    (line,) = [message for message in caplog.messages if "lag by partition" in message]
    assert line.strip().startswith("lag by partition: t/99 99, t/98 98") and line.endswith("… and 84 more")


def test_nothing_is_asked_of_the_run_when_nobody_listens(caplog):
    caplog.set_level(logging.WARNING, "streamdsl")
    Figures(lambda: pytest.fail("asked"), every_s=0).tell()


def test_all_rows_are_seen_once_they_are_committed():
    topology = Topology("t")
    source = memory("in", {"v": int, "at": int}, [{"v": i, "at": i} for i in range(1_000)])
    topology.stream(source, timestamp="at", name="in").filter(col("v") >= 900).to(memory("out"), name="out")
    committed = CommittedRows()
    assert launch.start(topology, Config(checkpoint_interval="1h"), on_open=committed.follow).wait(60)
    count, rows = committed.take()["out"]
    assert count == 100 and rows[0] == {"v": 900, "at": 900}


def test_a_run_that_starts_again_forgets_what_was_not_committed():
    failed = []

    def fails_once(row):
        if row["v"] == 900 and not failed:
            failed.append(row)
            raise ValueError("once")

    topology = Topology("t")
    source = memory("in", {"v": int, "at": int}, [{"v": i, "at": i} for i in range(1_000)])
    topology.stream(source, timestamp="at", name="in").peek(fails_once).to(memory("out"), name="out")
    committed = CommittedRows()
    assert launch.start(topology, Config(checkpoint_interval="1h", restarts=1, batch_rows=10), on_open=committed.follow).wait(60)
    assert failed and committed.take()["out"][0] == 1_000


def test_rows_of_a_failed_checkpoint_come_with_the_next():
    committed = CommittedRows()
    operator = sink_operator()
    committed.follow([operator])
    (watcher,) = operator.watchers
    watcher.on_rows(batch(range(10)))
    watcher.on_snapshot(1)
    watcher.on_rows(batch(range(10, 30)))
    assert committed.take() == {}
    watcher.on_snapshot(2)
    watcher.on_rows(batch([99]))
    watcher.on_commit(2)
    count, rows = committed.take()["out"]
    assert count == 30 and {"v": 0} in rows and {"v": 99} not in rows and committed.take() == {}


def test_a_sample_is_shown_under_heavy_flow(caplog):
    committed, operator = CommittedRows(), sink_operator()
    committed.follow([operator])
    rows = Rows(committed, every_s=3600)
    caplog.set_level(logging.INFO, "streamdsl")
    (watcher,) = operator.watchers
    for _ in range(100):
        watcher.on_rows(batch(range(1_000)))
    watcher.on_snapshot(1)
    watcher.on_commit(1)
    rows.tell()
    assert len(caplog.messages) == 6 and caplog.messages[-1].endswith("… and 99,995 more committed")
    assert caplog.messages[0] == "out  v=0"
    rows.tell()
    assert len(caplog.messages) == 6
    watcher.on_rows(batch([7]))
    watcher.on_snapshot(2)
    watcher.on_commit(2)
    rows.tell(last=True)
    assert caplog.messages[-1] == "out  v=7"


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"a": "x\x1b[2J\ny", "b": None}, "out  a=x\\x1b[2J\\ny"),
        ({"a": 1.23456789, "b": b"\x00", "c": True}, "out  a=1.23457 b=b'\\x00' c=True"),
        ({"a": "z" * 500}, "out  a=" + "z" * 192 + "…"),
    ],
)
def test_a_row_is_one_line_that_steers_no_terminal(row, line, caplog):
    committed = CommittedRows()
    committed.commit("out", 1, [row])
    caplog.set_level(logging.INFO, "streamdsl")
    Rows(committed).tell()
    assert caplog.messages == [line]


SCHEMA = pa.schema({"v": pa.int64()})


def sink_operator():
    return SinkOperator("out", [0], SCHEMA, SCHEMA, ManualClock(), lambda: None)


def batch(values):
    return pa.RecordBatch.from_pylist([{"v": value} for value in values], schema=SCHEMA)


class Terminal:
    def isatty(self):
        return True


@pytest.mark.parametrize(("environ", "has"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)])
def test_who_says_no_colour_gets_none(environ, has):
    assert has_colours(Terminal(), environ) is has


def test_lines_have_the_colour_of_their_level_or_their_own():
    lines = ColouredLines("%(message)s")
    assert lines.format(logging.LogRecord("x", logging.INFO, "", 0, "m", (), None)) == "m"
    assert lines.format(logging.LogRecord("x", logging.WARNING, "", 0, "m", (), None)) == "\x1b[33mm\x1b[0m"
    alert = logging.LogRecord("x", logging.INFO, "", 0, "m", (), None)
    alert.colour = "31;1"
    assert lines.format(alert) == "\x1b[31;1mm\x1b[0m"


#: Clears the screen (of seven and of eight bits), turns the line, hides, ends the paragraph, is half of a pair, is a tag.
HOSTILE = "\x1b[2J\x9b2J\r\u202e\u200b\u2028\u061c\ud800\U000e0041\x7f"


@pytest.mark.parametrize("lines", [Lines(), ColouredLines(), JsonLines()], ids=lambda one: type(one).__name__)
def test_what_others_say_steers_no_terminal_and_forges_no_line(lines):
    said = f"the broker says {HOSTILE}\n2026-01-01 00:00:00,000 INFO streamdsl: all is well\n  remedy"
    line = lines.format(logging.LogRecord("x", logging.INFO, "", 0, "%s", (said,), None))
    assert not set(HOSTILE[0] + HOSTILE[4] + HOSTILE[7:]) & set(line)
    line.encode()
    assert not any(one.startswith("2026-01-01 ") for one in line.splitlines()[1:])
    if isinstance(lines, JsonLines):
        assert json.loads(line)["message"] == said


@pytest.mark.parametrize("text", [HOSTILE[1:], '{"a": "\x85\u2028"}', "é 日本 👩\u200d🚀\tx"])
def test_json_that_is_printed_stays_json(text):
    shown = printable(json.dumps(text, ensure_ascii=False))
    assert json.loads(shown) == text
    assert "\u200d" not in text or shown == json.dumps(text, ensure_ascii=False)


@pytest.fixture
def alerting(tmp_path):
    write_job(tmp_path, rows=1_000, rate=1e6)
    (tmp_path / "alerting.py").write_text(textwrap.dedent(ALERTS))
    return tmp_path


def test_a_pipe_gets_plain_lines_with_time_stamps(alerting):
    ran = command("-A", "alerting", "worker", place=alerting)
    assert ran.returncode == 0, ran.stderr
    assert "\x1b" not in ran.stderr and ran.stdout == ""
    banner = dict(line.strip().split(maxsplit=1) for line in ran.stderr.splitlines() if line.startswith("  "))
    assert "process" in banner["runs"] and "pyarrow" in banner["modules"] and "rocksdict" in banner["modules"]
    lines = [line.split(" INFO streamdsl: ") for line in ran.stderr.splitlines() if " INFO streamdsl: " in line]
    for at, _ in lines:
        time.strptime(at.split(",")[0], "%Y-%m-%d %H:%M:%S")
    text = [line for _, line in lines]
    assert sum(line.startswith("alerts  k=") and "severity=critical" in line for line in text) >= 5
    assert any("lag by" in line or "written: alerts 20" in line for line in text)
    assert any(line.strip() == "counted: FIFTIES 20" for line in text)


@pytest.mark.parametrize("options", [("--no-rows",), ("--log-format", "json"), ("-l", "WARNING")])
def test_rows_stay_out_of_the_log_where_they_are_not_wanted(options, alerting, here):
    code, _, said = here("-A", "alerting", "worker", *options)
    assert code == 0 and "severity=critical" not in said


def test_json_lines_have_rows_where_they_are_asked_for(alerting, here):
    _, _, said = here("-A", "alerting", "worker", "--log-format", "json", "--rows")
    objects = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert any("severity=critical" in one["message"] for one in objects)


@pytest.mark.parametrize(
    ("more", "options", "coloured"),
    [({}, (), True), ({}, ("--plain",), False)],
    ids=["terminal", "plain"],
)
def test_a_terminal_has_colours_unless_somebody_says_no(more, options, coloured, alerting):
    kept = {name: value for name, value in environment(alerting).items() if name != "NO_COLOR"}
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamdsl", "-A", "alerting", "worker", *options],
            cwd=alerting,
            env={**kept, "TERM": "xterm", **more},
            stdout=subprocess.PIPE,
            stderr=slave,
        )
        os.close(slave)
        shown = b""
        while True:
            try:
                got = os.read(master, 65_536)
            except OSError:  # Linux: the other end is closed
                break
            if not got:
                break
            shown += got
        assert process.wait(60) == 0
        process.stdout.close()
    finally:
        os.close(master)
    assert b"severity=critical" in shown and (b"\x1b[31;1m" in shown) is coloured
