"""Savepoints: whole, their own, and restored into the same topology or another."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from streamdsl import Config, files
from streamdsl.checkpoint.recovery import find_checkpoint
from streamdsl.checkpoint.savepoint import SavepointRequest, find_savepoint, write_savepoint
from streamdsl.checkpoint.storage import DirectoryStorage
from streamdsl.errors import StateError
from streamdsl.runtime.environment import DirectoryEnvironment
from streamdsl.runtime.job import Job
from tests.held import Held
from tests.trust import corruption, jobs
from tests.trust.filesystems import FailingFileSystem


@pytest.fixture(params=["memory", "rocksdb"])
def made(request, tmp_path):
    """A stage whose job was stopped in the middle, with a savepoint, and the output of an undisturbed one."""
    (tmp_path / "reference").mkdir()
    reference = jobs.Stage(tmp_path / "reference", request.param, source=tmp_path / "in.jsonl")
    job = reference.job()
    job.open()
    jobs.finish(job)
    (tmp_path / "place").mkdir()
    stage = jobs.Stage(tmp_path / "place", request.param, source=tmp_path / "in.jsonl", journal_bytes=corruption.JOURNAL_BYTES)
    stage.expected = reference.output()
    stage.savepoint = tmp_path / "savepoint"
    job = stage.job()
    job.open()
    for _ in range(3):
        jobs.step(job, 1)
        jobs.checkpoint(job)
    wanted = SavepointRequest(stage.savepoint)
    job.listener.on_wanted(wanted)
    while not wanted.done.is_set():
        jobs.step(job, 1)
        job.control_step()
    assert wanted.error is None
    stage.length = (stage.directory / "out.jsonl").stat().st_size
    jobs.step(job, 3)
    job.abandon()
    return stage


def restored(stage, fresh, *, drop_state=(), **shape):
    plan = stage.planned(**shape) if shape else stage.plan
    config = Config(**stage.settings, drop_state=drop_state)
    return Job(plan, config, DirectoryEnvironment(fresh, stage.backend, stage.savepoint), clock=stage.clock)


def contents(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_it_goes_on_where_the_savepoint_stands(made, tmp_path):
    shutil.rmtree(made.state)  # it is its own
    before = contents(made.savepoint)
    job = restored(made, tmp_path / "fresh")
    job.open()
    jobs.finish(job)
    assert made.output() == made.expected
    assert contents(made.savepoint) == before
    assert all(p.stat().st_nlink == 1 and p.stat().st_mode & 0o777 == 0o600 for p in made.savepoint.rglob("*") if p.is_file())


def test_it_can_be_restored_again_and_again_and_ids_go_on(made, tmp_path):
    for fresh in ("a", "b"):
        job = restored(made, tmp_path / fresh)
        job.open()
        assert jobs.checkpoint(job) == find_savepoint(made.savepoint, "trust").id + 1
        job.abandon()
        # A start in the same directory goes on from its own checkpoint.
        job = restored(made, tmp_path / fresh)
        job.open()
        assert job.environment.completed == [find_savepoint(made.savepoint, "trust").id + 1]
        jobs.finish(job)
        assert made.output() == made.expected


def test_retention_does_not_touch_it(made, tmp_path):
    before = contents(made.savepoint)
    job = made.job()
    job.open()
    for _ in range(4):
        jobs.checkpoint(job)
    jobs.finish(job)
    assert contents(made.savepoint) == before


def test_an_operator_that_is_new_begins_empty(made, tmp_path):
    job = restored(made, tmp_path / "fresh", extra=True)
    job.open()
    assert job.state("quiet")
    jobs.finish(job)
    kept = sorted(line for line in made.output() if '"more"' not in line)
    assert kept == sorted(made.expected)
    assert any('"more"' in line for line in made.output())


def test_an_operator_that_is_gone_is_refused_unless_it_is_named(made, tmp_path):
    before = (made.directory / "out.jsonl").read_bytes()
    with pytest.raises(StateError, match="recent") as caught:
        restored(made, tmp_path / "fresh", frame=False).open()
    assert "drop_state" in caught.value.remedy
    assert (made.directory / "out.jsonl").read_bytes() == before
    job = restored(made, tmp_path / "fresh", frame=False, drop_state=["recent"])
    job.open()
    jobs.finish(job)
    assert b'"mean"' not in (made.directory / "out.jsonl").read_bytes()[made.length :]
    without_means = sorted(line for line in made.expected if '"mean"' not in line)
    assert sorted(line for line in made.output() if '"mean"' not in line) == without_means


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_a_damaged_savepoint_is_refused_by_name(made, tmp_path, damage):
    (path,) = made.savepoint.rglob("journal")
    data = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(StateError, match=path.name) as caught:
        restored(made, tmp_path / "fresh").open()
    assert caught.value.remedy


def test_what_is_no_savepoint_is_refused(made, tmp_path):
    made.savepoint = tmp_path / "nothing"
    with pytest.raises(StateError, match="is not a savepoint"):
        restored(made, tmp_path / "fresh").open()


def test_a_savepoint_is_a_new_directory(made):
    found = find_savepoint(made.savepoint, "trust")
    storage = DirectoryStorage(made.savepoint)
    with pytest.raises(StateError, match="exists") as caught:
        write_savepoint(storage, found.manifest, made.savepoint)
    assert caught.value.remedy
    assert find_savepoint(made.savepoint, "trust").id == found.id


def test_every_call_may_fail_and_leaves_nothing(made, tmp_path):
    storage = DirectoryStorage(made.savepoint)
    manifest = find_checkpoint(storage, "trust").manifest
    counted = FailingFileSystem()
    write_savepoint(storage, manifest, tmp_path / "counted", counted)
    assert len(counted.calls) > 8
    for k in range(len(counted.calls)):
        with pytest.raises(StateError, match=r"cannot be written|cannot be read"):
            write_savepoint(storage, manifest, tmp_path / "copy", FailingFileSystem(lambda n, _, k=k: errno.ENOSPC if n == k else 0))
        assert not (tmp_path / "copy").exists()


def whatever_the_pace(path):
    """The rows of a file, without what depends on how far the watermark has come: how much a timer has seen, beyond its own time."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted((row["kind"], row["key"], row["at"], None if row["kind"] == "quiet" else row["value"]) for row in rows)


