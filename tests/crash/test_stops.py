"""The fraud example, stopped by a signal and gone on with: the alerts are the oracle's, each once."""

from __future__ import annotations

import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import campaign

from examples.fraud import data


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return data.generate(tmp_path_factory.mktemp("data"), 8_000, 800, 3)


def started(place, sample):
    """Start the example; return it once a checkpoint has completed."""
    run = campaign.FraudRound(place, random.Random(1), sample, 2_000)
    process = run.start()
    while not run.checkpoints()[0]:
        assert process.poll() is None, (place / "log.txt").read_text()
        time.sleep(0.005)
    return run, process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_checkpoint_and_the_next_run_goes_on(tmp_path, sample, number):
    run, process = started(tmp_path, sample)
    process.send_signal(number)
    try:
        assert process.wait(60) == 0
        text = (tmp_path / "log.txt").read_text()
        assert "stopping: a last checkpoint is taken" in text and "Traceback" not in text
        begun = run.checkpoints()[1]
        assert not begun, "the last checkpoint has completed"
        run.finish()
    finally:
        campaign.kill(process)
        run.close()
    assert run.wrong() == ""
    assert "had finished: nothing to do" in (tmp_path / "log.txt").read_text()


def test_signals_at_any_moment(tmp_path, sample):
    """Also while modules are imported and state is restored; two signals leave at once, more change nothing."""
    chance = random.Random(5)
    run = campaign.FraudRound(tmp_path, chance, sample, 2_000)
    try:
        for attempt in range(9):
            process = run.start()
            try:
                process.wait(chance.uniform(0.3, 1.2))
            except subprocess.TimeoutExpired:
                for _ in range(1 + attempt % 3):
                    process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
                while attempt % 3 == 2 and process.poll() is None:
                    time.sleep(0.002)
                    process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
                process.wait(60)
            finally:
                campaign.kill(process)
            assert process.returncode in (0, 130, -signal.SIGINT, -signal.SIGTERM)
        run.finish()
    finally:
        run.close()
    assert run.wrong() == ""
