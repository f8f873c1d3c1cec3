"""Long work on checkpoints tells how far it is; short work tells nothing."""

from __future__ import annotations

import logging

import pytest

from streamdsl import Config, Topology, col, memory
from streamdsl.checkpoint import progress
from streamdsl.checkpoint.progress import Progress
from streamdsl.cli.report import Figures


class Clock:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def worked(caplog, steps, step_s, total=100 << 20):
    clock = Clock()
    caplog.set_level(logging.INFO, "streamdsl")
    with Progress("work", total, clock) as told:
        for _ in range(steps):
            clock.at += step_s
            told.add(total // steps)
    return caplog.messages


def test_short_work_is_silent(caplog):
    assert worked(caplog, 10, 0.1) == []


def test_long_work_is_told_of_now_and_then_and_at_its_end(caplog):
    said = worked(caplog, 40, 0.25)
    assert said[0] == "work: 20 of 100 MiB (20%), 10 MiB/s, about 8 s left" and said[-1] == "work: done in 10 s" and len(said) == 3


def test_work_that_fails_is_not_done(caplog):
    clock = Clock()
    caplog.set_level(logging.INFO, "streamdsl")
    with pytest.raises(ValueError), Progress("work", 0, clock) as told:
        clock.at += 3
        told.add(1)
        raise ValueError
    assert caplog.messages == ["work: 0 of 0 MiB, 0 MiB/s"]


def test_restores_savepoints_and_object_stores_tell(caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_S", 0.0)

    def topology():
        made = Topology("sums")
        rows = memory("in", {"k": str, "v": int}, [{"k": f"k{i % 50}", "v": i} for i in range(2_000)])
        made.stream(rows).key_by("k").aggregate(total=col("v").sum()).to(memory("out"))
        return made

    caplog.set_level(logging.INFO, "streamdsl")
    url = f"memory://{tmp_path.name}/job"
    config = {"state_dir": tmp_path / "state", "checkpoint_store": url}
    with topology().start(Config(**config)) as run:
        run.wait()
    assert any("is sent to memory://" in line for line in caplog.messages)
    caplog.clear()
    topology().run(Config(state_dir=tmp_path / "elsewhere", checkpoint_store=url))
    assert any("is brought from memory://" in line and "(100%)" in line for line in caplog.messages)
    assert any("is verified" in line for line in caplog.messages)


def test_a_savepoint_tells(caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    topology = Topology("sums")
    topology.every("1h").key_by().count().to(memory("out"))
    caplog.set_level(logging.INFO, "streamdsl")
    with topology.start(Config(state_dir=tmp_path / "state")) as run:
        run.savepoint(tmp_path / "savepoint")
    assert any("is copied to" in line for line in caplog.messages)


def test_a_bounded_read_says_how_much_is_left(caplog):
    figures = {
        "tasks": [{"id": "0.0", "name": "in", "processed": 750, "watermark": None, "splits": {"t/0": 750}, "lag": {"t/0": 250}}],
        "operators": {},
        "counters": {},
        "sinks": {"out": 1},
        "checkpoints": {"completed": 0, "failed": 0, "last_id": None, "last_duration_ms": None, "longest_ms": 0},
    }
    caplog.set_level(logging.INFO, "streamdsl")
    Figures(lambda: figures, every_s=0, bounded=True).tell_now(10.0)
    assert "lag 250, 75% read, about 3 s left" in caplog.messages[0]
    caplog.clear()
    Figures(lambda: figures, every_s=0).tell_now(10.0)
    assert "75%" not in caplog.messages[0]