def test_through_the_public_door(tmp_path):
    jobs.write_input(tmp_path / "in.jsonl", rows=4000)
    topology = jobs.topology(tmp_path, source=tmp_path / "in.jsonl")
    run = topology.start(Config(state_dir=tmp_path / "whole"))
    run.wait()
    expected = whatever_the_pace(tmp_path / "out.jsonl")
    assert {kind for kind, *_ in expected} == {"sum", "third", "quiet", "mean"}
    with pytest.raises(StateError, match="has ended"):
        run.savepoint(tmp_path / "late")
    os.unlink(tmp_path / "out.jsonl")
    waiting = Held(files(tmp_path / "in.jsonl", jobs.SCHEMA, name="in"), rows=2000)
    run = topology.start(Config(state_dir=tmp_path / "state"), bind={"in": waiting})
    path = run.savepoint(tmp_path / "savepoint")
    assert path == str(tmp_path / "savepoint")
    with pytest.raises(StateError, match="exists"):
        run.savepoint(path)
    run.stop()
    run.wait()
    with pytest.raises(StateError, match="has checkpoints already") as caught:
        topology.start(Config(state_dir=tmp_path / "state", restore_from=path))
    assert caught.value.remedy
    topology.run(Config(state_dir=tmp_path / "fresh", restore_from=path, parallelism=2))
    assert whatever_the_pace(tmp_path / "out.jsonl") == expected
