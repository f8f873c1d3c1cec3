"""status, stop, drain, savepoint and reset: commands that speak to a worker by its state directory."""

from __future__ import annotations

import json
import os

import pytest

from streamdsl.cli.door import Door, ask, owner_of
from streamdsl.errors import StateError

from .jobs import worker, write_job

APP = ("-A", "counting")


def state(place):
    return place / "state-home" / "streamdsl" / "counting"


@pytest.fixture
def running(tmp_path):
    """A worker that has taken its first checkpoint."""
    write_job(tmp_path)
    with worker(*APP, "worker", "-l", "DEBUG", "--checkpoint-interval", "100ms", place=tmp_path) as process:
        process.until("checkpoint 1 took")
        yield process, tmp_path


def test_a_worker_tells_how_it_is_makes_a_savepoint_and_stops(running, here):
    process, place = running
    code, out, _ = here(*APP, "status", "--json")
    said = json.loads(out)
    assert code == 0 and said["process"] == process.process.pid and said["job"] == "counting" and said["phase"] == "running"
    assert said["records_in"] > 0 and said["last_checkpoint"] >= 1
    code, out, _ = here("status", "--state-dir", state(place))
    assert code == 0 and "running           yes" in out
    code, out, _ = here(*APP, "savepoint", "save")
    assert code == 0 and f"savepoint {place / 'save'}" in out
    code, _, err = here(*APP, "savepoint", "save")
    assert code == 1 and "exists" in err
    code, _, err = here(*APP, "reset", "--yes")
    assert code == 1 and "a worker runs" in err
    code, stopped, _ = here(*APP, "stop")
    assert code == 0 and "stopped with checkpoint" in stopped
    code, log = process.ended()
    assert code == 0 and "a last checkpoint is taken" in log
    code, out, _ = here(*APP, "status", "--json")
    said = json.loads(out)
    assert code == 1 and said["running"] is False and f"checkpoint {said['last_checkpoint']}" in stopped
    for gone in ("stop", "drain"):
        assert "no worker runs" in here(*APP, gone)[2]
    assert not list((state(place) / "control").iterdir())


def test_a_drained_job_has_finished(running, here):
    process, _ = running
    code, out, _ = here(*APP, "drain")
    assert code == 0 and "finished with checkpoint" in out
    assert process.ended()[0] == 0


def test_reset_asks_and_forgets(tmp_path, here, monkeypatch):
    write_job(tmp_path, rows=10, rate=10_000)
    assert here(*APP, "worker")[0] == 0
    monkeypatch.setattr("click.confirm", lambda *text, **options: False)
    code, out, _ = here("reset", "--state-dir", state(tmp_path))
    assert code == 1 and state(tmp_path).exists() and "nothing was removed" in out
    assert here(*APP, "reset", "--yes")[0] == 0 and not state(tmp_path).exists()
    assert "not a state directory" in here(*APP, "reset", "--yes")[2]


def test_the_door_is_closed_to_others_and_survives_what_is_put_there(tmp_path):
    (tmp_path / "LOCK").write_text(f"{os.getpid()}\n")
    door = Door(tmp_path, {"status": lambda asked: {"good": asked["more"]}})
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o700
    (tmp_path / "control" / "bad.request").write_text("{")
    (tmp_path / "control" / "odd.request").write_text('["status"]')
    door.look()
    assert {path.name for path in (tmp_path / "control").iterdir()} == {"bad.answer", "odd.answer"}
    with pytest.raises(StateError, match="has not answered"):
        ask(tmp_path, "status", timeout_s=0.1, more=1)
    (tmp_path / "LOCK").write_text("")
    assert owner_of(tmp_path) is None
    with pytest.raises(StateError, match="no worker runs"):
        ask(tmp_path, "status", timeout_s=1)


def test_a_process_that_takes_no_commands_is_named(tmp_path):
    (tmp_path / "LOCK").write_text(f"{os.getpid()}\n")
    with pytest.raises(StateError, match=f"process {os.getpid()} .* takes no commands"):
        ask(tmp_path, "status", timeout_s=1)
