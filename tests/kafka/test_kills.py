"""Processes that die, and one that comes back too late: each alert is seen once (many kills: ``make crash-kafka``)."""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from examples.fraud import data
from tests.crash.campaign import Settings, kill
from tests.kafka import crash

pytestmark = pytest.mark.crash


def test_alerts_are_seen_once_whoever_is_killed(mortal_broker, topic_name, tmp_path):
    report, broker_kills = crash.campaign(
        3, 1, 11, tmp_path, mortal_broker, 8_000, 1_000, source=f"{topic_name}-transactions", broker_life_s=(3.0, 5.0)
    )
    assert not report.violations, str(report)
    assert (report.kills, broker_kills) == (3, 1)


def test_who_was_stopped_and_replaced_leaves_by_itself(broker, topic_name, tmp_path):
    """It slept while another took over with a copy of its state: it ends, nothing of it is seen, and the other is not disturbed."""
    source = f"{topic_name}-transactions"
    sample = data.generate(tmp_path / "data", 12_000, 1_200, 5)
    crash.fill(broker.bootstrap, sample, source)
    run = crash.KafkaRound(_made(tmp_path / "first"), random.Random(5), broker.bootstrap, sample, 1_500, source)
    other = crash.KafkaRound(_made(tmp_path / "second"), random.Random(6), broker.bootstrap, sample, 1_500, source)
    other.sink = run.sink
    sleeper = run.start(Settings())
    replacement = None
    try:
        _checkpoints(run, sleeper, 5)
        _stop(sleeper)
        shutil.copytree(run.state, other.state)
        replacement = other.start(Settings())
        _checkpoints(other, replacement, 5)
        os.killpg(sleeper.pid, signal.SIGCONT)
        assert sleeper.wait(30) == 1
        assert replacement.poll() is None, "the replacement is to run while the other wakes"
        assert replacement.wait(60) == 0
    finally:
        for process in filter(None, (sleeper, replacement)):
            kill(process)
        run.close()
        other.close()
    said = (run.directory / "log.txt").read_text()
    assert "started again" not in said, said
    assert "another worker runs this job now, and this one has been fenced off" in said.partition("error: ")[2], said
    assert "fenced" not in (other.directory / "log.txt").read_text()
    assert other.wrong() == ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop it, and wait until its last thread stands: the signal is sent at once and heard a little later."""
    os.killpg(process.pid, signal.SIGSTOP)
    until = time.monotonic() + 10
    while {_state_of(thread) for thread in pathlib.Path(f"/proc/{process.pid}/task").iterdir()} != {"T"}:
        assert time.monotonic() < until, "it does not stop"
        time.sleep(0.01)


def _state_of(thread: pathlib.Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def _checkpoints(run: crash.KafkaRound, process: subprocess.Popen[bytes], more: int) -> None:
    """Wait until the process has taken so many."""
    known, until = run.checkpoints()[0], time.monotonic() + 30
    taken: set[str] = set()
    while len(taken) < more:
        assert process.poll() is None and time.monotonic() < until, f"it took the checkpoints {taken} alone"
        time.sleep(0.02)
        taken |= run.checkpoints()[0] - known


def _made(directory: pathlib.Path) -> pathlib.Path:
    directory.mkdir()
    return directory
