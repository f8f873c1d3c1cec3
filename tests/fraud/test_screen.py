"""What is shown, without a run behind it."""

from __future__ import annotations

import io

import pyarrow as pa

from examples.fraud.records import Planted
from examples.fraud.screen import Screen, ScreenSink
from streamdsl.connectors.memory import memory
from streamdsl.schema import Schema

SCHEMA = Schema.of({"transaction_id": "int64", "account_number": "string", "rule": "string", "severity": "string", "detail": "string"})


class FakeRun:
    """Ends after some waits."""

    def __init__(self, waits: int = 2, interrupt: bool = False) -> None:
        self.waits = waits
        self.interrupt = interrupt
        self.stopped = False

    def wait(self, timeout=None):
        if self.interrupt and not self.stopped:
            raise KeyboardInterrupt
        self.waits -= 1
        return self.waits < 0

    def stop(self):
        self.stopped = True

    def metrics(self):
        tasks = [
            {"id": "0.0", "name": "transactions → alerts", "processed": 1000, "watermark": 90_000, "splits": {"a": 1000}},
            {"id": "1.0", "name": "late", "processed": 0, "watermark": 30_000},
            {"id": "1.1", "name": "new", "processed": 0, "watermark": None},
        ]
        checkpoints = {"completed": 3, "failed": 1, "last_duration_ms": None}
        return {"tasks": tasks, "checkpoints": checkpoints, "latency_ms": {"p50": 0.5, "p99": None}}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def rows(*alerts):
    return pa.RecordBatch.from_pylist(
        [dict(zip(SCHEMA.names, (*alert, "high", "detail"), strict=True)) for alert in alerts], schema=SCHEMA.to_arrow()
    )


def written(sink, *alerts, state=None):
    writer = sink.open_writer(SCHEMA, (), 0, 1, state)
    batch = rows(*alerts)
    writer.write(batch, pa.array([0] * batch.num_rows, pa.int64()))
    return writer


def test_plain_lines_when_it_is_no_terminal():
    sink, out = ScreenSink(None, remember=True), io.StringIO()
    written(sink, *[(i, "CL00000001", "VELOCITY") for i in range(8)])
    screen = Screen(FakeRun(), sink.board, out=out)
    assert screen.follow()
    screen.totals()
    text = out.getvalue()
    assert "\x1b" not in text
    assert text.count("VELOCITY       CL00000001") == 5
    assert "… and 3 more alerts" in text
    assert "1,000 transactions in" in text
    assert "watermark lag 60.0 s" in text
    assert "3 completed, 1 failed, the last took –" in text
    assert "alerts: VELOCITY 8" in text


def test_a_terminal_has_a_panel_that_moves(monkeypatch):
    sink, out = ScreenSink(None, remember=False), Terminal()
    written(sink, (1, "CL00000001\x1b[2J", "VELOCITY"))
    assert Screen(FakeRun(3), sink.board, out=out).follow()
    text = out.getvalue()
    assert "\x1b[7F\x1b[J" in text
    assert "\x1b[2J" not in text


def test_an_interrupt_stops_the_run():
    sink, out, run = ScreenSink(None, remember=False), io.StringIO(), FakeRun(0, interrupt=True)
    assert not Screen(run, sink.board, out=out).follow()
    assert run.stopped


def test_quiet_shows_the_totals_only():
    sink, out = ScreenSink(None, remember=False), io.StringIO()
    written(sink, (1, "CL00000001", "VELOCITY"))
    screen = Screen(FakeRun(), sink.board, quiet=True, out=out)
    screen.follow()
    assert out.getvalue() == ""
    screen.totals()
    assert len(out.getvalue().splitlines()) == 4


def test_the_sink_hands_through_and_counts_over_restarts():
    inner = memory("alerts", SCHEMA)
    sink = ScreenSink(inner, remember=True)
    writer = written(sink, (1, "a", "VELOCITY"), (2, "a", "VELOCITY"))
    state = writer.snapshot(1)
    writer.write(rows((3, "a", "GEO_IMPOSSIBLE")), pa.array([0], pa.int64()))
    assert sink.board.by_rule() == {"GEO_IMPOSSIBLE": 1, "VELOCITY": 2}
    written(sink, (4, "b", "VELOCITY"), state=state)
    assert sink.board.by_rule() == {"VELOCITY": 3}
    assert [row["transaction_id"] for row in inner.rows()] == [1, 2, 4]


def test_precision_and_recall():
    sink, out = ScreenSink(None, remember=True), io.StringIO()
    written(sink, (1, "a", "VELOCITY"), (2, "a", "VELOCITY"), (9, "b", "VELOCITY"))
    truth = {1: Planted(0, "VELOCITY"), 2: Planted(0, "VELOCITY"), 5: Planted(1, "AMOUNT_ANOMALY")}
    Screen(FakeRun(), sink.board, out=out).score(truth, None)
    assert "precision 66.7%, recall 50.0% of 2 incidents" in out.getvalue()
